//! The start-up choice between reactors: tries what io_uring must be able to do and says why. Makes no lasting ring.

use std::str::FromStr;

use crate::error::RingError;
use crate::reactor::ReactorKind;

/// What `--reactor` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReactorChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

impl FromStr for ReactorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ReactorChoice, String> {
        match text {
            "auto" => Ok(ReactorChoice::Auto),
            "uring" => Ok(ReactorChoice::Uring),
            "epoll" => Ok(ReactorChoice::Epoll),
            other => Err(format!("unknown reactor {other:?}: use auto, uring or epoll")),
        }
    }
}

/// The outcome of [`probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The reactor to make.
    pub kind: ReactorKind,
    /// Which was picked and why: one sentence for the log.
    pub reason: String,
}

/// Picks a reactor. An error only when io_uring is forced and does not work here.
pub fn probe(choice: ReactorChoice) -> Result<Probed, RingError> {
    if choice == ReactorChoice::Epoll {
        return Ok(Probed { kind: ReactorKind::Epoll, reason: "epoll, because it was asked for".to_owned() });
    }
    match (crate::uring::check_kernel(), choice) {
        (Ok(()), _) => Ok(Probed {
            kind: ReactorKind::Uring,
            reason: "io_uring, because this kernel has every operation it needs".to_owned(),
        }),
        (Err(why), ReactorChoice::Uring) => Err(RingError::Config(format!("io_uring does not work here: {why}"))),
        (Err(why), _) => Ok(Probed {
            kind: ReactorKind::Epoll,
            reason: format!("epoll, because io_uring does not work here: {why}"),
        }),
    }
}

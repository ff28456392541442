//! What clients say that are closed and opened again: nothing, or messages that come back. When they are closed is others'.

use super::{Echo, Idle};
use crate::driver::Driver;
use crate::outbound::Outbound;
use crate::traffic::Measured;

/// One or the other.
#[derive(Debug)]
pub(crate) enum Talk {
    /// Pings are answered by the engine.
    Idle(Box<Idle>),
    /// Messages to an echo server.
    Echo(Box<Echo>),
}

impl Talk {
    pub(super) fn driver(&self) -> &dyn Driver {
        match self {
            Talk::Idle(idle) => idle.as_ref(),
            Talk::Echo(echo) => &**echo,
        }
    }

    pub(super) fn driver_mut(&mut self) -> &mut dyn Driver {
        match self {
            Talk::Idle(idle) => idle.as_mut(),
            Talk::Echo(echo) => &mut **echo,
        }
    }

    /// One message beyond those of the load.
    pub(super) fn say(&mut self, out: &mut Outbound, client: u32, now_ns: u64) {
        if let Talk::Echo(echo) = self {
            echo.say(out, client, now_ns);
        }
    }

    /// Gives up messages of clients without a connection; how many.
    pub(super) fn abandon(&mut self, out: &Outbound) -> u64 {
        match self {
            Talk::Idle(_) => 0,
            Talk::Echo(echo) => echo.abandon(out),
        }
    }

    pub(super) fn finish(self) -> Option<Measured> {
        match self {
            Talk::Idle(_) => None,
            Talk::Echo(echo) => Some(echo.finish()),
        }
    }
}

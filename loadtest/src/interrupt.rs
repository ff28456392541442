//! Ctrl-C and SIGTERM: the first ends a run early, the second the process. Owns the signals; how a run ends is its engine's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// True while the next signal ends the process: before a run is under way, and once it was asked to end.
static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a signal ends the run that is under way, and the process where there is none.
///
/// # Errors
/// The system does not let signals be handled.
pub fn listen() -> io::Result<()> {
    let asked = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        // In this order: what the first signal sets, only the second sees.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    let _ = ASKED.set(asked);
    Ok(())
}

/// A run is under way that looks at [`asked`].
pub(crate) fn arm() {
    if let Some(asked) = ASKED.get() {
        asked.store(false, Ordering::Relaxed);
    }
}

/// Whether the run is to end; never where nobody listens.
pub(crate) fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

//! What control as a whole is doing: one small value that the admin listener and the HTTP API look at. Decides nothing.

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    #[default]
    Running,
    /// Sessions are being closed; nothing new is accepted.
    Draining,
    /// Everything ends now.
    Stopping,
}

/// State of the parts that a handshake or a send depends on. There is none before the downstream consumer is positioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The bus takes messages.
    pub(crate) bus_healthy: bool,
    /// Seconds senders are asked to wait while persistence lags; 0 when it does not.
    pub(crate) slow_down_s: u32,
    /// See [`Phase`].
    pub(crate) phase: Phase,
}

impl Status {
    /// Whether new sessions are taken.
    pub(crate) fn is_accepting(&self) -> bool {
        self.bus_healthy && self.phase == Phase::Running
    }
}

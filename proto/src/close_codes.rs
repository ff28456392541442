//! Close codes of a WebSocket connection (spec 02 §12): numbers, reasons, and what a client does next.
//!
//! Owns the table. Never closes anything.

/// How a client comes back after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// It does not.
    Never,
    /// With its usual back-off, or after `reconnectAfterMs` when told.
    Yes,
    /// One try: the same protocol error again means a broken client.
    Once,
    /// Not before this many seconds.
    AfterSeconds(u32),
    /// After it refreshed its token.
    AfterRefresh,
    /// At once, then it fetches what it missed.
    ThenResync,
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client asked.
    Normal = 1000,
    /// Drain or deploy.
    GoingAway = 1001,
    /// RFC 6455 violated.
    ProtocolError = 1002,
    /// A binary frame.
    UnsupportedData = 1003,
    /// Text that is not UTF-8.
    InvalidUtf8 = 1007,
    /// Flood or repeated garbage.
    PolicyViolation = 1008,
    /// A frame over the size limit.
    MessageTooBig = 1009,
    /// Something went wrong here.
    InternalError = 1011,
    /// Overloaded.
    TryAgainLater = 1013,
    /// Token expired, invalid or revoked.
    TokenInvalid = 4001,
    /// A newer connection took over.
    Replaced = 4002,
    /// The account is disabled.
    AccountDisabled = 4003,
    /// Logged out, or forced offline.
    LoggedOut = 4004,
    /// Nothing was heard for too long.
    HeartbeatTimeout = 4008,
    /// The send queue overflowed.
    SlowConsumer = 4009,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [CloseCode; 15] = [
        CloseCode::Normal,
        CloseCode::GoingAway,
        CloseCode::ProtocolError,
        CloseCode::UnsupportedData,
        CloseCode::InvalidUtf8,
        CloseCode::PolicyViolation,
        CloseCode::MessageTooBig,
        CloseCode::InternalError,
        CloseCode::TryAgainLater,
        CloseCode::TokenInvalid,
        CloseCode::Replaced,
        CloseCode::AccountDisabled,
        CloseCode::LoggedOut,
        CloseCode::HeartbeatTimeout,
        CloseCode::SlowConsumer,
    ];

    /// Number in the close frame.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number; `None` for numbers this server never sends.
    pub fn from_number(number: u16) -> Option<CloseCode> {
        Self::ALL.into_iter().find(|c| c.number() == number)
    }

    /// Reason text of the close frame, at most 123 bytes (RFC 6455 §5.5).
    pub const fn reason(self) -> &'static str {
        match self {
            CloseCode::Normal => "bye",
            CloseCode::GoingAway => "server going away",
            CloseCode::ProtocolError => "protocol error",
            CloseCode::UnsupportedData => "binary frames are not accepted",
            CloseCode::InvalidUtf8 => "text is not UTF-8",
            CloseCode::PolicyViolation => "too many bad or too many frames",
            CloseCode::MessageTooBig => "frame too large",
            CloseCode::InternalError => "internal error",
            CloseCode::TryAgainLater => "overloaded, try later",
            CloseCode::TokenInvalid => "token expired, invalid or revoked",
            CloseCode::Replaced => "replaced by a newer connection",
            CloseCode::AccountDisabled => "account disabled",
            CloseCode::LoggedOut => "logged out",
            CloseCode::HeartbeatTimeout => "heartbeat timeout",
            CloseCode::SlowConsumer => "slow consumer, queue overflow",
        }
    }

    /// What a client does next.
    pub const fn reconnect(self) -> Reconnect {
        match self {
            CloseCode::Normal
            | CloseCode::UnsupportedData
            | CloseCode::InvalidUtf8
            | CloseCode::Replaced
            | CloseCode::AccountDisabled
            | CloseCode::LoggedOut => Reconnect::Never,
            CloseCode::GoingAway
            | CloseCode::MessageTooBig
            | CloseCode::InternalError
            | CloseCode::TryAgainLater
            | CloseCode::HeartbeatTimeout => Reconnect::Yes,
            CloseCode::ProtocolError => Reconnect::Once,
            CloseCode::PolicyViolation => Reconnect::AfterSeconds(30),
            CloseCode::TokenInvalid => Reconnect::AfterRefresh,
            CloseCode::SlowConsumer => Reconnect::ThenResync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_spec_and_come_back() {
        let numbers: Vec<u16> = CloseCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 4001, 4002, 4003, 4004, 4008, 4009]);
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number()), Some(code));
            assert!(code.reason().len() <= 123);
        }
        assert_eq!(CloseCode::from_number(1005), None);
        assert_eq!(CloseCode::from_number(4000), None);
    }

    #[test]
    fn who_may_come_back() {
        use CloseCode::*;
        let never: Vec<CloseCode> = CloseCode::ALL.into_iter().filter(|c| c.reconnect() == Reconnect::Never).collect();
        assert_eq!(never, [Normal, UnsupportedData, InvalidUtf8, Replaced, AccountDisabled, LoggedOut]);
    }
}

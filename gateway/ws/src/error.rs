//! Why a peer's frames are refused, and the close code that says so. Never an I/O or handshake error.

/// A violation of RFC 6455 or of a limit by the peer. The connection must be failed: send a close frame with
/// [`close_code`](Self::close_code), then close the transport; the decoder delivers nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 set although no extension was negotiated (section 5.2).
    #[error("reserved bit set without a negotiated extension")]
    ReservedBits,
    /// Opcode 3-7 or 11-15 (section 5.2).
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A control frame without FIN (section 5.4).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame with more than 125 bytes (section 5.5).
    #[error("control frame longer than 125 bytes")]
    LongControl,
    /// A length not in its shortest form (section 5.2).
    #[error("payload length not minimally encoded")]
    NonMinimalLength,
    /// The most significant bit of a 64-bit length is set (section 5.2).
    #[error("payload length has its highest bit set")]
    LengthOverflow,
    /// A client's frame without mask (section 5.1).
    #[error("client frame is not masked")]
    Unmasked,
    /// A server's frame with mask (section 5.1).
    #[error("server frame is masked")]
    Masked,
    /// A continuation frame while no message is open (section 5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new data frame while a fragmented message is open (section 5.4).
    #[error("data frame inside a fragmented message")]
    ExpectedContinuation,
    /// A close payload of one byte (section 5.5.1).
    #[error("close frame with a one-byte payload")]
    TruncatedCloseCode,
    /// A close code that may not stand in a frame (section 7.4).
    #[error("close code not allowed in a frame")]
    InvalidCloseCode(u16),
    /// A text message or close reason that is not UTF-8 (sections 8.1 and 5.5.1).
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A message longer than [`Limits::message_bytes_max`](crate::Limits::message_bytes_max).
    #[error("message too large")]
    MessageTooLarge,
}

impl ProtocolError {
    /// The close code to fail the connection with: 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::MessageTooLarge => 1009,
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::Unmasked
            | Self::Masked
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode(_) => 1002,
        }
    }

    /// A short English reason for the close frame, well under the 123 bytes that fit.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::LongControl => "control frame too long",
            Self::NonMinimalLength => "length not minimal",
            Self::LengthOverflow => "invalid length",
            Self::Unmasked => "frame not masked",
            Self::Masked => "frame masked",
            Self::UnexpectedContinuation => "unexpected continuation",
            Self::ExpectedContinuation => "expected continuation",
            Self::TruncatedCloseCode => "truncated close code",
            Self::InvalidCloseCode(_) => "invalid close code",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::MessageTooLarge => "message too large",
        }
    }
}

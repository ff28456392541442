//! Names of things in a reactor: connections, listeners, and the 64-bit tokens that operations carry through the
//! kernel. Never resolves a name: whether it is still valid is the slab's business.

/// A connection of one reactor: a dense slot number and the generation that makes a reused slot distinguishable.
///
/// Slots run from 0 to `Reactor::capacity() - 1`, so a caller keeps its own state in a plain array indexed by
/// `slot` and compares the generation. Two reactors hand out equal ids; an id means nothing without its reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the slot table, below [`SLOTS_MAX`].
    pub slot: u32,
    /// How often the slot had been freed when this connection took it; wraps.
    pub generation: u32,
}

impl ConnId {
    /// The slot as an array index.
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

impl std::fmt::Display for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// A listening socket of one reactor. Never reused within a reactor's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// Slots a token can name: 24 bits.
pub const SLOTS_MAX: u32 = 1 << 24;

/// What an operation in the kernel is, so that its completion finds the right handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpKind {
    Accept = 1,
    AcceptCancel,
    Connect,
    Peer,
    Recv,
    Send,
    Shutdown,
    Cancel,
    Install,
    Close,
    Wake,
}

impl OpKind {
    const ALL: [OpKind; 11] = [
        OpKind::Accept,
        OpKind::AcceptCancel,
        OpKind::Connect,
        OpKind::Peer,
        OpKind::Recv,
        OpKind::Send,
        OpKind::Shutdown,
        OpKind::Cancel,
        OpKind::Install,
        OpKind::Close,
        OpKind::Wake,
    ];
}

/// `user_data` of an operation: kind (8 bits), slot (24 bits), generation (32 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: OpKind,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Token {
    pub(crate) fn of(kind: OpKind, conn: ConnId) -> Token {
        Token { kind, slot: conn.slot, generation: conn.generation }
    }

    pub(crate) fn conn(self) -> ConnId {
        ConnId { slot: self.slot, generation: self.generation }
    }

    pub(crate) fn pack(self) -> u64 {
        debug_assert!(self.slot < SLOTS_MAX);
        (self.kind as u64) << 56 | u64::from(self.slot) << 32 | u64::from(self.generation)
    }

    /// `None` when the kind is none of ours.
    pub(crate) fn unpack(raw: u64) -> Option<Token> {
        let kind = *OpKind::ALL.get(((raw >> 56) as usize).checked_sub(1)?)?;
        Some(Token { kind, slot: (raw >> 32) as u32 & (SLOTS_MAX - 1), generation: raw as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_packing() {
        for (at, kind) in OpKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at + 1);
            let token = Token { kind, slot: SLOTS_MAX - 1, generation: u32::MAX };
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}

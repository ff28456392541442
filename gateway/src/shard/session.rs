//! What a shard keeps for each chat session, inside the connection's slot. Holds no heap memory once greeted.

use crate::bridge::OutFrame;
use crate::engine::slot_bytes;
use crate::limits::{FLOOD_S_MAX, GARBAGE_PER_MINUTE_MAX};

use super::gcra::{Gcra, SlowGcra};

/// Where a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// `connected` was not sent yet: nothing else may be.
    #[default]
    Registering,
    /// Greeted.
    Active,
    /// Its token expired; it may still refresh it.
    Expired,
}

/// One session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(super) user_id: i64,
    /// Of frames of any kind.
    pub(super) frames: Gcra,
    /// Of messages.
    pub(super) sends: Gcra,
    /// Frames that came before `connected`.
    #[allow(clippy::box_collection, reason = "eight bytes in every slot instead of 24")]
    pub(super) held: Option<Box<Vec<OutFrame>>>,
    /// Expiry of the token, Unix seconds.
    pub(super) expires_at_s: u32,
    /// Since when it floods, in seconds of the shard's clock; 0 when it does not.
    flood_since_s: u32,
    /// When garbage is counted anew.
    garbage_until_s: u32,
    garbage: u8,
    pub(super) phase: Phase,
    /// It came with a ticket: registration says whether it was good.
    pub(super) has_ticket: bool,
    /// Of messages to the world room.
    pub(super) world: SlowGcra,
}

// Goal of gateway-engine.md section 4.
const _: () = assert!(slot_bytes::<Session>() <= 128, "a connection's slot");

impl Session {
    pub(super) fn new(user_id: i64, expires_at_s: i64) -> Session {
        let expires_at_s = expires_at_s.clamp(0, i64::from(u32::MAX)) as u32;
        Session { user_id, expires_at_s, ..Session::default() }
    }

    /// Counts a frame that was not understood; `true` when it was one too many.
    pub(super) fn is_garbage_too_much(&mut self, now_s: u32) -> bool {
        if now_s >= self.garbage_until_s {
            self.garbage_until_s = now_s + 60;
            self.garbage = 0;
        }
        self.garbage = self.garbage.saturating_add(1);
        self.garbage > GARBAGE_PER_MINUTE_MAX
    }

    /// Notes a frame over the limit; `true` when that has gone on for too long.
    pub(super) fn is_flood_too_long(&mut self, now_s: u32) -> bool {
        if self.flood_since_s == 0 {
            self.flood_since_s = now_s.max(1);
        }
        now_s.saturating_sub(self.flood_since_s) >= FLOOD_S_MAX
    }

    /// Notes that it was quiet.
    pub(super) fn calm(&mut self) {
        self.flood_since_s = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eleven_bad_frames_in_a_minute_are_too_many() {
        let mut session = Session::new(1, 0);
        assert!((0..10).all(|_| !session.is_garbage_too_much(5)));
        assert!(session.is_garbage_too_much(64));
        assert!(!session.is_garbage_too_much(65), "a new minute");
    }

    #[test]
    fn flooding_is_too_long_after_ten_seconds() {
        let mut session = Session::new(1, 0);
        assert!(!session.is_flood_too_long(0));
        assert!(!session.is_flood_too_long(10));
        assert!(session.is_flood_too_long(11));
        session.calm();
        assert!(!session.is_flood_too_long(12));
    }
}

//! Read marks on their way up: per user and conversation at most one every 500 ms, the highest wins.

use std::collections::HashMap;

use gochat_proto::ids::Address;

use crate::bridge::{Uplink, UplinkEvent};
use crate::limits::MARKS_MAX;

#[derive(Clone, Copy, Debug)]
struct Mark {
    address: Address,
    seq_id: i64,
}

/// Marks that wait for the next flush.
#[derive(Debug, Default)]
pub(super) struct Marks {
    waiting: HashMap<(i64, Box<str>), Mark>,
}

impl Marks {
    /// Notes a mark; `false` when too many wait.
    pub(super) fn add(&mut self, address: Address, user_id: i64, conversation: &str, seq_id: i64) -> bool {
        if self.waiting.len() >= MARKS_MAX {
            return false;
        }
        let mark = self.waiting.entry((user_id, conversation.into())).or_insert(Mark { address, seq_id });
        if seq_id >= mark.seq_id {
            *mark = Mark { address, seq_id };
        }
        true
    }

    /// Hands all of them over.
    pub(super) fn flush(&mut self, uplink: &mut Uplink) {
        for ((user_id, conversation), Mark { address, seq_id }) in self.waiting.drain() {
            uplink.event(UplinkEvent::MarkRead { address, user_id, conversation, seq_id });
        }
    }
}

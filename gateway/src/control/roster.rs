//! What of presence is to be told to repo: sessions that began, ended or are alive, collected into batches in order.
//! Pure: no calls, no clocks. An entry leaves only when repo has answered for it, or when its session never got there.

use std::collections::{HashSet, VecDeque};

use gochat_proto::ids::Address;

use crate::bridge::Opened;

/// Changes in one batch, of each kind.
pub(crate) const CHANGES_MAX: usize = 500;
/// Renewals in one batch.
pub(crate) const ALIVE_MAX: usize = 1000;

/// A session as presence knows it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) address: Address,
    pub(crate) user_id: i64,
    pub(crate) token_hash: Box<str>,
    pub(crate) token_version: i64,
    pub(crate) family_id: Box<str>,
    /// Empty when it came with an access token.
    pub(crate) ticket_id: Box<str>,
    /// Empty when not given.
    pub(crate) device: Box<str>,
    /// Empty when not given.
    pub(crate) client_info: Box<str>,
}

impl From<Opened> for Session {
    fn from(opened: Opened) -> Session {
        let Opened { address, user_id, token_hash, token_version, family_id, ticket_id, .. } = opened;
        let (device, client_info) = (opened.device, opened.client_info);
        Session { address, user_id, token_hash, token_version, family_id, ticket_id, device, client_info }
    }
}

/// A session that began, or goes on under another token.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) session: Session,
    /// It has begun.
    pub(crate) is_announced: bool,
    /// It has begun without registration, and was told so.
    pub(crate) is_degraded: bool,
    /// A call with it was made, whatever became of it.
    was_sent: bool,
}

/// A session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offline {
    pub(crate) address: Address,
    pub(crate) user_id: i64,
    pub(crate) handover: bool,
    /// Its user logged out.
    pub(crate) logout: bool,
}

/// What one call tells.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) online: Vec<Online>,
    pub(crate) offline: Vec<Offline>,
    pub(crate) alive: Vec<i64>,
}

impl Batch {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.online.is_empty() && self.offline.is_empty() && self.alive.is_empty()
    }
}

/// Everything not told yet.
#[derive(Default)]
pub(crate) struct Roster {
    online: VecDeque<Online>,
    /// Sessions in `online` that have not ended.
    live: HashSet<Address>,
    offline: VecDeque<Offline>,
    alive: HashSet<i64>,
}

impl Roster {
    /// A session began.
    pub(crate) fn opened(&mut self, session: Session) {
        self.live.insert(session.address);
        self.online.push_back(Online { session, is_announced: false, is_degraded: false, was_sent: false });
    }

    /// A session goes on under another token.
    pub(crate) fn reauthorized(&mut self, renewed: Session) {
        let address = renewed.address;
        if self.live.insert(address) {
            let online = Online { session: renewed, is_announced: true, is_degraded: false, was_sent: true };
            return self.online.push_back(online);
        }
        if let Some(online) = self.online.iter_mut().find(|online| online.session.address == address) {
            online.session.token_hash = renewed.token_hash;
            online.session.token_version = renewed.token_version;
            online.session.family_id = renewed.family_id;
        }
    }

    /// A session ended; one that repo was never told of is forgotten.
    pub(crate) fn closed(&mut self, gone: Offline) {
        let waits = self.live.remove(&gone.address);
        let was_sent =
            !waits || self.online.iter().any(|online| online.session.address == gone.address && online.was_sent);
        if was_sent {
            self.offline.push_back(gone);
        }
    }

    /// A user was heard of.
    pub(crate) fn alive(&mut self, user_id: i64) {
        self.alive.insert(user_id);
    }

    /// The next batch, oldest first; empty when there is nothing.
    pub(crate) fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        while batch.online.len() < CHANGES_MAX
            && let Some(mut online) = self.online.pop_front()
        {
            if self.live.remove(&online.session.address) {
                online.was_sent = true;
                batch.online.push(online);
            }
        }
        let ended = self.offline.len().min(CHANGES_MAX);
        batch.offline.extend(self.offline.drain(..ended));
        let renewed: Vec<i64> = self.alive.iter().copied().take(ALIVE_MAX).collect();
        for user_id in &renewed {
            self.alive.remove(user_id);
        }
        batch.alive = renewed;
        batch
    }

    /// Takes back a batch that was not answered, before everything newer. Renewals come again by themselves.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        // What ended meanwhile is told as ended only.
        let ended: HashSet<Address> = self.offline.iter().map(|gone| gone.address).collect();
        for online in batch.online.into_iter().rev().filter(|online| !ended.contains(&online.session.address)) {
            self.live.insert(online.session.address);
            self.online.push_front(online);
        }
        for gone in batch.offline.into_iter().rev() {
            self.offline.push_front(gone);
        }
    }

    /// Changes that wait.
    pub(crate) fn len(&self) -> usize {
        self.live.len() + self.offline.len()
    }

    /// Whether nothing waits, renewals included.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.alive.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(slot: u32) -> Session {
        Session {
            address: Address::new(0, slot, 1),
            user_id: i64::from(slot),
            token_hash: "".into(),
            token_version: 0,
            family_id: "".into(),
            ticket_id: "".into(),
            device: "".into(),
            client_info: "".into(),
        }
    }

    fn gone(slot: u32) -> Offline {
        Offline { address: Address::new(0, slot, 1), user_id: i64::from(slot), handover: false, logout: false }
    }

    fn slots(batch: &Batch) -> (Vec<u32>, Vec<u32>) {
        let online = batch.online.iter().map(|o| o.session.address.slot()).collect();
        (online, batch.offline.iter().map(|o| o.address.slot()).collect())
    }

    #[test]
    fn a_session_that_never_got_there_is_not_told() {
        let mut roster = Roster::default();
        (1..=3).for_each(|slot| roster.opened(opened(slot)));
        roster.closed(gone(2));
        assert_eq!(slots(&roster.take()), (vec![1, 3], vec![]));
        roster.closed(gone(1));
        assert_eq!(slots(&roster.take()), (vec![], vec![1]));
        assert!(roster.is_empty());
    }

    #[test]
    fn a_new_token_replaces_the_old_one() {
        let renewed = |slot, hash: &str| {
            let mut renewed = opened(slot);
            renewed.token_hash = hash.into();
            renewed
        };
        let mut roster = Roster::default();
        roster.opened(opened(1));
        roster.reauthorized(renewed(1, "b"));
        let batch = roster.take();
        assert_eq!((&*batch.online[0].session.token_hash, batch.online[0].is_announced), ("b", false));
        roster.reauthorized(renewed(1, "c"));
        let batch = roster.take();
        assert_eq!((&*batch.online[0].session.token_hash, batch.online[0].is_announced), ("c", true));
    }

    #[test]
    fn an_unanswered_batch_comes_again_first_and_without_what_ended() {
        let mut roster = Roster::default();
        (1..=2).for_each(|slot| roster.opened(opened(slot)));
        let batch = roster.take();
        roster.opened(opened(3));
        roster.closed(gone(1));
        roster.put_back(batch);
        let batch = roster.take();
        assert_eq!(slots(&batch), (vec![2, 3], vec![1]));
        roster.put_back(batch);
        roster.closed(gone(2));
        assert_eq!(slots(&roster.take()), (vec![3], vec![1, 2]), "repo may know of 2");
    }

    #[test]
    fn batches_are_bounded_and_renewals_merge() {
        let mut roster = Roster::default();
        for slot in 0..CHANGES_MAX as u32 + 1 {
            roster.opened(opened(slot));
        }
        for user in 0..2 * ALIVE_MAX as i64 {
            roster.alive(user % (ALIVE_MAX as i64 + 1));
        }
        let batch = roster.take();
        assert_eq!((batch.online.len(), batch.alive.len()), (CHANGES_MAX, ALIVE_MAX));
        let batch = roster.take();
        assert_eq!((batch.online.len(), batch.alive.len()), (1, 1));
        assert!(roster.take().is_empty());
    }
}

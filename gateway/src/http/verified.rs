//! What logic said about access tokens, for a short while (spec 06 §1.5). One task owns the table; it is bounded, and a
//! token that was revoked here stays void until it expires. Never checks a signature.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::User;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A good token is not asked about again for this long.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// A bad one neither.
const BAD_FOR: Duration = Duration::from_secs(5);
/// While logic cannot be asked, a token that was good this recently still is.
const DEGRADED_FOR: Duration = Duration::from_secs(60);
const ENTRIES_MAX: usize = 100_000;
const QUEUE_MAX: usize = 4096;

/// What logic said about a token.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// It is this user's.
    Good(Arc<User>),
    /// It is void, for this reason.
    Bad(ErrorCode),
}

/// What is known about a token.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// This still stands.
    Fresh(Said),
    /// It is to be asked about again; while that is impossible, it counts as this user's.
    Stale(Arc<User>),
    /// Nothing.
    Nothing,
}

enum Note {
    Ask(String, oneshot::Sender<Known>),
    Said(String, Said),
    Revoked(String, Duration),
    Forget(String),
}

/// A handle on the table; tokens are named by their hash.
#[derive(Clone)]
pub(crate) struct Verified {
    notes: mpsc::Sender<Note>,
}

impl Verified {
    /// Starts the task that owns the table; it ends when all handles are gone. Must be called on a runtime.
    pub(crate) fn start() -> Verified {
        let (notes, inbox) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(inbox));
        Verified { notes }
    }

    /// What is known.
    pub(crate) async fn known(&self, hash: &str) -> Known {
        let (sender, receiver) = oneshot::channel();
        let _ = self.notes.send(Note::Ask(hash.to_owned(), sender)).await;
        receiver.await.unwrap_or(Known::Nothing)
    }

    /// Logic was asked.
    pub(crate) async fn said(&self, hash: &str, said: Said) {
        let _ = self.notes.send(Note::Said(hash.to_owned(), said)).await;
    }

    /// The token is void for the rest of its life, whatever was said before or is still on its way.
    pub(crate) async fn revoked(&self, hash: &str, left: Duration) {
        let _ = self.notes.send(Note::Revoked(hash.to_owned(), left)).await;
    }

    /// All tokens of this user are asked about again: some of them became void.
    pub(crate) async fn forget(&self, user_id: &str) {
        let _ = self.notes.send(Note::Forget(user_id.to_owned())).await;
    }
}

struct Entry {
    said: Said,
    at: Instant,
    /// Void up to here, when it was revoked.
    revoked_until: Option<Instant>,
}

#[derive(Default)]
struct Table(HashMap<String, Entry>);

impl Table {
    fn known(&self, hash: &str, now: Instant) -> Known {
        let Some(entry) = self.0.get(hash) else { return Known::Nothing };
        if entry.revoked_until.is_some() {
            return Known::Fresh(Said::Bad(ErrorCode::InvalidToken));
        }
        let age = now.saturating_duration_since(entry.at);
        match &entry.said {
            Said::Good(_) if age <= GOOD_FOR => Known::Fresh(entry.said.clone()),
            Said::Good(user) if age <= DEGRADED_FOR => Known::Stale(Arc::clone(user)),
            Said::Bad(_) if age <= BAD_FOR => Known::Fresh(entry.said.clone()),
            Said::Good(_) | Said::Bad(_) => Known::Nothing,
        }
    }

    fn said(&mut self, hash: String, said: Said, now: Instant) {
        if self.0.get(&hash).is_some_and(|entry| entry.revoked_until.is_some()) {
            return;
        }
        self.make_room(now);
        self.0.insert(hash, Entry { said, at: now, revoked_until: None });
    }

    fn revoked(&mut self, hash: String, left: Duration, now: Instant) {
        self.make_room(now);
        let said = Said::Bad(ErrorCode::InvalidToken);
        self.0.insert(hash, Entry { said, at: now, revoked_until: now.checked_add(left) });
    }

    fn forget(&mut self, user_id: &str) {
        let is_of = |entry: &Entry| matches!(&entry.said, Said::Good(user) if user.id == user_id);
        self.0.retain(|_, entry| !is_of(entry));
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < ENTRIES_MAX {
            return;
        }
        let is_of_use = |entry: &Entry| match entry.revoked_until {
            Some(until) => now < until,
            None => now.saturating_duration_since(entry.at) <= DEGRADED_FOR,
        };
        self.0.retain(|_, entry| is_of_use(entry));
        if self.0.len() >= ENTRIES_MAX {
            // Forgotten ones are asked about again; logic keeps revocations too.
            self.0.clear();
        }
    }
}

async fn run(mut inbox: mpsc::Receiver<Note>) {
    let mut table = Table::default();
    while let Some(note) = inbox.recv().await {
        let now = Instant::now();
        match note {
            Note::Ask(hash, answer) => {
                let _ = answer.send(table.known(&hash, now));
            }
            Note::Said(hash, said) => table.said(hash, said, now),
            Note::Revoked(hash, left) => table.revoked(hash, left, now),
            Note::Forget(user_id) => table.forget(&user_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Said {
        Said::Good(Arc::new(User::default()))
    }

    #[test]
    fn answers_age() {
        let start = Instant::now();
        let mut table = Table::default();
        assert!(matches!(table.known("a", start), Known::Nothing));
        table.said("a".into(), good(), start);
        assert!(matches!(table.known("a", start + GOOD_FOR), Known::Fresh(Said::Good(_))));
        assert!(matches!(table.known("a", start + GOOD_FOR * 2), Known::Stale(_)));
        assert!(matches!(table.known("a", start + DEGRADED_FOR * 2), Known::Nothing));
        table.said("b".into(), Said::Bad(ErrorCode::UserDisabled), start);
        assert!(matches!(table.known("b", start + BAD_FOR), Known::Fresh(Said::Bad(ErrorCode::UserDisabled))));
        assert!(matches!(table.known("b", start + BAD_FOR * 2), Known::Nothing));
    }

    #[test]
    fn a_revoked_token_stays_void_whatever_was_on_its_way() {
        let start = Instant::now();
        let mut table = Table::default();
        table.said("a".into(), good(), start);
        table.revoked("a".into(), DEGRADED_FOR, start);
        table.said("a".into(), good(), start);
        assert!(matches!(table.known("a", start), Known::Fresh(Said::Bad(ErrorCode::InvalidToken))));
    }

    #[test]
    fn what_is_forgotten_is_asked_about_again() {
        let start = Instant::now();
        let mut table = Table::default();
        let of = |id: &str| Said::Good(Arc::new(User { id: id.into(), ..User::default() }));
        table.said("a".into(), of("7"), start);
        table.said("b".into(), of("8"), start);
        table.revoked("c".into(), DEGRADED_FOR, start);
        table.forget("7");
        assert!(matches!(table.known("a", start), Known::Nothing));
        assert!(matches!(table.known("b", start), Known::Fresh(Said::Good(_))));
        assert!(matches!(table.known("c", start), Known::Fresh(Said::Bad(_))));
    }

    #[test]
    fn the_table_is_bounded() {
        let start = Instant::now();
        let mut table = Table::default();
        table.revoked("gone".into(), DEGRADED_FOR * 10, start);
        for n in 0..ENTRIES_MAX {
            table.said(n.to_string(), good(), start);
        }
        assert!(table.0.len() <= ENTRIES_MAX);
        for n in 0..ENTRIES_MAX - 1 {
            table.said(format!("x{n}"), good(), start);
        }
        table.said("late".into(), good(), start + DEGRADED_FOR * 2);
        assert!(table.0.len() <= 2, "{}", table.0.len());
    }
}

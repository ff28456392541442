//! What becomes of each message of a persist transaction: stored, void or parked (pipeline.md B1, B5).
//!
//! Without a conflict it costs two statements for many rows. What an insert did not take is settled one message at a time,
//! in the order of the log, after the others are in.

use super::hash::{MessageKey, PROBES_MAX, PlaceHasher};
use crate::store::Result;
use crate::store::pipeline::{ClaimRow, MessageRow, PersistTx, StoredRow};
use gochat_infra::telemetry::metrics;
use gochat_proto::bus::v1::PersistMessage;

/// A message that may be stored.
pub(super) struct Candidate<'a> {
    pub(super) message: &'a PersistMessage,
    /// Conversation key.
    pub(super) conversation: i64,
    pub(super) content_hash: u128,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In the store under its own id and number, now or before.
    Stored,
    /// The same message is stored under another number: this one is void for ever.
    Void(StoredRow),
    /// Cannot be stored.
    Parked(String),
}

/// Fates in the order of the candidates, and the number of rows that are new.
pub(super) struct Settled {
    pub(super) fates: Vec<Fate>,
    pub(super) new: u64,
}

/// Stores candidates or finds out why not.
pub(super) async fn settle(
    tx: &mut dyn PersistTx,
    hasher: PlaceHasher,
    candidates: &[Candidate<'_>],
) -> Result<Settled> {
    let claims: Vec<ClaimRow> = candidates.iter().map(|c| c.claim(hasher, 0)).collect();
    let held = tx.insert_claims(&claims).await?;
    let mut settled = Settled { fates: vec![Fate::Stored; candidates.len()], new: 0 };
    let mut is_held = vec![false; candidates.len()];
    for (index, _) in &held {
        is_held[*index] = true;
    }
    let free: Vec<usize> = (0..candidates.len()).filter(|i| !is_held[*i]).collect();
    let rows: Vec<MessageRow<'_>> = free.iter().map(|i| candidates[*i].row()).collect();
    let inserted = tx.insert_messages(&rows).await?;
    settled.new = inserted.new;
    for conflict in inserted.conflicts {
        let index = free[conflict];
        settled.fates[index] = classify(tx, &candidates[index]).await?;
    }
    for (index, _) in held {
        let (fate, new) = settle_held(tx, hasher, &candidates[index]).await?;
        settled.fates[index] = fate;
        settled.new += new;
    }
    Ok(settled)
}

impl<'a> Candidate<'a> {
    fn key(&self) -> MessageKey<'a> {
        MessageKey {
            conversation: &self.message.conversation_id,
            sender_id: self.message.sender_id,
            client_msg_id: self.message.client_msg_id.as_bytes(),
        }
    }

    fn claim(&self, hasher: PlaceHasher, probe: u32) -> ClaimRow {
        ClaimRow { place: hasher.place(&self.key(), probe), message_id: self.message.message_id }
    }

    fn row(&self) -> MessageRow<'a> {
        MessageRow {
            id: self.message.message_id,
            conversation: self.conversation,
            seq: self.message.seq_id,
            sender_id: self.message.sender_id,
            kind: self.message.message_type,
            content: &self.message.content,
            extra: &self.message.extra,
            client_msg_id: self.message.client_msg_id.as_bytes(),
            content_hash: self.content_hash,
            created_at_ms: self.message.created_at_ms,
        }
    }

    fn has_key_of(&self, row: &StoredRow) -> bool {
        row.conversation == self.conversation
            && row.sender_id == self.message.sender_id
            && row.client_msg_id == self.message.client_msg_id.as_bytes()
    }

    fn is(&self, row: &StoredRow) -> bool {
        self.has_key_of(row) && row.content_hash == self.content_hash
    }
}

/// Walks the places of a message whose first one is another's: a collision, the same message, or a reuse of its
/// client_msg_id, which is stored with a claim of its own (B1, B5).
async fn settle_held(tx: &mut dyn PersistTx, hasher: PlaceHasher, candidate: &Candidate<'_>) -> Result<(Fate, u64)> {
    let message = candidate.message;
    let mut is_reused = false;
    for probe in 0..PROBES_MAX {
        let held = tx.insert_claims(&[candidate.claim(hasher, probe)]).await?;
        let Some((_, holder)) = held.first() else {
            if is_reused {
                let help = "Messages stored although their client_msg_id stands for another one: both were accepted.";
                metrics::counter("gochat_repo_client_msg_id_reused_total", help, &[]).inc();
                tracing::error!(
                    conversation = %message.conversation_id, message_id = message.message_id, seq = message.seq_id,
                    "a client_msg_id was used for two messages and both were accepted: both are stored"
                );
            }
            let inserted = tx.insert_messages(&[candidate.row()]).await?;
            let fate = if inserted.conflicts.is_empty() { Fate::Stored } else { classify(tx, candidate).await? };
            return Ok((fate, inserted.new));
        };
        if let Some(row) = tx.rows_by_id(&[*holder]).await?.into_iter().next() {
            if candidate.is(&row) {
                return Ok((Fate::Void(row), 0));
            }
            is_reused |= candidate.has_key_of(&row);
        }
    }
    Ok((Fate::Parked("every place of its claim is taken".into()), 0))
}

/// Why was a message not inserted although its claim is its own?
async fn classify(tx: &mut dyn PersistTx, candidate: &Candidate<'_>) -> Result<Fate> {
    let message = candidate.message;
    if let Some(row) = tx.rows_by_id(&[message.message_id]).await?.into_iter().next() {
        return Ok(match candidate.is(&row) {
            true => Fate::Void(row),
            false => Fate::Parked(format!("message id {} belongs to another message", row.id)),
        });
    }
    let there = tx.rows_at(&[(candidate.conversation, message.seq_id)]).await?;
    Ok(Fate::Parked(match there.first() {
        Some(row) => format!("number {} belongs to message {}", row.seq, row.id),
        None => "the store did not take it".into(),
    }))
}

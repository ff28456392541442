//! Membership, claim and sequence of one batch (pipeline.md A3, B, C): a look-up in the store, then the cache's script.

use super::batch::{Batch, PrepareError, Work};
use super::hash::{PROBES_MAX, PlaceHasher};
use super::people::People;
use crate::directory::Directory;
use crate::store::Store;
use crate::store::pipeline::{PrepareLookup, StoredRow};
use gochat_infra::cache::{Cache, Reservation, SequenceReply};
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::{PrepareMessagesRequest, PrepareMessagesResponse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Reservation, script, and once more when the cache lost its counters in between.
const SCRIPT_ROUNDS_MAX: usize = 4;

/// Prepares batches.
pub(crate) struct Preparer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hasher: PlaceHasher,
    /// Numbers reserved at once (C1).
    pub(crate) block: i64,
}

impl Preparer {
    pub(crate) async fn prepare(
        &self,
        request: PrepareMessagesRequest,
    ) -> Result<PrepareMessagesResponse, PrepareError> {
        let ids = request.conversations.iter().map(|c| c.conversation_id.as_str());
        let rosters = self.directory.conversations(ids).await?;
        let mut batch = Batch::new(&request, &rosters)?;
        self.look_up(&mut batch, &request).await?;
        let people = People::of(&request, &rosters, &self.directory, &*self.store).await?;
        batch.judge_speakers(&people);
        batch.judge_recalls(&people, request.targets_final);
        let void = batch.take_void_claims();
        if !void.is_empty() {
            self.cache.release_claims(void, Duration::ZERO).await?;
        }
        if let Some(incarnation) = self.claim(&mut batch, &request).await? {
            return Ok(PrepareMessagesResponse { incarnation, conversations: Vec::new() });
        }
        Ok(PrepareMessagesResponse { incarnation: request.incarnation, conversations: batch.finish(&people) })
    }

    /// Finds what is stored already (B1, B3), and the floors of new numbers (C1).
    async fn look_up(&self, batch: &mut Batch<'_>, request: &PrepareMessagesRequest) -> Result<(), PrepareError> {
        let conversations = batch.keys();
        let mut probes = batch.first_probes(&self.hasher);
        for probe in 1..=PROBES_MAX {
            let lookup = PrepareLookup {
                partition: request.partition,
                claims: probes.iter().map(|p| p.place).collect(),
                // Asked again with every round: the floors must not be older than the claims.
                conversations: conversations.clone(),
            };
            let answer = self.store.prepare_lookup(lookup).await?;
            if answer.epoch != request.epoch {
                return Err(PrepareError::StaleWriter);
            }
            batch.raise_floors(&answer.top_seqs);
            let taken: HashMap<i64, Option<StoredRow>> = answer.claims.into_iter().collect();
            probes.retain_mut(|p| match taken.get(&p.place) {
                Some(row) => batch.judge(p, row.as_ref()),
                None => false,
            });
            if probes.is_empty() {
                break;
            }
            for p in &mut probes {
                p.place = self.hasher.place(&batch.item_key(p.at), probe);
            }
        }
        for p in &probes {
            batch.refuse(p.at, ErrorCode::ClientMsgIdReused);
        }
        batch.refuse_reused();
        Ok(())
    }

    /// Claims and numbers for what is left; `Some` is another incarnation than the one asked with (B3).
    async fn claim(
        &self,
        batch: &mut Batch<'_>,
        request: &PrepareMessagesRequest,
    ) -> Result<Option<u64>, PrepareError> {
        let mut open: Vec<usize> = (0..batch.conversations.len()).filter(|c| batch.is_open(*c)).collect();
        for _ in 0..SCRIPT_ROUNDS_MAX {
            if open.is_empty() {
                return Ok(None);
            }
            let asks = open.iter().map(|c| batch.sequence_request(*c, request.epoch)).collect();
            let replies = match self.cache.claim_sequences(request.incarnation, asks).await? {
                Ok(replies) => replies,
                Err(other) => return Ok(Some(other)),
            };
            let mut short = Vec::new();
            for (conversation, reply) in open.into_iter().zip(replies) {
                match reply {
                    SequenceReply::Claimed(claimed) => batch.take(conversation, claimed)?,
                    SequenceReply::NeedsReservation => short.push(conversation),
                    SequenceReply::StaleWriter => return Err(PrepareError::StaleWriter),
                }
            }
            self.reserve(batch, &short, request.incarnation).await?;
            open = short;
        }
        if open.is_empty() { Ok(None) } else { Err(PrepareError::Counters("reservations do not stand")) }
    }

    /// Reserves blocks in SQL first, then lets the cache hand them out (C1).
    async fn reserve(&self, batch: &Batch<'_>, short: &[usize], incarnation: u64) -> Result<(), PrepareError> {
        if short.is_empty() {
            return Ok(());
        }
        let works: Vec<&Work<'_>> = short.iter().map(|c| &batch.conversations[*c]).collect();
        let raises: Vec<(i64, i64)> = works.iter().map(|w| (w.key(), self.block.max(w.items.len() as i64))).collect();
        let mut starts = self.store.reserve_sequences(&raises).await?;
        // A bound below a number in use was lost with its table: one more raise takes it above.
        let low = |(_, (work, start)): &(usize, (&&Work<'_>, &i64))| **start < work.floor;
        let low: Vec<usize> = works.iter().zip(&starts).enumerate().filter(low).map(|(i, _)| i).collect();
        if !low.is_empty() {
            let lift = |i: &usize| (works[*i].key(), works[*i].floor - starts[*i] + raises[*i].1);
            let lifts: Vec<(i64, i64)> = low.iter().map(lift).collect();
            self.store.reserve_sequences(&lifts).await?;
            for i in low {
                starts[i] = works[i].floor;
            }
        }
        let reservations = works.iter().zip(&raises).zip(starts).map(|((work, (_, count)), start)| Reservation {
            conversation: work.asked.conversation_id.clone(),
            start,
            bound: start + count,
        });
        self.cache.reserve(incarnation, reservations.collect()).await?;
        Ok(())
    }
}

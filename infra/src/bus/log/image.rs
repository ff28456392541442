//! How topics with their end offsets and commits are written into topic and checkpoint frames. Pure.

use std::collections::BTreeMap;

use super::bytes_io::{Fields, put_string, put_u32, put_u64};
use crate::bus::{Durability, Offset, TopicSpec};

/// One topic as a checkpoint knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicImage {
    /// Number used in frame headers.
    pub id: u32,
    pub spec: TopicSpec,
    /// Per partition, the offset of the next append.
    pub next_offsets: Vec<Offset>,
    /// Per group and partition, what was committed.
    pub committed: BTreeMap<String, Vec<Option<Offset>>>,
}

impl TopicImage {
    /// Appends the topic to a frame's body.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.id);
        put_u32(out, u32::from(self.spec.durability == Durability::Durable));
        put_string(out, &self.spec.name);
        put_u32(out, self.spec.partitions);
        for next in &self.next_offsets {
            put_u64(out, *next as u64);
        }
        put_u32(out, self.committed.len() as u32);
        for (group, committed) in &self.committed {
            put_string(out, group);
            for next in committed {
                put_u64(out, next.unwrap_or(-1) as u64);
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.u32()?;
        let durability = if fields.u32()? == 1 { Durability::Durable } else { Durability::Written };
        let name = fields.string()?;
        let partitions = fields.u32()?;
        let next_offsets = (0..partitions).map(|_| fields.u64().map(|next| next as Offset)).collect::<Option<_>>()?;
        let mut committed = BTreeMap::new();
        for _ in 0..fields.u32()? {
            let group = fields.string()?;
            let offsets =
                (0..partitions).map(|_| fields.u64().map(|next| next as Offset)).collect::<Option<Vec<_>>>()?;
            committed.insert(group, offsets.into_iter().map(|next| (next >= 0).then_some(next)).collect());
        }
        Some(TopicImage { id, spec: TopicSpec { name, partitions, durability }, next_offsets, committed })
    }

    /// All topics in a body; `None` when it is not well formed.
    pub(super) fn decode_all(body: &[u8]) -> Option<Vec<Self>> {
        let mut fields = Fields::new(body);
        let mut topics = Vec::new();
        while !fields.is_empty() {
            topics.push(Self::decode(&mut fields)?);
        }
        Some(topics)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn topics_come_back_and_cut_bodies_are_refused() {
        let image = |id: u32| TopicImage {
            id,
            spec: TopicSpec { name: format!("t{id}"), partitions: 2, durability: Durability::Written },
            next_offsets: vec![7, 1 << 40],
            committed: BTreeMap::from([("g".to_owned(), vec![None, Some(9)])]),
        };
        let mut body = Vec::new();
        image(1).encode(&mut body);
        let one = body.len();
        image(2).encode(&mut body);
        assert_eq!(TopicImage::decode_all(&body).unwrap(), [image(1), image(2)]);
        for cut in 1..body.len() {
            assert_eq!(TopicImage::decode_all(&body[..cut]).is_some(), cut == one, "cut at {cut}");
        }
    }
}

//! Consumer groups: who is a member and which member owns which partition. Never reads records or writes commits.
//!
//! Partitions are balanced over the members; a member keeps what it has as far as balance allows. A partition that
//! moves is taken from its owner before it is given to the next: from then on the old lease commits nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc;

use super::{partition::lock, topic::Topic};

/// One member's ownership of one partition; ends once and for all.
#[derive(Debug, Default)]
pub(super) struct Lease {
    ended: AtomicBool,
}

impl Lease {
    pub(super) fn is_owned(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }
}

/// A change of one member's partitions.
pub(super) enum Change {
    Assigned(u32, Arc<Lease>),
    Revoked(u32),
}

/// All groups with members.
#[derive(Default)]
pub(super) struct Groups {
    /// By topic and group name.
    groups: Mutex<HashMap<(String, String), Group>>,
}

struct Group {
    topic: Arc<Topic>,
    members: Vec<Member>,
    next_member: u64,
}

struct Member {
    id: u64,
    owned: BTreeMap<u32, Arc<Lease>>,
    /// Unbounded, and still bounded: at most two changes per partition and rebalance, rebalances being rare.
    changes: mpsc::UnboundedSender<Change>,
}

/// Membership; ends when dropped.
pub(super) struct Membership {
    groups: Arc<Groups>,
    pub topic: Arc<Topic>,
    pub group: String,
    member: u64,
    pub changes: mpsc::UnboundedReceiver<Change>,
}

impl Groups {
    /// Adds a member and gives it its share.
    pub(super) fn join(self: &Arc<Self>, topic: &Arc<Topic>, group: &str) -> Membership {
        let (sender, changes) = mpsc::unbounded_channel();
        let key = (topic.spec.name.clone(), group.to_owned());
        let mut groups = lock(&self.groups);
        topic.register_group(group);
        let joined =
            groups.entry(key).or_insert_with(|| Group { topic: topic.clone(), members: Vec::new(), next_member: 0 });
        let member = joined.next_member;
        joined.next_member += 1;
        joined.members.push(Member { id: member, owned: BTreeMap::new(), changes: sender });
        joined.balance();
        Membership { groups: self.clone(), topic: topic.clone(), group: group.to_owned(), member, changes }
    }

    /// Ends all memberships.
    pub(super) fn clear(&self) {
        lock(&self.groups).clear();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let key = (self.topic.spec.name.clone(), self.group.clone());
        let mut groups = lock(&self.groups.groups);
        let Some(group) = groups.get_mut(&key) else { return };
        if let Some(at) = group.members.iter().position(|member| member.id == self.member) {
            let mut left = group.members.remove(at);
            while let Some((partition, _)) = left.owned.first_key_value() {
                let partition = *partition;
                revoke(&group.topic, &mut left, partition);
            }
        }
        if group.members.is_empty() {
            groups.remove(&key);
            self.topic.unregister_group(&self.group);
        } else {
            group.balance();
        }
    }
}

fn revoke(topic: &Topic, member: &mut Member, partition: u32) {
    if let Some(lease) = member.owned.remove(&partition) {
        lease.ended.store(true, Ordering::Release);
        if let Some(partition) = topic.partitions.get(partition as usize) {
            partition.changed.notify_waiters();
        }
        // A member that is leaving no longer listens.
        let _ = member.changes.send(Change::Revoked(partition));
    }
}

impl Group {
    fn balance(&mut self) {
        let count = self.topic.partitions.len();
        let (share, mut extra) = (count / self.members.len(), count % self.members.len());
        // Those who have most keep most; among equals the longest members.
        self.members.sort_by_key(|member| (std::cmp::Reverse(member.owned.len()), member.id));
        let quotas: Vec<usize> = (0..self.members.len())
            .map(|_| {
                let quota = share + usize::from(extra > 0);
                extra = extra.saturating_sub(1);
                quota
            })
            .collect();
        for (member, quota) in self.members.iter_mut().zip(&quotas) {
            while member.owned.len() > *quota {
                let Some((partition, _)) = member.owned.last_key_value() else { break };
                let partition = *partition;
                revoke(&self.topic, member, partition);
            }
        }
        let mut free: Vec<u32> = (0..count as u32)
            .filter(|partition| !self.members.iter().any(|member| member.owned.contains_key(partition)))
            .collect();
        free.reverse();
        for (member, quota) in self.members.iter_mut().zip(&quotas) {
            while member.owned.len() < *quota {
                let Some(partition) = free.pop() else { break };
                let lease = Arc::new(Lease::default());
                member.owned.insert(partition, lease.clone());
                let _ = member.changes.send(Change::Assigned(partition, lease));
            }
        }
    }
}

//! Who hears of a change in a conversation: members one by one, or every gateway that knows the room (pipeline.md F1, F2).
//!
//! Owns the room changes that gateways apply, sent before the frames of the same change. Never makes a frame.

use std::collections::BTreeMap;

use gochat_proto::bus::v1::RoomChange;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::ids::WORLD;
use gochat_proto::rooms::MEMBERS_WITHOUT_ROOM;

use super::teller::Teller;
use crate::signals::{Frame, Gateway, SendError, Targets, targets};

/// Members read to tell them one by one: more than there were when it happened may be there now.
const MEMBERS_READ_MAX: usize = 200;
/// A room that a gateway never fetched is older than this, so that it fetches it for a frame.
const VERSION_MIN: i64 = 1;

/// How a membership changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) version: i64,
    pub(super) member_count: i32,
    /// Connections of who was added.
    pub(super) joined: Targets,
    /// Who was removed.
    pub(super) left: Vec<String>,
    pub(super) dissolved: bool,
}

impl Change {
    fn for_gateway(&self, conversation_id: &str, joined: Vec<u64>) -> Item {
        let world = conversation_id == WORLD;
        Item::Room(RoomChange {
            conversation_id: conversation_id.to_owned(),
            version: if world { 0 } else { self.version },
            member_count: self.member_count,
            joined,
            left: self.left.iter().filter_map(|id| id.parse().ok()).collect(),
            dissolved: self.dissolved,
        })
    }
}

/// Tells gateways that may know the room how its membership changed. A small group has none, nor just had one: a group
/// shrinks by one at a time.
pub(super) async fn change(teller: &Teller, conversation_id: &str, change: &Change) -> Result<(), SendError> {
    if change.member_count < MEMBERS_WITHOUT_ROOM && conversation_id != WORLD && !change.dissolved {
        return Ok(());
    }
    // Who joined is named to the one life of a gateway that holds those connections.
    for (gateway, addresses) in &change.joined {
        let item = change.for_gateway(conversation_id, addresses.clone());
        teller.signals.produce(*gateway, conversation_id, vec![item]).await?;
    }
    if conversation_id == WORLD && change.left.is_empty() {
        return Ok(());
    }
    // To a gateway that was told already this is not newer.
    for id in teller.signals.gateways.of(conversation_id).await {
        let gateway = Gateway { id: id.number(), incarnation: 0 };
        let item = change.for_gateway(conversation_id, Vec::new());
        teller.signals.produce(gateway, conversation_id, vec![item]).await?;
    }
    Ok(())
}

/// One frame to all members; `version` is that of the membership, 0 when it is not known.
pub(super) async fn tell(
    teller: &Teller,
    conversation_id: &str,
    member_count: i32,
    version: i64,
    frame: &Frame,
) -> Result<(), SendError> {
    if member_count <= MEMBERS_WITHOUT_ROOM && conversation_id != WORLD {
        let members = teller.repo.member_ids(conversation_id, MEMBERS_READ_MAX).await?;
        if !members.is_empty() {
            return teller.signals.try_users(&members, conversation_id, frame).await;
        }
    }
    let version = if conversation_id == WORLD { 0 } else { version.max(VERSION_MIN) };
    for id in teller.signals.gateways.of(conversation_id).await {
        let gateway = Gateway { id: id.number(), incarnation: 0 };
        let item = frame.to_room(conversation_id, version);
        teller.signals.produce(gateway, conversation_id, vec![item]).await?;
    }
    Ok(())
}

/// Those of the users who are connected, with their connections.
pub(super) async fn connected(teller: &Teller, user_ids: &[String]) -> Result<BTreeMap<String, Targets>, SendError> {
    let statuses = teller.repo.statuses(user_ids).await?;
    let connected = statuses.into_iter().map(|status| (status.user_id.clone(), targets(std::slice::from_ref(&status))));
    Ok(connected.filter(|(_, targets)| !targets.is_empty()).collect())
}

/// All these connections together.
pub(super) fn together(connected: &BTreeMap<String, Targets>) -> Targets {
    let mut all = Targets::new();
    for (gateway, addresses) in connected.values().flatten() {
        all.entry(*gateway).or_default().extend(addresses);
    }
    all
}

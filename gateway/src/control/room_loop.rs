//! The one owner of rooms: takes what happens in conversations and who was registered, fetches memberships, and tells
//! shards, all of it in one order. Never decides what a membership is: repo does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use gochat_infra::backoff::Backoff;
use gochat_infra::clock::Clock;
use gochat_infra::rpc::{self, Channel};
use gochat_proto::ids::{Address, GatewayId};
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::{GetRoomRequest, GetRoomResponse, ReconcileRoomsRequest, Room, UserRooms};
use tokio::sync::mpsc;

use super::frames::FrameWriter;
use super::rooms::{Entry, Fetched, Out, Rooms};
use super::shards::{Batches, Shards};
use super::stats::RoomStats;
use crate::bridge::Downlink;

/// Inputs that wait.
pub(crate) const QUEUE_MAX: usize = 64;
/// Inputs taken before shards are told.
const INPUTS_PER_TURN: usize = 64;
/// Memberships fetched at once.
const FETCHES_MAX: usize = 64;
const FETCH_DEADLINE: Duration = Duration::from_secs(2);
const FETCH_DELAY_MAX: Duration = Duration::from_secs(2);
const RECONCILE_EVERY: Duration = Duration::from_secs(60);
const RECONCILE_DEADLINE: Duration = Duration::from_secs(10);
/// Rooms of one call to reconcile.
const RECONCILE_ROOMS: usize = 1_000;

/// What a registered session is told once its rooms know it.
#[derive(Debug)]
pub(crate) enum Told {
    /// It may begin.
    Registered,
    /// It had begun without registration: it may have missed something.
    Resync,
    /// Nothing: it goes on under another token.
    Nothing,
}

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum RoomInput {
    /// Of conversations, in the order of their records.
    Entries(Vec<(Box<str>, Entry)>),
    /// Sessions that repo has registered, and what their users belong to.
    Registered(Vec<(Address, i64, Told)>, Vec<UserRooms>),
}

/// What the loop works with.
pub(crate) struct RoomLoop {
    pub(crate) inputs: mpsc::Receiver<RoomInput>,
    pub(crate) repo: Channel,
    pub(crate) shards: Shards,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateway: GatewayId,
    pub(crate) incarnation: u64,
    pub(crate) stats: RoomStats,
}

type Reconciled = Vec<(Box<str>, i64)>;

impl RoomLoop {
    /// Runs until everybody who tells it something is gone.
    pub(crate) async fn run(mut self) {
        let mut rooms = Rooms::default();
        let mut fetches: FuturesUnordered<BoxFuture<'static, (Box<str>, GetRoomResponse)>> = FuturesUnordered::new();
        let mut reconciling: Option<BoxFuture<'static, Reconciled>> = None;
        let mut reconcile = tokio::time::interval(RECONCILE_EVERY);
        reconcile.tick().await;
        loop {
            while fetches.len() < FETCHES_MAX
                && let Some((conversation, rounds)) = rooms.next_wanted()
            {
                self.stats.fetches.inc();
                fetches.push(Box::pin(self.fetcher().run(conversation, rounds)));
            }
            let mut outs = Vec::new();
            let mut batches = self.shards.batches();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input, &mut rooms, &mut outs, &mut batches),
                    None => return,
                },
                Some((conversation, answer)) = fetches.next() => {
                    rooms.fetched(&conversation, fetched(answer), &mut outs);
                }
                _ = reconcile.tick(), if reconciling.is_none() => {
                    reconciling = Some(Box::pin(self.fetcher().reconcile(rooms.versions())));
                }
                Some(outdated) = OptionFuture::from(reconciling.as_mut()) => {
                    reconciling = None;
                    outdated.iter().for_each(|(conversation, version)| rooms.outdated(conversation, *version));
                }
            }
            self.tell(outs, &mut batches);
            self.stats.rooms.set(rooms.len() as i64);
            self.stats.lost.add(rooms.take_lost());
            batches.send().await;
        }
    }

    fn take(&mut self, first: RoomInput, rooms: &mut Rooms, outs: &mut Vec<Out>, batches: &mut Batches) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(input) = next {
            match input {
                RoomInput::Entries(entries) => {
                    entries.into_iter().for_each(|(conversation, entry)| rooms.take(&conversation, entry, outs));
                }
                RoomInput::Registered(sessions, of_users) => {
                    join(&sessions, of_users, rooms, outs);
                    self.tell(std::mem::take(outs), batches);
                    self.greet(sessions, batches);
                }
            }
            taken += 1;
            next = if taken < INPUTS_PER_TURN { self.inputs.try_recv().ok() } else { None };
        }
    }

    /// Behind the joins, so that from `connected` on nothing is missed.
    fn greet(&self, sessions: Vec<(Address, i64, Told)>, batches: &mut Batches) {
        for (address, _, told) in sessions {
            match told {
                Told::Registered => batches.push(address, Downlink::Registered { address, degraded: false }),
                Told::Resync => batches.frame(address, FrameWriter::at(self.clock.unix_ms()).resync("")),
                Told::Nothing => {}
            }
        }
    }

    fn tell(&self, outs: Vec<Out>, batches: &mut Batches) {
        for out in outs {
            match out {
                Out::Join(room, address) => batches.push(address, Downlink::RoomJoin { room, address }),
                Out::Leave(room, user_id, shards) => {
                    batches.push_to(shards, || Downlink::RoomLeave { room, user_id });
                }
                Out::Drop(room, shards) => batches.push_to(shards, || Downlink::RoomDrop { room }),
                Out::Frame(room, exclude, frame, shards) => {
                    batches.push_to(shards, || Downlink::RoomFrame { room, exclude, frame: frame.clone() });
                }
                Out::Direct(addresses, frame) => batches.frame_to_many(&addresses, &frame),
                Out::Reset(room, addresses) => {
                    batches.push_each(&addresses, |addresses| Downlink::RoomReset { room, addresses });
                }
                Out::Hint(room, conversation, shards) => {
                    self.stats.hints.inc();
                    let frame = FrameWriter::at(self.clock.unix_ms()).resync(&conversation);
                    let exclude = Address::NONE;
                    batches.push_to(shards, || Downlink::RoomFrame { room, exclude, frame: frame.clone() });
                }
            }
        }
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher {
            presence: OnlineStatusServiceClient::new(self.repo.clone()),
            gateway_id: self.gateway.to_string(),
            gateway_incarnation: self.incarnation,
            stats: self.stats.clone(),
        }
    }
}

/// Adds sessions to the rooms of their users.
fn join(sessions: &[(Address, i64, Told)], of_users: Vec<UserRooms>, rooms: &mut Rooms, outs: &mut Vec<Out>) {
    let mut addresses: HashMap<i64, Vec<Address>> = HashMap::new();
    for (address, user_id, _) in sessions {
        addresses.entry(*user_id).or_default().push(*address);
    }
    for UserRooms { user_id, rooms: of_user } in of_users {
        let user_id = user_id.parse().unwrap_or_default();
        for address in addresses.get(&user_id).into_iter().flatten() {
            for Room { conversation_id, version } in &of_user {
                rooms.registered(conversation_id, *version, *address, outs);
            }
        }
    }
}

fn fetched(answer: GetRoomResponse) -> Fetched {
    let GetRoomResponse { version, member_count, addresses, exists } = answer;
    Fetched { version, member_count, exists, addresses: addresses.into_iter().map(Address).collect() }
}

/// Calls to repo.
struct Fetcher {
    presence: OnlineStatusServiceClient<Channel>,
    gateway_id: String,
    gateway_incarnation: u64,
    stats: RoomStats,
}

impl Fetcher {
    /// Asks until there is an answer: what waits for it is bounded, and nobody else knows who belongs to the room.
    async fn run(mut self, conversation: Box<str>, rounds: u32) -> (Box<str>, GetRoomResponse) {
        let mut backoff = Backoff::default();
        for _ in 1..rounds {
            tokio::time::sleep(backoff.next_delay()).await;
        }
        loop {
            let request = GetRoomRequest {
                conversation_id: conversation.to_string(),
                gateway_id: self.gateway_id.clone(),
                gateway_incarnation: self.gateway_incarnation,
            };
            match self.presence.get_room(rpc::request(request, FETCH_DEADLINE)).await {
                Ok(answer) => return (conversation, answer.into_inner()),
                Err(status) => {
                    self.stats.failed.inc();
                    tracing::warn!(%conversation, %status, "a room was not fetched");
                }
            }
            tokio::time::sleep(backoff.next_delay().min(FETCH_DELAY_MAX)).await;
        }
    }

    /// Names all rooms to repo; answers with those of which it knows another version, as they were named.
    async fn reconcile(mut self, versions: Reconciled) -> Reconciled {
        let mut outdated = Vec::new();
        for named in versions.chunks(RECONCILE_ROOMS) {
            let room = |(conversation, version): &(Box<str>, i64)| Room {
                conversation_id: conversation.to_string(),
                version: *version,
            };
            let request = ReconcileRoomsRequest {
                gateway_id: self.gateway_id.clone(),
                gateway_incarnation: self.gateway_incarnation,
                rooms: named.iter().map(room).collect(),
            };
            match self.presence.reconcile_rooms(rpc::request(request, RECONCILE_DEADLINE)).await {
                Ok(answer) => {
                    let said: std::collections::HashSet<String> = answer.into_inner().outdated.into_iter().collect();
                    outdated.extend(named.iter().filter(|(name, _)| said.contains(&**name)).cloned());
                }
                Err(status) => {
                    self.stats.failed.inc();
                    tracing::warn!(%status, "rooms were not reconciled");
                }
            }
        }
        outdated
    }
}

//! One run: two logic writers, a task, repo on a store and a cache that fail, clients that send until they are told.
//!
//! Owns the composition and the timeline. Everything runs on one thread in virtual time from one seed.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::{Durability, partition_of};
use gochat_infra::cache::memory::{MemoryCache, MemoryCacheConfig};
use gochat_infra::clock::Clock;
use gochat_infra::coord::local::LocalCoord;
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::uid::Snowflake;
use gochat_logic::{Logic, LogicConfig, LogicDeps, OmittedRules};
use gochat_proto::bus::v1::PersistRecord;
use gochat_proto::common::v1::Message;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::logic::v1::GetMessagesRequest;
use gochat_proto::im::logic::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusServiceServer;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_server::PipelineServiceServer;
use gochat_proto::topics;
use gochat_repo::{Repo, RepoConfig};
use gochat_task::{Task, TaskConfig, TaskDeps};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::Broken;
use crate::aftermath::{self, Snapshot};
use crate::book::{Book, Ready};
use crate::bus::{Logs, SimBus};
use crate::cache::SimCache;
use crate::chaos::{Chaos, Process};
use crate::clients::{PARTITIONS, entries, send};
use crate::crowd::Crowd;
use crate::services::{DisturbedPipeline, Everybody};
use crate::store::MemoryStore;

/// Index of the task process; 0 and 1 are the logic writers.
pub(crate) const TASK: usize = 2;
/// Virtual time until everything must have come to rest after the last fault.
const REST: Duration = Duration::from_secs(900);
/// Larger groups are fanned out by task.
const ROOM_MEMBERS_MAX: i32 = 22;
const DOWNSTREAM: &str = "gochat.messages.downstream.gateway-1";

/// Virtual wall clock: starts at a fixed time and follows the runtime.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn unix_ms(&self) -> i64 {
        1_800_000_000_000 + self.0.elapsed().as_millis() as i64
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// A running process.
struct Running {
    process: Arc<Process>,
    job: JoinHandle<()>,
    channel: Channel,
    _shutdown: watch::Sender<bool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.abort();
    }
}

/// What all processes share beside bus, store and cache.
struct Site {
    clock: Arc<dyn Clock>,
    coord: Arc<LocalCoord>,
    gateways: watch::Sender<Vec<GatewayId>>,
    /// Writers started so far: each makes ids of its own.
    starts: u64,
}

/// What is not as it should be in a run.
struct Rules {
    without: OmittedRules,
    broken: Option<Broken>,
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) chaos: Arc<Chaos>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) store: MemoryStore,
    pub(crate) cache: Arc<SimCache>,
    pub(crate) book: Arc<Book>,
    /// One machine that dies as a whole, instead of processes that die alone.
    pub(crate) embedded: bool,
    site: Site,
    repo: Repo,
    rules: Rules,
    /// Members who come and go.
    wanderers: JoinSet<()>,
    running: [Option<Running>; 3],
    /// Faults so far, for a failing seed.
    pub(crate) story: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, without: OmittedRules, broken: Option<Broken>) -> Result<World, String> {
        let chaos = Arc::new(Chaos::new(seed, [0, 2, 8][seed as usize % 3]));
        let embedded = chaos.one_in(3);
        let mut conversations: Vec<(String, Vec<i64>)> =
            (0..=chaos.below(2) as i64).map(|n| (format!("single_1_{}", n + 2), vec![1, n + 2])).collect();
        let mut comers = Vec::new();
        if chaos.one_in(2) {
            // Around both sizes at which the way of a push changes.
            let size = [3, 8, 21, 22, 25][chaos.below(5) as usize];
            conversations.push(("group".to_owned(), (1..=size).collect()));
            comers = (3.max(size - 1)..=size).map(|user| ("group".to_owned(), user)).collect();
        }
        let sent = entries(&chaos, &conversations);
        let store = MemoryStore::new(chaos.clone(), conversations, broken);
        let book = Arc::new(Book::new(sent, Crowd::new(comers, store.database.clone())));
        let observed = book.clone();
        let logs = Logs::new(chaos.clone(), Box::new(move |value| observed.hear(value)));
        logs.create(topics::MESSAGES_UPSTREAM, PARTITIONS, Durability::Written);
        logs.create(topics::MESSAGES_PERSIST, PARTITIONS, Durability::Durable);
        logs.create(DOWNSTREAM, 1, Durability::Written);
        logs.create(topics::TASKS_FANOUT, PARTITIONS, Durability::Written);
        logs.create(topics::CONVERSATION_EVENTS, PARTITIONS, Durability::Durable);
        logs.create(topics::MESSAGE_EVENTS, PARTITIONS, Durability::Durable);
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let memory = MemoryCache::new(MemoryCacheConfig { bytes_max: 1 << 20, clock: clock.clone() });
        let cache = SimCache::new(chaos.clone(), memory);
        let repo = new_repo(&store, &cache, &clock)?;
        let running = [None, None, None];
        let mut world = World {
            chaos,
            logs,
            store,
            cache,
            book,
            embedded,
            site: Site {
                coord: Arc::new(LocalCoord::new(clock.clone())),
                gateways: watch::Sender::new(GatewayId::new(1).into_iter().collect()),
                clock,
                starts: 0,
            },
            repo,
            rules: Rules { without, broken },
            wanderers: JoinSet::new(),
            running,
            story: Vec::new(),
        };
        for partition in 0..PARTITIONS {
            let owner = if embedded { 0 } else { world.chaos.below(2) as usize };
            world.logs.give(topics::MESSAGES_UPSTREAM, partition, owner);
            world.logs.give(topics::MESSAGES_PERSIST, partition, TASK);
            world.logs.give(topics::TASKS_FANOUT, partition, TASK);
        }
        world.start_missing()?;
        world.wander();
        Ok(world)
    }

    /// Starts what does not run.
    pub(crate) fn start_missing(&mut self) -> Result<(), String> {
        for id in 0..self.running.len() {
            if self.running[id].is_none() && !(self.embedded && id == 1) {
                self.running[id] = Some(self.start(id)?);
            }
        }
        Ok(())
    }

    fn start(&mut self, id: usize) -> Result<Running, String> {
        let process = Arc::new(Process::new(id));
        let bus = Arc::new(SimBus { logs: self.logs.clone(), process: process.clone() });
        let direct = self.repo.add_to(Channel::in_process()).build(RpcOptions::default());
        let pipeline = DisturbedPipeline {
            inner: PipelineServiceClient::new(direct),
            chaos: self.chaos.clone(),
            process: process.clone(),
        };
        let repo = self
            .repo
            .add_to(Channel::in_process())
            .add(PipelineServiceServer::new(pipeline))
            .add(OnlineStatusServiceServer::new(Everybody { chaos: self.chaos.clone() }))
            .build(RpcOptions::default());
        let (sender, shutdown) = watch::channel(false);
        if id == TASK {
            let deps = TaskDeps {
                repo: repo.clone(),
                bus,
                clock: self.site.clock.clone(),
                coord: self.site.coord.clone(),
                gateways: self.site.gateways.subscribe(),
            };
            let job = tokio::spawn(Task::new(deps, TaskConfig::default()).run(shutdown));
            return Ok(Running { process, job, channel: repo, _shutdown: sender });
        }
        self.site.starts += 1;
        let uid = Snowflake::new(self.site.starts as u16, self.site.clock.clone()).map_err(|e| e.to_string())?;
        let mut config = LogicConfig::new(vec![7; 32].into());
        config.pipeline.without = self.rules.without;
        config.pipeline.room_members_max = ROOM_MEMBERS_MAX;
        let deps = LogicDeps {
            repo,
            bus,
            gateways: self.site.gateways.subscribe(),
            uid: Arc::new(uid),
            clock: self.site.clock.clone(),
        };
        let logic = Logic::new(deps, config).map_err(|e| e.to_string())?;
        let channel = Channel::in_process().add(logic.conversation_service()).build(RpcOptions::default());
        let job = tokio::spawn(logic.pipeline().run(shutdown));
        Ok(Running { process, job, channel, _shutdown: sender })
    }

    /// A process dies; a logic writer's partitions go to whoever is drawn.
    pub(crate) fn kill(&mut self, id: usize) {
        self.running[id] = None;
        let own: &[&str] = match id {
            TASK => &[topics::MESSAGES_PERSIST, topics::TASKS_FANOUT],
            _ => &[topics::MESSAGES_UPSTREAM],
        };
        for (topic, partition) in own.iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
        {
            if self.logs.owner(topic, partition) == id {
                let next = if id == TASK || self.embedded { id } else { self.chaos.below(2) as usize };
                self.logs.give(topic, partition, next);
            }
        }
    }

    /// Lets members come and go from now on.
    fn wander(&mut self) {
        self.wanderers = JoinSet::new();
        let repo = self.repo.add_to(Channel::in_process()).build(RpcOptions::default());
        for comer in self.book.crowd.comers.clone() {
            let (book, chaos, repo) = (self.book.clone(), self.chaos.clone(), repo.clone());
            self.wanderers.spawn(async move { book.crowd.wander(comer, chaos, repo).await });
        }
    }

    /// The machine dies with everything in it.
    pub(crate) fn crash(&mut self) -> Result<(), String> {
        for id in 0..self.running.len() {
            self.running[id] = None;
        }
        self.logs.crash();
        self.cache.lose_everything();
        self.store = self.store.reopened();
        self.repo = new_repo(&self.store, &self.cache, &self.site.clock)?;
        self.wander();
        for id in 0..self.running.len() {
            self.kill(id);
        }
        self.start_missing()
    }

    pub(crate) fn freeze(&self, id: usize, frozen: bool) {
        if let Some(running) = &self.running[id] {
            running.process.freeze(frozen);
        }
    }

    pub(crate) fn owner(&self) -> usize {
        self.logs.owner(topics::MESSAGES_UPSTREAM, self.chaos.below(PARTITIONS.into()) as u32)
    }

    /// The group takes a writer for dead: the other gets its partitions.
    pub(crate) fn replace(&self, id: usize) {
        for partition in 0..PARTITIONS {
            if self.logs.owner(topics::MESSAGES_UPSTREAM, partition) == id {
                self.logs.give(topics::MESSAGES_UPSTREAM, partition, 1 - id);
            }
        }
    }

    /// Clients of the run: each message is sent at a random time, maybe repeated at once, then until it is told.
    pub(crate) fn clients(&self) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for index in 0..self.book.sent.len() {
            let (chaos, logs, book) = (self.chaos.clone(), self.logs.clone(), self.book.clone());
            clients.spawn(async move {
                sleep(Duration::from_millis(chaos.below(2_500))).await;
                loop {
                    match book.ready(index) {
                        Ready::Yes => break,
                        Ready::NotYet => sleep(Duration::from_millis(1 + chaos.below(50))).await,
                        Ready::Never => return,
                    }
                }
                for _ in 0..chaos.below(3) {
                    send(&logs, &book, index);
                    sleep(Duration::from_millis(chaos.below(400))).await;
                }
                while !book.is_told(index) {
                    send(&logs, &book, index);
                    sleep(Duration::from_millis(200 + chaos.below(1_500))).await;
                }
            });
        }
        clients
    }

    /// Looks at the invariant of D2 whenever a log has changed.
    pub(crate) fn watch(&self, watchers: &mut JoinSet<()>) {
        let (logs, store, book) = (self.logs.clone(), self.store.clone(), self.book.clone());
        watchers.spawn(async move {
            loop {
                logs.changed.notified().await;
                let inner = crate::chaos::locked(&store.database.inner);
                for conversation in inner.tables.conversations.values() {
                    let partition = partition_of(conversation.id.as_bytes(), PARTITIONS);
                    let stored = inner.tables.logs.get(&partition).map_or(0, |log| log.next_offset);
                    if logs.end(topics::MESSAGES_PERSIST, partition) == Some(stored) {
                        book.check_instant(&conversation.id, &inner.tables);
                    }
                }
            }
        });
    }

    /// Asks for a history and checks it when it says that it is complete.
    pub(crate) fn read(&self, readers: &mut JoinSet<()>) {
        let Some(running) = &self.running[0] else { return };
        let sent = &self.book.sent[self.chaos.below(self.book.sent.len() as u64) as usize];
        let request = GetMessagesRequest {
            user_id: "1".to_owned(),
            conversation_id: sent.conversation.clone(),
            limit: 100,
            ascending: true,
            ..GetMessagesRequest::default()
        };
        let (book, mut logic) = (self.book.clone(), ConversationServiceClient::new(running.channel.clone()));
        let store = self.store.clone();
        readers.spawn(async move {
            let acknowledged = book.acknowledged(&request.conversation_id);
            let term = store.term();
            // The model judges an answer as one instant; one that spans a failover of the store is none.
            let conversation = request.conversation_id.clone();
            if let Ok(answer) = logic.get_messages(request).await
                && answer.get_ref().complete
                && store.term() == term
            {
                let answer = answer.into_inner();
                book.check_complete(&acknowledged, &answer.messages);
                let line = |m: &Message| (m.seq_id, m.id.parse().unwrap_or_default(), m.deleted);
                let lines = answer.messages.iter().map(line).collect();
                book.keep(&conversation, Snapshot { term, through: answer.stored_through_seq, lines });
            }
        });
    }

    /// Waits for rest and judges the run: its story, behind its violations if there are any.
    pub(crate) async fn finish(mut self, mut clients: JoinSet<()>) -> Result<Vec<String>, Vec<String>> {
        self.chaos.calm();
        for id in 0..self.running.len() {
            self.freeze(id, false);
        }
        self.start_missing().map_err(|e| vec![e])?;
        let until = Instant::now() + REST;
        let mut violations = Vec::new();
        while !self.is_at_rest() {
            if Instant::now() > until {
                violations.push("5: the pipeline does not come to rest".to_owned());
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        self.wanderers.abort_all();
        clients.abort_all();
        while clients.join_next().await.is_some() {}
        let inner = crate::chaos::locked(&self.store.database.inner);
        violations.extend(inner.violations.iter().cloned());
        violations.extend(self.book.audit(&inner.tables, inner.term, self.rules.broken == Some(Broken::RecallsUnread)));
        let events = |topic| (0..PARTITIONS).flat_map(|p| self.logs.values(topic, p)).collect();
        let (members, messages) = (events(topics::CONVERSATION_EVENTS), events(topics::MESSAGE_EVENTS));
        violations.extend(aftermath::check_events(&inner.tables, members, messages));
        let mut story = self.story.clone();
        story.extend(self.book.describe());
        story.extend((0..PARTITIONS).flat_map(|partition| self.describe_log(partition)));
        if violations.is_empty() {
            return Ok(story);
        }
        violations.extend(story);
        Err(violations)
    }

    /// A line for each record of a persist partition.
    fn describe_log(&self, partition: u32) -> Vec<String> {
        let records = self.logs.values(topics::MESSAGES_PERSIST, partition);
        let lines = records.into_iter().enumerate().map(|(offset, value)| {
            let Ok(record) = PersistRecord::decode(value) else { return format!("{partition}/{offset}: undecodable") };
            let messages = record.messages.iter().map(|m| {
                let index = m.origin.map_or(0, |o| o.address) as i64 - 1;
                format!(" [message {index}: {} seq {}]", m.message_id, m.seq_id)
            });
            format!("log {partition}/{offset}: epoch {}{}", record.epoch, messages.collect::<String>())
        });
        lines.collect()
    }

    fn is_at_rest(&self) -> bool {
        let inner = crate::chaos::locked(&self.store.database.inner);
        let consumed = (0..PARTITIONS).all(|partition| {
            let stored = inner.tables.logs.get(&partition).map_or(0, |log| log.next_offset);
            Some(stored) == self.logs.end(topics::MESSAGES_PERSIST, partition)
                && Some(self.logs.committed(topics::MESSAGES_UPSTREAM, partition))
                    == self.logs.end(topics::MESSAGES_UPSTREAM, partition)
        });
        consumed && inner.tables.outbox.is_empty() && self.book.all_told()
    }
}

fn new_repo(store: &MemoryStore, cache: &Arc<SimCache>, clock: &Arc<dyn Clock>) -> Result<Repo, String> {
    let uid = Snowflake::new(0, clock.clone()).map_err(|e| e.to_string())?;
    // A short hash and small blocks: collisions and reservations belong to every run.
    let config = RepoConfig { sequence_block: 2, password_checks: 1, claim_hash_bits: 6, clock: clock.clone() };
    Ok(Repo::new(Arc::new(store.clone()), cache.clone(), Arc::new(uid), config))
}

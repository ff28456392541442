//! What preparing and saving messages costs in the store's process: microseconds a batch and a message, by wall clock and
//! by processor time. It calls the pipeline's services as logic and task do; nothing else runs meanwhile.

#![allow(clippy::print_stdout, reason = "a tool: what it prints is its answer")]

use clap::Parser;
use gochat_infra::cache::memory::MemoryCache;
use gochat_infra::clock::SystemClock;
use gochat_infra::rpc::{Channel, RpcOptions, request};
use gochat_infra::uid::Snowflake;
use gochat_proto::bus::v1::{PersistMessage, PersistRecord};
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{
    DrawEpochRequest, DrawEpochResponse, PrepareConversation, PrepareItem, PrepareMessagesRequest,
    PrepareMessagesResponse, SaveRecord, SaveRecordsRequest,
};
use gochat_repo::store::Store;
use gochat_repo::store::conversation::NewConversation;
use gochat_repo::store::user::NewUser;
use gochat_repo::{Repo, RepoConfig, SqliteConfig, open_sqlite};
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITION: u32 = 0;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Unix milliseconds of everything stored.
const NOW: i64 = 1_800_000_000_000;

#[derive(Parser)]
struct Arguments {
    /// Pairs of users that write to each other, in turn.
    #[arg(long, default_value_t = 500)]
    pairs: usize,
    /// Messages a batch, one row of the table each.
    #[arg(long, value_delimiter = ',', default_value = "1,100,500,2000")]
    batches: Vec<usize>,
    /// Messages for each size of batch; batches of one get a hundredth of it.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Messages stored before anything is measured.
    #[arg(long, default_value_t = 200_000)]
    fill: usize,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 64)]
    content: usize,
    /// Where the database is made and removed again: the disk that is measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir_in(&arguments.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments, directory.path()))
}

async fn run(arguments: &Arguments, directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut writer = Writer::new(directory, arguments.pairs, "x".repeat(arguments.content)).await?;
    writer.run(arguments.fill, 2000).await?;
    println!("microseconds, wall / processor; {} pairs, {} stored before", arguments.pairs, arguments.fill);
    println!("{:>6} {:>23} {:>23} {:>23} {:>23}", "batch", "prepare a batch", "a message", "save a batch", "a message");
    for size in arguments.batches.iter().copied().filter(|size| *size > 0) {
        let messages = if size == 1 { arguments.messages / 100 } else { arguments.messages };
        let (prepare, save) = writer.run(messages.max(size), size).await?;
        let [p, q, r, s] = [prepare.each(1), prepare.each(size), save.each(1), save.each(size)];
        println!("{size:>6} {p:>23} {q:>23} {r:>23} {s:>23}");
    }
    Ok(())
}

/// Time spent in one kind of call.
#[derive(Default)]
struct Spent {
    wall: Duration,
    processor: Duration,
    calls: u32,
}

impl Spent {
    /// Averages over calls of so many messages, in microseconds.
    fn each(&self, messages: usize) -> String {
        let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / f64::from(self.calls) / messages as f64;
        format!("{:.1} / {:.1}", micros(self.wall), micros(self.processor))
    }

    async fn add<T>(&mut self, call: impl Future<Output = T>) -> T {
        let (wall, processor) = (Instant::now(), processor_time());
        let answer = call.await;
        self.wall += wall.elapsed();
        self.processor += processor_time().saturating_sub(processor);
        self.calls += 1;
        answer
    }
}

/// Of all threads of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A writer of the pipeline: prepares batches, and saves each as one record.
struct Writer {
    pipeline: PipelineServiceClient<Channel>,
    epoch: DrawEpochResponse,
    pairs: Vec<String>,
    tops: Vec<i64>,
    content: String,
    sent: usize,
    next_offset: i64,
}

impl Writer {
    async fn new(directory: &Path, pairs: usize, content: String) -> Result<Writer, Box<dyn Error>> {
        let store = open_sqlite(SqliteConfig::new(directory.join("store_cost.sqlite"))).await?;
        let names = fill_accounts(&*store, pairs).await?;
        let clock = SystemClock::shared();
        let uid = Arc::new(Snowflake::new(1, clock)?);
        let repo = Repo::new(store, Arc::new(MemoryCache::default()), uid, RepoConfig::default());
        let channel = repo.add_to(Channel::in_process()).build(RpcOptions::default());
        let mut pipeline = PipelineServiceClient::new(channel);
        let draw = request(DrawEpochRequest { partition: PARTITION }, TIMEOUT);
        let epoch = pipeline.draw_epoch(draw).await?.into_inner();
        Ok(Writer { pipeline, epoch, tops: vec![0; pairs], pairs: names, content, sent: 0, next_offset: 0 })
    }

    /// Sends so many messages in batches of one size.
    async fn run(&mut self, messages: usize, size: usize) -> Result<(Spent, Spent), Box<dyn Error>> {
        let (mut prepare, mut save) = (Spent::default(), Spent::default());
        for _ in 0..messages / size {
            let asked = self.batch(size);
            let ask = request(asked.clone(), TIMEOUT);
            let prepared = prepare.add(self.pipeline.prepare_messages(ask)).await?.into_inner();
            let record = self.record(asked, prepared);
            let record = SaveRecord { offset: self.next_offset, record: record.encode_to_vec().into() };
            let ask = request(SaveRecordsRequest { partition: PARTITION, records: vec![record] }, TIMEOUT);
            let answer = save.add(self.pipeline.save_records(ask)).await?.into_inner();
            self.next_offset = answer.next_offset;
            if answer.saved as usize != size {
                return Err(format!("{} of {size} messages were stored", answer.saved).into());
            }
        }
        Ok((prepare, save))
    }

    /// The next messages, in turn from all pairs.
    fn batch(&mut self, size: usize) -> PrepareMessagesRequest {
        let count = self.pairs.len().min(size);
        let first = self.sent % self.pairs.len();
        let mut conversations: Vec<PrepareConversation> = (0..count)
            .map(|i| {
                let pair = (first + i) % self.pairs.len();
                let conversation_id = self.pairs[pair].clone();
                PrepareConversation { conversation_id, top_seq: self.tops[pair], items: Vec::new() }
            })
            .collect();
        for i in 0..size {
            let pair = (first + i) % self.pairs.len();
            self.sent += 1;
            let number = self.sent as i64;
            conversations[i % count].items.push(PrepareItem {
                offset: number,
                sender_id: user_of(pair, number),
                client_msg_id: format!("01989f3e-7a1b-7000-8000-{number:012x}"),
                content_hash: u128::from(number.unsigned_abs()).to_be_bytes().to_vec().into(),
                message_id: number,
                created_at_ms: NOW + number,
                ..PrepareItem::default()
            });
        }
        let DrawEpochResponse { epoch, incarnation } = self.epoch;
        PrepareMessagesRequest { partition: PARTITION, epoch, incarnation, conversations, targets_final: false }
    }

    fn record(&mut self, asked: PrepareMessagesRequest, prepared: PrepareMessagesResponse) -> PersistRecord {
        let mut messages = Vec::new();
        for (asked, prepared) in asked.conversations.into_iter().zip(prepared.conversations) {
            for (item, done) in asked.items.into_iter().zip(&prepared.items) {
                messages.push(PersistMessage {
                    message_id: done.message_id,
                    conversation_id: asked.conversation_id.clone(),
                    conversation_type: 1,
                    sender_id: item.sender_id,
                    message_type: 1,
                    content: self.content.clone(),
                    seq_id: done.seq_id,
                    client_msg_id: item.client_msg_id,
                    content_hash: item.content_hash,
                    created_at_ms: done.created_at_ms,
                    ..PersistMessage::default()
                });
            }
            if let Some(pair) = self.pairs.iter().position(|name| *name == asked.conversation_id) {
                self.tops[pair] = prepared.items.last().map_or(0, |item| item.seq_id);
            }
        }
        PersistRecord { epoch: self.epoch.epoch, marker: false, messages }
    }
}

/// The two users of a pair write in turn.
fn user_of(pair: usize, number: i64) -> i64 {
    2 * pair as i64 + 1 + number % 2
}

/// Two accounts and a conversation for each pair; answers with the names of the conversations.
async fn fill_accounts(store: &dyn Store, pairs: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let user = |id: i64| NewUser {
        id,
        username: format!("user{id}"),
        password_hash: String::new(),
        avatar_url: String::new(),
        is_guest: false,
        created_at_ms: NOW,
    };
    store.create_users((1..=2 * pairs as i64).map(user).collect()).await?;
    let mut names = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        let (low, high) = (user_of(pair, 0), user_of(pair, 1));
        let new = NewConversation {
            id: format!("single_{low}_{high}"),
            kind: 1,
            name: String::new(),
            avatar_url: String::new(),
            description: String::new(),
            owner_id: 0,
            settings: String::new(),
            members: vec![(low, 1), (high, 1)],
            operator: 0,
            created_at_ms: NOW,
        };
        names.push(new.id.clone());
        store.create_conversation(new).await?;
    }
    Ok(names)
}

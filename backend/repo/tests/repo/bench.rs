//! A repo in a temporary directory, with the calls that the tests make again and again.

use gochat_infra::cache::memory::{MemoryCache, MemoryCacheConfig};
use gochat_infra::clock::ManualClock;
use gochat_infra::rpc::{Channel, RpcOptions, request};
use gochat_infra::uid::Snowflake;
use gochat_proto::bus::v1::{Origin, PersistMessage, PersistRecord};
use gochat_proto::events::Event;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::message_service_client::MessageServiceClient;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::token_service_client::TokenServiceClient;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use gochat_proto::im::repo::v1::*;
use gochat_repo::store::Store;
use gochat_repo::store::user::NewUser;
use gochat_repo::{Repo, RepoConfig, SqliteConfig, open_sqlite};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

pub(crate) const NOW: i64 = 1_800_000_000_000;
/// The upstream and persist partition of all tests.
pub(crate) const PARTITION: u32 = 3;
pub(crate) const CHAT: &str = "single_1_2";

pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<MemoryCache>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) channel: Channel,
    directory: Option<tempfile::TempDir>,
}

/// What a test wants of an item: offset, sender, client_msg_id, content.
pub(crate) type Asked<'a> = (i64, i64, &'a str, &'a str);

impl Bench {
    /// Users 1, 2, 3 and the chat of 1 and 2.
    pub(crate) async fn new() -> Bench {
        Bench::with_hash_bits(64).await
    }

    pub(crate) async fn with_hash_bits(claim_hash_bits: u32) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let sqlite = SqliteConfig { clock: clock.clone(), ..SqliteConfig::new(directory.path().join("gochat.db")) };
        let store = open_sqlite(sqlite).await.unwrap();
        let cache = MemoryCacheConfig { clock: clock.clone(), ..MemoryCacheConfig::default() };
        let cache = Arc::new(MemoryCache::new(cache));
        let uid = Arc::new(Snowflake::new(1, clock.clone()).unwrap());
        let config = RepoConfig { claim_hash_bits, clock: clock.clone(), ..RepoConfig::default() };
        let repo = Repo::new(store.clone(), cache.clone(), uid, config);
        let channel = repo.add_to(Channel::in_process()).build(RpcOptions::default());
        let user = |id: i64| NewUser {
            id,
            username: format!("user{id}"),
            password_hash: String::new(),
            avatar_url: String::new(),
            is_guest: false,
            created_at_ms: NOW,
        };
        store.create_users((1..=3).map(user).collect()).await.unwrap();
        let bench = Bench { store, cache, clock, channel, directory: Some(directory) };
        bench.chat(1, 2).await;
        bench
    }

    pub(crate) async fn chat(&self, low: i64, high: i64) -> CreateConversationResponse {
        let create = CreateConversationRequest {
            r#type: 1,
            member_ids: vec![low.to_string(), high.to_string()],
            ..CreateConversationRequest::default()
        };
        self.conversations().create_conversation(ask(create)).await.unwrap().into_inner()
    }

    pub(crate) fn pipeline(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.channel.clone())
    }

    pub(crate) fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel.clone())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel.clone())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub(crate) fn presence(&self) -> OnlineStatusServiceClient<Channel> {
        OnlineStatusServiceClient::new(self.channel.clone())
    }

    /// A new epoch with the incarnation it stands under.
    pub(crate) async fn draw(&self) -> DrawEpochResponse {
        self.pipeline().draw_epoch(ask(DrawEpochRequest { partition: PARTITION })).await.unwrap().into_inner()
    }

    pub(crate) async fn prepare(
        &self,
        writer: DrawEpochResponse,
        chat: &str,
        top_seq: i64,
        asked: &[Asked<'_>],
    ) -> Result<PrepareMessagesResponse, Status> {
        let item = |(offset, sender_id, client_msg_id, content): &Asked<'_>| PrepareItem {
            offset: *offset,
            sender_id: *sender_id,
            client_msg_id: (*client_msg_id).into(),
            content_hash: hash(content).into(),
            message_id: candidate(*offset, writer.epoch),
            created_at_ms: NOW + offset,
            ..PrepareItem::default()
        };
        let items = asked.iter().map(item).collect();
        let request = PrepareMessagesRequest {
            partition: PARTITION,
            epoch: writer.epoch,
            incarnation: writer.incarnation,
            conversations: vec![PrepareConversation { conversation_id: chat.into(), top_seq, items }],
            targets_final: false,
        };
        Ok(self.pipeline().prepare_messages(ask(request)).await?.into_inner())
    }

    /// The items of one prepared conversation.
    pub(crate) async fn prepared(
        &self,
        writer: DrawEpochResponse,
        chat: &str,
        top_seq: i64,
        asked: &[Asked<'_>],
    ) -> Vec<PreparedItem> {
        let answer = self.prepare(writer, chat, top_seq, asked).await.unwrap();
        assert_eq!(answer.incarnation, writer.incarnation);
        answer.conversations.into_iter().next().unwrap().items
    }

    pub(crate) async fn save(&self, records: Vec<(i64, PersistRecord)>) -> SaveRecordsResponse {
        let record =
            |(offset, record): (i64, PersistRecord)| SaveRecord { offset, record: record.encode_to_vec().into() };
        let records = records.into_iter().map(record).collect();
        let request = SaveRecordsRequest { partition: PARTITION, records };
        self.pipeline().save_records(ask(request)).await.unwrap().into_inner()
    }

    pub(crate) async fn history(
        &self,
        start: i64,
        end: i64,
        limit: i32,
        ascending: bool,
    ) -> GetConversationMessagesResponse {
        let request = GetConversationMessagesRequest {
            conversation_id: CHAT.into(),
            start_seq_id: start,
            end_seq_id: end,
            limit,
            ascending,
            ..GetConversationMessagesRequest::default()
        };
        self.messages().get_conversation_messages(ask(request)).await.unwrap().into_inner()
    }

    /// (number, content) of everything stored in the chat, and how far it is stored.
    pub(crate) async fn stored(&self) -> (Vec<(i64, String)>, i64) {
        let page = self.history(0, 0, 200, true).await;
        (page.messages.into_iter().map(|m| (m.seq_id, m.content)).collect(), page.stored_through_seq)
    }

    /// Acknowledgements in the outbox.
    pub(crate) async fn acks(&self) -> Vec<OutboxEntry> {
        self.outbox().await.into_iter().filter(|entry| entry.ack.is_some()).collect()
    }

    /// Events in the outbox, oldest first, which are taken out of it.
    pub(crate) async fn take_events(&self) -> Vec<Event> {
        let entries = self.outbox().await;
        let ids = entries.iter().filter(|entry| entry.event.is_some()).map(|entry| entry.id).collect();
        self.pipeline().delete_outbox(ask(DeleteOutboxRequest { ids })).await.unwrap();
        let event = |entry: OutboxEntry| entry.event.map(|event| Event::from_json(&event.value).unwrap());
        entries.into_iter().filter_map(event).collect()
    }

    /// Everything in the outbox, oldest first.
    pub(crate) async fn outbox(&self) -> Vec<OutboxEntry> {
        let request = ListOutboxRequest { limit: 1000, wait_ms: 0 };
        self.pipeline().list_outbox(ask(request)).await.unwrap().into_inner().entries
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.directory.take());
    }
}

pub(crate) fn ask<T>(message: T) -> tonic::Request<T> {
    request(message, Duration::from_secs(30))
}

/// Candidate message id of a writer for an upstream record.
pub(crate) fn candidate(offset: i64, epoch: i64) -> i64 {
    1_000_000 * epoch + offset + 1
}

pub(crate) fn hash(content: &str) -> Vec<u8> {
    let mut hash = vec![0; 16];
    for (i, byte) in content.bytes().enumerate() {
        hash[i % 16] ^= byte.wrapping_add(i as u8);
    }
    hash
}

/// A message of user 1 in the chat.
pub(crate) fn message(message_id: i64, seq_id: i64, client_msg_id: &str, content: &str) -> PersistMessage {
    PersistMessage {
        message_id,
        conversation_id: CHAT.into(),
        conversation_type: 1,
        sender_id: 1,
        message_type: 1,
        content: content.into(),
        seq_id,
        client_msg_id: client_msg_id.into(),
        content_hash: hash(content).into(),
        created_at_ms: NOW + seq_id,
        origin: Some(Origin { gateway: 7, incarnation: 9, address: 11, request: 0 }),
        ..PersistMessage::default()
    }
}

pub(crate) fn record(epoch: i64, messages: Vec<PersistMessage>) -> PersistRecord {
    PersistRecord { epoch, marker: messages.is_empty(), messages }
}

//! The conversation list is one statement, however long it is (spec 05 §4.1). Counted where sqlx says what it runs; this
//! file is a program of its own because the count is of the whole process.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

use gochat_repo::store::conversation::{ListQuery, NewConversation, Select};
use gochat_repo::store::user::NewUser;
use gochat_repo::{SqliteConfig, open_sqlite};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::span;

struct Counter(Arc<AtomicU64>);

impl tracing::Subscriber for Counter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_one_statement() {
    let count = Arc::new(AtomicU64::new(0));
    tracing::subscriber::set_global_default(Counter(count.clone())).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = open_sqlite(SqliteConfig::new(directory.path().join("gochat.db"))).await.unwrap();
    let user = |id: i64| NewUser {
        id,
        username: format!("user{id}"),
        password_hash: String::new(),
        avatar_url: String::new(),
        is_guest: false,
        created_at_ms: 1,
    };
    store.create_users((1..=150).map(user).collect()).await.unwrap();
    for high in 2..=150 {
        let new = NewConversation {
            id: format!("single_1_{high}"),
            kind: 1,
            name: String::new(),
            avatar_url: String::new(),
            description: String::new(),
            owner_id: 0,
            settings: String::new(),
            members: vec![(1, 1), (high, 1)],
            operator: 0,
            created_at_ms: high,
        };
        store.create_conversation(new).await.unwrap();
    }
    assert!(count.load(Ordering::SeqCst) > 150, "statements are counted");
    let before = count.load(Ordering::SeqCst);
    let query = ListQuery { user: 1, kind: 0, select: Select::Page { offset: 0 }, limit: 200 };
    let rows = store.conversation_list(query).await.unwrap();
    assert_eq!(rows.len(), 149);
    assert!(rows.iter().all(|row| row.peer.is_some()));
    assert_eq!(count.load(Ordering::SeqCst) - before, 1);
    for select in [
        Select::Changed { since_ms: 0, after: (0, 0) },
        Select::Named("user1".into()),
        Select::One("single_1_2".into()),
    ] {
        let before = count.load(Ordering::SeqCst);
        let query = ListQuery { user: 1, kind: 0, select: select.clone(), limit: 200 };
        let rows = store.conversation_list(query).await.unwrap();
        assert!(!rows.is_empty(), "{select:?}");
        assert_eq!(count.load(Ordering::SeqCst) - before, 1, "{select:?}");
    }
}

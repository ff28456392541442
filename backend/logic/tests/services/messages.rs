//! Reading single messages, read marks, typing.

use gochat_infra::bus::{Bus, Record, partition_of};
use gochat_proto::bus::v1::UpstreamMessage;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::logic::v1::*;
use gochat_proto::topics;
use prost::Message as _;
use tonic::{Response, Status};

use crate::chat::{Chat, ask, code};

/// Sends as a gateway does and waits until it is stored; the newest message of the conversation.
async fn send(chat: &Chat, sender: &str, conversation: &str, content: &str) -> gochat_proto::common::v1::Message {
    let message = UpstreamMessage {
        sender_id: sender.parse().unwrap(),
        conversation_id: conversation.into(),
        message_type: 1,
        content: content.into(),
        client_msg_id: content.into(),
        ..UpstreamMessage::default()
    };
    let partitions = chat.bus.partitions(topics::MESSAGES_UPSTREAM).await.unwrap();
    let partition = partition_of(conversation.as_bytes(), partitions);
    let record =
        Record { key: conversation.to_owned().into(), value: message.encode_to_vec().into(), ..Record::default() };
    chat.bus.produce(topics::MESSAGES_UPSTREAM, partition, vec![record]).await.unwrap();
    for _ in 0..200 {
        let read = GetMessagesRequest {
            user_id: sender.into(),
            conversation_id: conversation.into(),
            limit: 20,
            ..GetMessagesRequest::default()
        };
        let page = chat.conversations.clone().get_messages(ask(read)).await.unwrap().into_inner();
        if let Some(found) = page.messages.into_iter().find(|message| message.client_msg_id == content) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{content} was not stored")
}

async fn mark(chat: &Chat, user: &str, conversation: &str, seq_id: i64) -> Result<i64, Status> {
    let mark = MarkAsReadRequest { user_id: user.into(), conversation_id: conversation.into(), seq_id };
    chat.conversations.clone().mark_as_read(ask(mark)).await.map(|answer| answer.into_inner().unread_count)
}

async fn signal(chat: &Chat, user: &str, conversation: &str, kind: &str) -> Result<bool, Status> {
    let signal = SendSignalRequest {
        user_id: user.into(),
        conversation_id: conversation.into(),
        signal_type: kind.into(),
        ..SendSignalRequest::default()
    };
    chat.messages.clone().send_signal(ask(signal)).await.map(|answer| answer.into_inner().accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_for_members_only() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    let single = chat.open_single(&ann, &bob).await.unwrap().into_inner().conversation.unwrap().id;
    let other = chat.open_single(&ann, &eve).await.unwrap().into_inner().conversation.unwrap().id;
    let sent = send(&chat, &ann, &single, "hi").await;
    let get = |user: &str, conversation: &str, message: &str| {
        let get = GetMessageRequest {
            user_id: user.into(),
            conversation_id: conversation.into(),
            message_id: message.into(),
            wait_ms: 1_000,
        };
        let mut messages = chat.messages.clone();
        async move { messages.get_message(ask(get)).await.map(Response::into_inner) }
    };
    let read = get(&bob, &single, &sent.id).await.unwrap().message.unwrap();
    assert_eq!((read.content.as_str(), read.sender.unwrap().username.as_str()), ("hi", "ann"));
    assert_eq!(code(get(&eve, &single, &sent.id).await), ErrorCode::NotConversationMember);
    assert_eq!(code(get(&eve, &other, &sent.id).await), ErrorCode::MessageNotFound, "under another conversation");
    assert_eq!(code(get(&bob, &single, "5").await), ErrorCode::MessageNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_mark_reaches_the_author_and_the_readers_own_connections() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    let group = chat.group(&ann, &[&bob, &eve]).await;
    let single = chat.open_single(&ann, &bob).await.unwrap().into_inner().conversation.unwrap().id;
    for (user, address) in [(&ann, 11), (&bob, 21), (&eve, 31)] {
        chat.connect(user, address).await;
    }
    for conversation in [&single, &group] {
        let sent = send(&chat, &ann, conversation, &format!("hi {conversation}")).await;
        assert_eq!(mark(&chat, &bob, conversation, sent.seq_id).await.unwrap(), 0);
        let read = chat.wire.frame(11, "message-read").await;
        assert_eq!((&read["userId"], &read["seqId"]), (&bob.as_str().into(), &sent.seq_id.into()));
        assert_eq!(read["messageId"], sent.id.as_str());
        let own = chat.wire.frame(21, "conversation-updated").await;
        assert!(own["updates"].get("unreadCount").is_some() || own["updates"].get("conversation").is_some());
    }
    assert_eq!(code(mark(&chat, &eve, &single, 1).await), ErrorCode::NotConversationMember);
    assert_eq!(code(mark(&chat, &bob, &single, -2).await), ErrorCode::InvalidParams);
    assert_eq!(code(mark(&chat, &bob, "group_1", 1).await), ErrorCode::ConversationNotFound);
    mark(&chat, &bob, "world", -1).await.unwrap();
    // The one who wrote nothing was told nothing.
    assert!(!chat.wire.left(31).await.contains(&"message-read".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_is_seen_by_the_others_where_it_is_shown() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    let group = chat.group(&ann, &[&bob]).await;
    let single = chat.open_single(&ann, &bob).await.unwrap().into_inner().conversation.unwrap().id;
    chat.connect(&ann, 11).await;
    chat.connect(&bob, 21).await;
    for (conversation, kind, is_typing) in [(&single, "typing.start", true), (&group, "typing.stop", false)] {
        assert!(signal(&chat, &ann, conversation, kind).await.unwrap());
        let seen = chat.wire.frame(21, "typing-indicator").await;
        assert_eq!((&seen["username"], &seen["isTyping"]), (&"ann".into(), &is_typing.into()));
    }
    assert!(!signal(&chat, &ann, "world", "typing.start").await.unwrap());
    chat.set_muted(&ann, &group, &bob, true).await.unwrap();
    assert!(!signal(&chat, &bob, &group, "typing.start").await.unwrap(), "muted");
    chat.block(&bob, &ann, true).await;
    assert!(!signal(&chat, &ann, &single, "typing.start").await.unwrap(), "blocked");
    assert_eq!(code(signal(&chat, &eve, &group, "typing.start").await), ErrorCode::NotConversationMember);
    assert_eq!(code(signal(&chat, &ann, &group, "typing.loud").await), ErrorCode::InvalidParams);
    assert!(!chat.wire.left(11).await.contains(&"typing-indicator".to_owned()), "not to the typist");
}

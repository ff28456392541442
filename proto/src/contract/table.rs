//! Every frame of `/ws` (spec 02 §3, §4), with its fields: the one table that describes them. Never looks at a frame.

use crate::frames::{CLIENT_MSG_ID_CHARS_MAX, CONTENT_CHARS_MAX, EXTRA_BYTES_MAX, REASON_CHARS_MAX};

/// A kind of frame.
#[derive(Debug)]
pub struct Frame {
    /// Its `type`.
    pub name: &'static str,
    /// What it says.
    pub about: &'static str,
    /// From a client: what answers it. From the server: who gets it.
    pub reply: &'static str,
    /// Fields of `data`; none: the frame has no data.
    pub fields: &'static [Field],
}

/// A field of `data`.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it is always there.
    pub required: bool,
    /// What it says.
    pub about: &'static str,
}

/// What a field can be.
#[derive(Debug)]
pub enum Kind {
    /// A 64-bit number as a decimal string.
    Id,
    /// A text of at most so many characters; 0: no limit of its own.
    Text(usize),
    /// An integer of 0 or above.
    Int,
    /// One of these integers.
    OneOf(&'static [i64]),
    /// One of these texts.
    Word(&'static [&'static str]),
    /// True or false.
    Bool,
    /// An object of the API.
    Object(&'static str),
    /// Objects of the API.
    Objects(&'static str),
    /// An object with these fields.
    Fields(&'static [Field]),
    /// An object with any fields.
    Any,
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: true, about }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

const CONVERSATION: Field = must("conversationId", Kind::Text(64), "Where.");

/// What clients send.
pub const CLIENT_FRAMES: &[Frame] = &[
    Frame {
        name: "send-message",
        about: "A message. The same client_msg_id with the same content is stored once, however often it is sent.",
        reply: "`message-ack` or `error`",
        fields: &[
            CONVERSATION,
            must("content", Kind::Text(CONTENT_CHARS_MAX), "Text, or the address of what was uploaded."),
            must("messageType", Kind::OneOf(&[1, 2, 3, 5, 6]), "1 text, 2 image, 3 file, 5 voice, 6 video."),
            must("client_msg_id", Kind::Text(CLIENT_MSG_ID_CHARS_MAX), "The client's own id of it, new for each."),
            may("extra", Kind::Text(EXTRA_BYTES_MAX), "JSON as a text, at most 4096 bytes."),
            may("tempMessageId", Kind::Text(CLIENT_MSG_ID_CHARS_MAX), "Of older clients; echoed."),
        ],
    },
    Frame {
        name: "mark-read",
        about: "Everything up to a number was read. Merged: at most one a conversation every 500 ms, the highest wins.",
        reply: "`conversation-updated` with the unread count to all connections of the user, or `error`",
        fields: &[CONVERSATION, must("seqId", Kind::Int, "Capped at the highest number there is.")],
    },
    Frame { name: "ping", about: "A sign of life, every 30 s recommended.", reply: "`pong`", fields: &[] },
    Frame {
        name: "typing",
        about: "The user is typing. At most one every 3 s a conversation is passed on, the others are dropped.",
        reply: "none; not in groups of more than 100 members, nor in the world room",
        fields: &[CONVERSATION],
    },
    Frame { name: "stop-typing", about: "The user has stopped typing.", reply: "none", fields: &[CONVERSATION] },
    Frame {
        name: "recall-message",
        about: "A message is taken back: the sender's own within two minutes, as an admin or owner those of others.",
        reply: "`recall-ack` or `error`",
        fields: &[
            CONVERSATION,
            must("messageId", Kind::Id, "Which."),
            may("reason", Kind::Text(REASON_CHARS_MAX), "For those who had it."),
        ],
    },
    Frame {
        name: "auth-refresh",
        about: "A new access token of the same user, so that the connection outlives the old one.",
        reply: "`connected` with the new `expiresAt`, or `error` and close 4001",
        fields: &[must("token", Kind::Text(0), "The access token.")],
    },
];

const SENDER: &[Field] = &[
    must("id", Kind::Id, "The user."),
    may("username", Kind::Text(0), ""),
    may("avatarUrl", Kind::Text(0), ""),
    must("isGuest", Kind::Bool, ""),
];

const UPDATES: &[Field] = &[
    may("name", Kind::Text(0), ""),
    may("avatarUrl", Kind::Text(0), ""),
    may("description", Kind::Text(0), ""),
    may("settings", Kind::Object("Settings"), ""),
    may("lastMessage", Kind::Object("Message"), ""),
    may("unreadCount", Kind::Int, "Of the user; to their own connections only."),
    may("memberCount", Kind::Int, ""),
    may("ownerId", Kind::Id, "The ownership passed."),
    may("infoVersion", Kind::Int, ""),
    may("dissolved", Kind::Bool, "The group has ended."),
    may("conversation", Kind::Object("Conversation"), "The whole of it: it is new to the user."),
];

const DETAILS: &[Field] = &[
    may("client_msg_id", Kind::Text(0), "Of the refused message."),
    may("tempMessageId", Kind::Text(0), "Of the refused message."),
    may("conversationId", Kind::Text(0), "Of the refused frame."),
    may("messageId", Kind::Id, "That a refused recall names."),
    may("field", Kind::Text(0), "The field that was wrong."),
    may("reason", Kind::Text(0), "More precisely, e.g. TOKEN_EXPIRED."),
    may("retryAfter", Kind::Int, "Seconds until a retry makes sense."),
    may("shed", Kind::Int, "Frames dropped for this slow connection since the last report."),
];

/// What the server sends.
pub const SERVER_FRAMES: &[Frame] = &[
    Frame {
        name: "connected",
        about: "The connection is registered: from here on nothing pushed is missed, unless `degraded`.",
        reply: "the new connection, always first; again after `auth-refresh`",
        fields: &[
            must("connectionId", Kind::Id, ""),
            must("userId", Kind::Id, ""),
            must("serverTime", Kind::Int, "Unix second."),
            must("heartbeatInterval", Kind::Int, "Seconds between pings."),
            must("expiresAt", Kind::Int, "Unix second at which the token expires."),
            must("degraded", Kind::Bool, "Pushes may be missed: pull every 30 s."),
            must("message", Kind::Text(0), "For older clients."),
        ],
    },
    Frame {
        name: "new-message",
        about: "A message, or one of the server's own (type 4).",
        reply: "every connection of the members, but not the one that sent it",
        fields: &[
            must("id", Kind::Id, ""),
            CONVERSATION,
            must("conversationType", Kind::OneOf(&[1, 2, 3]), "1 single, 2 group, 3 world."),
            must("senderId", Kind::Id, ""),
            must("sender", Kind::Fields(SENDER), ""),
            must("content", Kind::Text(0), ""),
            must("messageType", Kind::OneOf(&[1, 2, 3, 4, 5, 6]), "4: of the server, `extra` says what happened."),
            must("seqId", Kind::Int, "Its number in the conversation: order and de-duplicate by it."),
            must("createdAt", Kind::Int, "Unix second."),
            may("clientMsgId", Kind::Text(0), ""),
            may("extra", Kind::Text(0), "JSON as a text."),
            may("redelivered", Kind::Bool, "Pushed before, perhaps."),
        ],
    },
    Frame {
        name: "message-ack",
        about: "The message is durable.",
        reply: "the connection that sent it",
        fields: &[
            must("client_msg_id", Kind::Text(0), ""),
            may("tempMessageId", Kind::Text(0), ""),
            must("messageId", Kind::Id, ""),
            must("status", Kind::Word(&["success"]), ""),
            CONVERSATION,
            must("seqId", Kind::Int, ""),
            must("createdAt", Kind::Int, "Unix second."),
            must("duplicate", Kind::Bool, "It was sent before; these are the first one's ids."),
            must(
                "corrected",
                Kind::Bool,
                "Wins over every other ack of the same client_msg_id, whichever comes first.",
            ),
        ],
    },
    Frame {
        name: "recall-ack",
        about: "The recall is durable.",
        reply: "the connection that asked for it",
        fields: &[
            CONVERSATION,
            must("messageId", Kind::Id, "The recalled message."),
            must("position", Kind::Int, "The recall's own number in the conversation."),
            must("recalledAt", Kind::Int, "Unix second."),
            must("duplicate", Kind::Bool, "It was recalled before by the same user."),
        ],
    },
    Frame {
        name: "message-read",
        about: "A member has read up to a number; only where read marks are shown.",
        reply: "single chat: the other; group of up to 100: those whose messages were read",
        fields: &[
            CONVERSATION,
            must("userId", Kind::Id, "Who read."),
            must("seqId", Kind::Int, ""),
            may("messageId", Kind::Id, ""),
        ],
    },
    Frame {
        name: "message-recalled",
        about: "A message was recalled: show it without its content. The recall has a number of its own, `position`.",
        reply: "every connection of the members, but not the one that asked",
        fields: &[
            CONVERSATION,
            must("messageId", Kind::Id, "The recalled message."),
            must("seqId", Kind::Int, "The recalled message's number."),
            must("position", Kind::Int, "The recall's own number."),
            must("operatorId", Kind::Id, ""),
            may("reason", Kind::Text(REASON_CHARS_MAX), ""),
            must("recalledAt", Kind::Int, "Unix second."),
            may("redelivered", Kind::Bool, "Pushed before, perhaps."),
        ],
    },
    Frame {
        name: "online-status",
        about: "A user came or went; going is told when they stay away for 30 s.",
        reply: "friends and those in a single chat with the user",
        fields: &[
            must("userId", Kind::Id, ""),
            must("status", Kind::Word(&["online", "offline"]), ""),
            may("lastSeen", Kind::Int, "Unix second; of offline."),
        ],
    },
    Frame {
        name: "typing-indicator",
        about: "A member is typing, or has stopped. Ends by itself at `expiresAt`.",
        reply: "the other members; may be lost",
        fields: &[
            CONVERSATION,
            must("userId", Kind::Id, ""),
            must("username", Kind::Text(0), ""),
            must("isTyping", Kind::Bool, ""),
            must("expiresAt", Kind::Int, "Unix second."),
        ],
    },
    Frame {
        name: "conversation-updated",
        about: "Something about a conversation changed: only what changed is named.",
        reply: "members; of `unreadCount` only the user's own connections",
        fields: &[
            CONVERSATION,
            must("updates", Kind::Fields(UPDATES), ""),
            may("operatorId", Kind::Id, ""),
            must("updatedAt", Kind::Int, "Unix second."),
        ],
    },
    Frame {
        name: "member-added",
        about: "Users were added.",
        reply: "all members, the new ones too",
        fields: &[
            CONVERSATION,
            must("members", Kind::Objects("Member"), ""),
            must("addedBy", Kind::Id, ""),
            must("memberCount", Kind::Int, ""),
        ],
    },
    Frame {
        name: "member-removed",
        about: "A user was removed, or left.",
        reply: "the remaining members and the removed user",
        fields: &[
            CONVERSATION,
            must("userId", Kind::Id, ""),
            must("removedBy", Kind::Id, "The user themselves: they left."),
            may("reason", Kind::Text(REASON_CHARS_MAX), ""),
            must("memberCount", Kind::Int, ""),
        ],
    },
    Frame {
        name: "member-role-updated",
        about: "A role or a mute changed.",
        reply: "members",
        fields: &[
            CONVERSATION,
            must("userId", Kind::Id, ""),
            must("role", Kind::OneOf(&[1, 2, 3]), "1 member, 2 admin, 3 owner."),
            must("muted", Kind::Bool, ""),
            may("mutedUntil", Kind::Int, "Unix second; absent: no end."),
            may("operatorId", Kind::Id, ""),
        ],
    },
    Frame {
        name: "friend-request-received",
        about: "Somebody asks for friendship.",
        reply: "who is asked",
        fields: &[must("request", Kind::Object("FriendRequest"), "")],
    },
    Frame {
        name: "friend-request-handled",
        about: "A request was decided.",
        reply: "who had asked",
        fields: &[
            must("requestId", Kind::Id, ""),
            must("action", Kind::Word(&["accept", "reject"]), ""),
            must("handlerId", Kind::Id, ""),
        ],
    },
    Frame {
        name: "friend-added",
        about: "Two users are friends.",
        reply: "both",
        fields: &[must("friend", Kind::Object("Friend"), ""), may("conversationId", Kind::Text(64), "")],
    },
    Frame {
        name: "friend-removed",
        about: "Two users are friends no more.",
        reply: "both",
        fields: &[must("friendId", Kind::Id, "The other one.")],
    },
    Frame {
        name: "notification",
        about: "Anything else. `resync`: pushes were lost, pull the conversation that the payload names, or all.",
        reply: "whom it concerns",
        fields: &[must("eventType", Kind::Text(0), ""), must("payload", Kind::Any, "")],
    },
    Frame { name: "pong", about: "The answer to a ping.", reply: "the connection", fields: &[] },
    Frame {
        name: "error",
        about: "A frame was refused, or something was lost.",
        reply: "the connection",
        fields: &[
            must("code", Kind::Text(0), "An error code; branch on it."),
            must("message", Kind::Text(0), "For humans."),
            may("details", Kind::Fields(DETAILS), ""),
        ],
    },
    Frame {
        name: "closing",
        about: "The server is about to close the connection.",
        reply: "the connection; not before 1002 and 1007, nor before `connected`",
        fields: &[
            must("code", Kind::Int, "Of the close frame that follows."),
            must("reason", Kind::Text(0), "For humans."),
            may("reconnectAfterMs", Kind::Int, "When to come back."),
        ],
    },
];

// What the server says by itself. Owns which frame changes what in the store; unknown frames are ignored, as the contract
// asks.

import { ROLE } from "./store.js";

/**
 * The handlers by frame type. `client` is asked for what a frame alone does not tell; `client.said(message)` hears of each
 * message of others that is new.
 */
export function handlers(client) {
  const { store, outbox, sync } = client;

  return {
    "new-message": (data, frame) => {
      const message = { ...data, createdAt: data.createdAt ?? frame.timestamp };
      if (message.senderId === store.me.id && message.clientMsgId) outbox.settle(message.clientMsgId);
      const isKnown = store.conversations.has(message.conversationId);
      const isNew = store.putMessage(message);
      if (!isKnown) return sync.discover(message.conversationId, message);
      sync.watchHole(message.conversationId);
      if (isNew && message.senderId !== store.me.id) client.said(message);
    },

    "message-ack": (data) => {
      const entry = outbox.settle(data.client_msg_id);
      // A correction may name a message that was settled by the plain acknowledgement before it.
      const content = entry?.content ?? (data.corrected ? store.timeline(data.conversationId)?.own(data.client_msg_id, store.me.id)?.content : undefined);
      if (content === undefined) return;
      const message = {
        id: data.messageId, conversationId: data.conversationId, senderId: store.me.id, content, messageType: 1,
        seqId: data.seqId, createdAt: data.createdAt, clientMsgId: data.client_msg_id,
      };
      store.putMessage(message, { isAck: true, isCorrected: data.corrected });
      sync.watchHole(data.conversationId);
    },

    error: (data) => {
      const { client_msg_id: clientMsgId, conversationId, retryAfter, shed } = data.details ?? {};
      if (clientMsgId) outbox.refuse(clientMsgId, data.code, retryAfter);
      if (shed) sync.start();
      if (["NOT_CONVERSATION_MEMBER", "CONVERSATION_DISSOLVED"].includes(data.code)) sync.refresh(conversationId);
    },

    "message-read": (data) => store.putRead(data.conversationId, data.userId, data.seqId),

    "message-recalled": (data) => {
      store.recallMessage(data.conversationId, data.seqId, data.messageId);
      sync.watchHole(data.conversationId);
    },

    "typing-indicator": (data) => store.putTyping(data.conversationId, data.userId, data.username, data.isTyping),

    "online-status": (data) => store.putPresence(data.userId, data.status === "online", data.lastSeen),

    "conversation-updated": (data) => {
      const { conversation, dissolved, lastMessage, ...rest } = data.updates ?? {};
      if (conversation) return store.putConversation({ ...conversation, id: data.conversationId });
      if (dissolved) return store.dropConversation(data.conversationId);
      if (store.wasDropped(data.conversationId)) return;
      if (!store.conversations.has(data.conversationId)) return sync.discover(data.conversationId);
      store.changeConversation(data.conversationId, lastMessage ? { ...rest, lastMessage } : rest);
      if (rest.ownerId || rest.settings) sync.refresh(data.conversationId);
    },

    "member-added": (data) => {
      const id = data.conversationId;
      if (data.members?.some((member) => member.userId === store.me.id)) return sync.discover(id);
      if (data.memberCount) store.changeConversation(id, { memberCount: data.memberCount });
      const added = new Set(data.members?.map((member) => member.userId));
      const held = store.members.get(id);
      if (held) store.putMembers(id, [...held.filter((member) => !added.has(member.userId)), ...data.members]);
    },

    "member-removed": (data) => {
      const id = data.conversationId;
      if (data.userId === store.me.id) return client.removedFrom(id, data.removedBy);
      if (data.memberCount) store.changeConversation(id, { memberCount: data.memberCount });
      const held = store.members.get(id);
      if (held) store.putMembers(id, held.filter((member) => member.userId !== data.userId));
    },

    "member-role-updated": (data) => {
      const id = data.conversationId;
      const change = { role: data.role, muted: data.muted };
      const held = store.members.get(id);
      if (held) store.putMembers(id, held.map((member) => changed(member, data, change)));
      const conversation = store.conversations.get(id);
      if (data.userId === store.me.id && conversation) {
        store.changeConversation(id, { myMembership: { ...conversation.myMembership, ...change } });
      }
      if (data.role === ROLE.owner) store.changeConversation(id, { ownerId: data.userId });
    },

    "friend-request-received": ({ request }) => {
      if (request.requester) store.putUser(request.requester);
      store.changePeople(() => store.received.set(request.id, request));
      client.noticed(`${request.requester?.username ?? "Somebody"} wants to be your friend.`);
    },
    "friend-request-handled": ({ requestId, action }) => {
      const request = store.sent.get(requestId);
      store.changePeople(() => store.sent.delete(requestId));
      if (action === "accept" && request) client.noticed(`${store.nameOf(request.targetId)} accepted your friend request.`);
    },
    "friend-added": ({ friend, conversationId }) => {
      if (friend.friend) store.putUser(friend.friend);
      store.changePeople(() => {
        store.friends.set(friend.friendId, friend);
        for (const [id, request] of store.received) if (request.requesterId === friend.friendId) store.received.delete(id);
        for (const [id, request] of store.sent) if (request.targetId === friend.friendId) store.sent.delete(id);
      });
      client.askPresence([friend.friendId]);
      if (conversationId && !store.conversations.has(conversationId)) sync.discover(conversationId);
    },
    "friend-removed": ({ friendId }) => store.changePeople(() => store.friends.delete(friendId)),
    notification: ({ payload }) => payload?.message && client.noticed(payload.message),
  };
}

const changed = (member, data, change) => (member.userId === data.userId ? { ...member, ...change } : member);

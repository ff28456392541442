// What this page knows: conversations, messages, people, presence, who types. Owns the state and says what changed; never
// talks to the server and never touches the page.
//
// Topics: `list`, `timeline` (conversation id), `people`, `presence`, `typing` (conversation id), `reads` (conversation
// id), `members` (conversation id), `recalled` (message id).

import { Emitter } from "./emitter.js";
import { Timeline } from "./timeline.js";

const TIMELINES_MAX = 12;
const TYPING_MS = 6_000;
export const KIND = { single: 1, group: 2, world: 3 };
export const ROLE = { member: 1, admin: 2, owner: 3 };

export class Store extends Emitter {
  conversations = new Map();
  /** Whether the whole list was fetched once. */
  isListed = false;
  friends = new Map();
  blocked = new Map();
  received = new Map();
  sent = new Map();
  /** User id → `{online, lastSeen}`. */
  presence = new Map();
  /** Conversation id → members, as far as they were fetched. */
  members = new Map();
  /** Conversations that were left, ended or hidden since the page was loaded. */
  #dropped = new Set();
  #users = new Map();
  #timelines = new Map();
  #typing = new Map();
  #reads;

  /** `reads` keeps how far others have read. */
  constructor(me, reads) {
    super();
    this.me = me;
    this.#reads = reads;
  }

  // Conversations

  /** Takes what the server says of a conversation; what it leaves out stays. */
  putConversation(conversation) {
    const held = this.conversations.get(conversation.id);
    const merged = { ...held, ...conversation };
    const [older, newer] = [held?.lastMessage, conversation.lastMessage];
    if (older && (!newer || older.seqId > newer.seqId)) merged.lastMessage = older;
    merged.lastSeqId = Math.max(held?.lastSeqId ?? 0, conversation.lastSeqId ?? 0);
    this.conversations.set(conversation.id, merged);
    this.#dropped.delete(conversation.id);
    for (const user of [merged.peer, merged.lastMessage?.sender]) if (user) this.putUser(user);
    this.emit("list");
    this.emit("timeline", conversation.id);
  }

  changeConversation(id, changes) {
    const held = this.conversations.get(id);
    if (!held) return;
    Object.assign(held, changes);
    this.emit("list");
    if (Object.keys(changes).some((key) => key !== "unreadCount")) this.emit("timeline", id);
  }

  dropConversation(id) {
    if (!this.conversations.delete(id)) return;
    this.#dropped.add(id);
    this.#timelines.delete(id);
    this.members.delete(id);
    this.emit("list");
  }

  wasDropped(id) {
    return this.#dropped.has(id);
  }

  /** The world room first, then the newest activity. */
  listed() {
    const rank = (conversation) => (conversation.type === KIND.world ? Infinity : activity(conversation));
    return [...this.conversations.values()].sort((a, b) => rank(b) - rank(a));
  }

  singleWith(userId) {
    for (const conversation of this.conversations.values()) if (conversation.peer?.id === userId) return conversation;
    return null;
  }

  get unreadTotal() {
    let total = 0;
    for (const { unreadCount = 0 } of this.conversations.values()) total += unreadCount;
    return total;
  }

  // Messages

  /** The messages of a conversation when they are held, else nothing. */
  timeline(id) {
    return this.#timelines.get(id);
  }

  /** Begins to hold a conversation's messages; the one not looked at for longest is let go. */
  holdTimeline(id) {
    const timeline = this.#timelines.get(id) ?? new Timeline();
    this.#timelines.delete(id);
    this.#timelines.set(id, timeline);
    if (this.#timelines.size > TIMELINES_MAX) this.#timelines.delete(this.#timelines.keys().next().value);
    return timeline;
  }

  dropTimeline(id) {
    this.#timelines.delete(id);
  }

  heldTimelines() {
    return [...this.#timelines.keys()];
  }

  /** Takes a message that came by itself. True when it was not known. */
  putMessage(message, { isAck = false, isCorrected = false } = {}) {
    if (message.sender) this.putUser(message.sender);
    const conversation = this.conversations.get(message.conversationId);
    const timeline = this.#timelines.get(message.conversationId);
    const isNew = message.seqId > (conversation?.lastSeqId ?? 0);
    if (conversation) {
      conversation.lastSeqId = Math.max(conversation.lastSeqId ?? 0, message.seqId);
      if (message.messageType !== 4 && message.seqId > (conversation.lastMessage?.seqId ?? 0)) {
        conversation.lastMessage = message;
        conversation.updatedAt = Math.max(conversation.updatedAt ?? 0, message.createdAt);
      }
    }
    const isUnknown = timeline ? !timeline.at(message.seqId) : isNew;
    if (timeline && isAck) timeline.acknowledge(message, isCorrected);
    else timeline?.push(message);
    this.#stopTyping(message.conversationId, message.senderId);
    this.emit("list");
    this.emit("timeline", message.conversationId);
    return isUnknown;
  }

  recallMessage(conversationId, seqId, messageId) {
    this.#timelines.get(conversationId)?.recall(seqId, messageId);
    this.emit("recalled", messageId);
    const last = this.conversations.get(conversationId)?.lastMessage;
    if (last?.id === messageId) Object.assign(last, { deleted: true, content: "" });
    this.emit("list");
    this.emit("timeline", conversationId);
  }

  /** Somebody has read up to a number. */
  putRead(conversationId, userId, seqId) {
    if (this.#reads.put(conversationId, userId, seqId)) this.emit("reads", conversationId);
  }

  /** Ids of others who have read this number. */
  readersOf(conversationId, seqId) {
    return this.#reads.of(conversationId, seqId).filter((userId) => userId !== this.me.id);
  }

  // People

  putUser(user) {
    this.#users.set(user.id, { ...this.#users.get(user.id), ...user });
  }

  user(id) {
    return id === this.me.id ? this.me : this.#users.get(id);
  }

  /** How a person is called here: a friend's remark, else the name. */
  nameOf(id) {
    return this.friends.get(id)?.remark || this.user(id)?.username || "Somebody";
  }

  titleOf(conversation) {
    if (conversation.type === KIND.single) return conversation.peer ? this.nameOf(conversation.peer.id) : conversation.name;
    return conversation.name || (conversation.type === KIND.world ? "World" : "Group");
  }

  putPeople({ friends, blocked, received, sent }) {
    for (const friend of friends) if (friend.friend) this.putUser(friend.friend);
    for (const friend of friends) {
      if (friend.online !== undefined) this.presence.set(friend.friendId, { online: friend.online, lastSeen: friend.lastSeen });
    }
    this.friends = new Map(friends.map((friend) => [friend.friendId, friend]));
    this.blocked = new Map(blocked.map((friend) => [friend.friendId, friend]));
    this.received = new Map(received.map((request) => [request.id, request]));
    this.sent = new Map(sent.map((request) => [request.id, request]));
    for (const { requester } of received) if (requester) this.putUser(requester);
    for (const { target } of sent) if (target) this.putUser(target);
    for (const { friend } of blocked) if (friend) this.putUser(friend);
    this.emit("people");
    this.emit("list");
    this.emit("presence");
  }

  /** Changes friends, requests or blocks in place. */
  changePeople(change) {
    change(this);
    this.emit("people");
    this.emit("list");
  }

  putPresence(userId, online, lastSeen) {
    this.presence.set(userId, { online, lastSeen: lastSeen ?? this.presence.get(userId)?.lastSeen });
    this.emit("presence");
  }

  /** Whom the page wants to know the presence of. */
  watchedUsers() {
    const peers = [...this.conversations.values()].map((conversation) => conversation.peer?.id);
    return [...new Set([...this.friends.keys(), ...peers])].filter((id) => id && id !== this.me.id);
  }

  // Members

  putMembers(conversationId, members) {
    for (const { user } of members) if (user) this.putUser(user);
    this.members.set(conversationId, members);
    this.emit("members", conversationId);
  }

  // Typing

  putTyping(conversationId, userId, name, isTyping) {
    this.#stopTyping(conversationId, userId);
    if (isTyping) {
      const all = this.#typing.get(conversationId) ?? new Map();
      const timer = setTimeout(() => this.#stopTyping(conversationId, userId), TYPING_MS);
      this.#typing.set(conversationId, all.set(userId, { name, timer }));
      this.emit("typing", conversationId);
    }
  }

  /** Names of those who type. */
  typists(conversationId) {
    const all = this.#typing.get(conversationId) ?? new Map();
    return [...all].map(([userId, { name }]) => this.friends.get(userId)?.remark || name || this.nameOf(userId));
  }

  #stopTyping(conversationId, userId) {
    const all = this.#typing.get(conversationId);
    const typist = all?.get(userId);
    if (!typist) return;
    clearTimeout(typist.timer);
    all.delete(userId);
    this.emit("typing", conversationId);
  }
}

/** When something last happened in a conversation, Unix seconds. */
export const activity = (conversation) =>
  Math.max(conversation.lastMessage?.createdAt ?? 0, conversation.lastMessage ? 0 : (conversation.updatedAt ?? 0), conversation.createdAt ?? 0);

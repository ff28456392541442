// A signed-in user's chat, without its looks: puts session, connection, store, outbox and sync together. Owns their
// lifetimes and what happens when the connection comes and goes; views call it and listen to it.

import { Api } from "./api.js";
import { Drafts } from "./drafts.js";
import { Emitter } from "./emitter.js";
import { Failure } from "./errors.js";
import { handlers } from "./frames.js";
import { Outbox } from "./outbox.js";
import { Reading } from "./reading.js";
import { Reads } from "./reads.js";
import { Shelf } from "./shelf.js";
import { Socket } from "./socket.js";
import { Store } from "./store.js";
import { Sync } from "./sync.js";
import { Tabs } from "./tabs.js";

const RESYNC_MS = 5 * 60_000;
const DEGRADED_MS = 30_000;
const TYPING_EVERY_MS = 3_000;
const STATUSES_MAX = 100;

/** Emits `connection`, `said` (message), `notice` (sentence) and, as time passes, `minute`. */
export class Client extends Emitter {
  /** Conversation that is looked at; null for none. */
  openId = null;
  #gone = new AbortController();
  #tabs;
  #frames;
  #timers = [];
  #hiddenAt = 0;
  #typedAt = new Map();
  #lastSyncAt = 0;

  constructor(session) {
    super();
    this.session = session;
    this.api = new Api(session);
    this.store = new Store(session.user, new Reads(session.user.id));
    this.socket = new Socket(session, this.api.ticket);
    const send = (type, data) => this.socket.send(type, data);
    this.outbox = new Outbox(session.user.id, new Shelf(), send);
    this.reading = new Reading(this.store, send);
    this.drafts = new Drafts(session.user.id);
    this.sync = new Sync(this.store, this.api, this.outbox, () => this.openId);
    this.#frames = handlers(this);
    this.#tabs = new Tabs(session.user.id, () => this.socket.close("elsewhere"));
  }

  /** Aborted when the user has left: listeners and timers of the page end with it. */
  get gone() {
    return this.#gone.signal;
  }

  get isGuest() {
    return Boolean(this.store.me.isGuest);
  }

  start() {
    this.socket.on("state", () => this.#stateChanged());
    this.socket.on("connected", () => this.#connected());
    this.socket.on("frame", (frame) => this.#frames[frame.type]?.(frame.data ?? {}, frame));
    this.socket.on("ended", (why) => this.session.end(why));
    this.sync.on("state", () => this.emit("connection"));
    this.outbox.on("changed", (id) => this.store.emit("timeline", id));
    document.addEventListener("visibilitychange", () => this.#visibilityChanged(), { signal: this.gone });
    this.#timers = [
      setInterval(() => this.emit("minute"), 60_000),
      setInterval(() => this.#isOpen && Date.now() - this.#lastSyncAt > RESYNC_MS && this.#catchUp(), 60_000),
      setInterval(() => this.#isOpen && this.socket.degraded && this.#catchUp(), DEGRADED_MS),
    ];
    this.outbox.load().catch(() => {});
    this.takeOver();
  }

  stop() {
    this.#gone.abort();
    this.#timers.forEach(clearInterval);
    this.sync.stop();
    this.socket.close();
    this.outbox.disconnected();
    this.#tabs.close();
  }

  /** This tab becomes the one that is connected. */
  takeOver() {
    this.#tabs.take();
    this.socket.connect();
  }

  /** What the connection is, for people: `online`, `syncing`, `connecting`, `waiting`, `offline`, `elsewhere`, `ended`. */
  get connection() {
    const { state } = this.socket;
    if (state === "open") return this.sync.isComplete ? "online" : "syncing";
    if (state === "waiting" && !navigator.onLine) return "offline";
    return state === "idle" ? "connecting" : state;
  }

  // Messages

  send(conversationId, content) {
    this.#typedAt.delete(conversationId);
    this.drafts.set(conversationId, "");
    return this.outbox.add(conversationId, content);
  }

  async recall(message) {
    await this.api.recall(message.conversationId, message.id);
    this.store.recallMessage(message.conversationId, message.seqId, message.id);
  }

  /** The user types, or has stopped. */
  typing(conversationId, isTyping) {
    const last = this.#typedAt.get(conversationId) ?? 0;
    if (!isTyping && last) {
      this.#typedAt.delete(conversationId);
      this.socket.send("stop-typing", { conversationId });
    } else if (isTyping && Date.now() - last >= TYPING_EVERY_MS) {
      this.#typedAt.set(conversationId, Date.now());
      this.socket.send("typing", { conversationId });
    }
  }

  /** A message of somebody else came in. */
  said(message) {
    const conversation = this.store.conversations.get(message.conversationId);
    if (conversation && message.messageType !== 4) {
      this.store.changeConversation(conversation.id, { unreadCount: (conversation.unreadCount ?? 0) + 1 });
    }
    this.emit("said", message);
  }

  noticed(text) {
    this.emit("notice", text);
  }

  removedFrom(id, by) {
    const conversation = this.store.conversations.get(id);
    if (conversation && by !== this.store.me.id) this.noticed(`You were removed from ${this.store.titleOf(conversation)}.`);
    this.store.dropConversation(id);
  }

  // People

  async loadPeople() {
    if (this.isGuest) return;
    const [{ friends }, { blocked }, received, sent] = await Promise.all([
      this.api.friends(), this.api.blocked(), this.api.requests("received"), this.api.requests("sent"),
    ]);
    this.store.putPeople({ friends, blocked, received: received.requests, sent: sent.requests });
  }

  async askPresence(ids = this.store.watchedUsers()) {
    for (let from = 0; from < ids.length; from += STATUSES_MAX) {
      const { statuses } = await this.api.statuses(ids.slice(from, from + STATUSES_MAX));
      for (const { userId, online, lastSeen } of statuses) this.store.putPresence(userId, online, lastSeen);
    }
  }

  /** The single chat with somebody, made when there is none. Its id. */
  async singleWith(userId) {
    const held = this.store.singleWith(userId);
    if (held) return held.id;
    if (this.isGuest) throw new Failure("GUEST_FORBIDDEN");
    const { members, ...conversation } = await this.api.createSingle(userId);
    this.store.putConversation(conversation);
    this.askPresence([userId]).catch(() => {});
    return conversation.id;
  }

  // Account

  /** A new password ends every login, the one of this connection too. */
  async changePassword(oldPassword, newPassword) {
    this.socket.close();
    try {
      this.session.begin(await this.api.changePassword(oldPassword, newPassword));
    } finally {
      this.socket.connect();
    }
  }

  async logout() {
    this.socket.close();
    await this.api.logout().catch(() => {});
    this.session.end();
  }

  // Connection

  get #isOpen() {
    return this.socket.state === "open";
  }

  #connected() {
    this.outbox.reconnected();
    this.reading.flush();
    this.#catchUp();
    this.loadPeople().catch(() => {});
  }

  async #catchUp() {
    this.#lastSyncAt = Date.now();
    await this.sync.start();
    this.askPresence().catch(() => {});
  }

  #stateChanged() {
    if (!this.#isOpen) {
      this.outbox.disconnected();
      this.sync.stop();
    }
    this.emit("connection");
  }

  #visibilityChanged() {
    if (document.hidden) this.#hiddenAt = Date.now();
    else if (this.#isOpen && this.#hiddenAt && Date.now() - this.#hiddenAt > DEGRADED_MS) this.#catchUp();
  }
}

// Messages that are written but not acknowledged. Owns their order, their repetition under the same id and their end;
// each is on the shelf before it is sent, and leaves it when it is acknowledged or given up.

import { retryDelay } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { isTransient, sentence } from "./errors.js";
import { uuid } from "./ids.js";

const IN_FLIGHT_MAX = 16;
const ACK_MS = 5_000;

/** Emits `changed` (conversation id). An entry's `state` is `waiting`, `sending` or `failed` (with `problem`). */
export class Outbox extends Emitter {
  entries = [];
  #userId;
  #shelf;
  #send;
  #timer = 0;

  /** `send(type, data)` puts a frame on the connection, or says false. */
  constructor(userId, shelf, send) {
    super();
    this.#userId = userId;
    this.#shelf = shelf;
    this.#send = send;
  }

  /** Takes what an earlier visit left. */
  async load() {
    const records = await this.#shelf.all(this.#userId);
    this.entries = [...records.map((record) => ({ ...record, attempts: 0, notBefore: 0 })), ...this.entries];
    for (const id of new Set(records.map((record) => record.conversationId))) this.emit("changed", id);
    this.flush();
  }

  /** The entries of a conversation, oldest first. */
  of(conversationId) {
    return this.entries.filter((entry) => entry.conversationId === conversationId);
  }

  /** Takes a new message. It is shown at once, and sent as soon as it would survive a reload. */
  async add(conversationId, content) {
    const entry = {
      clientMsgId: uuid(), userId: this.#userId, conversationId, content, messageType: 1,
      createdAtMs: Date.now(), state: "storing", attempts: 0, notBefore: 0,
    };
    this.entries.push(entry);
    this.emit("changed", conversationId);
    await this.#store(entry, "waiting").catch(() => (entry.state = "waiting"));
    this.flush();
  }

  /** The connection is new: everything that was under way is sent again. */
  reconnected() {
    for (const entry of this.entries) if (entry.state === "sending") entry.state = "waiting";
    for (const entry of this.entries) entry.notBefore = 0;
    this.flush();
  }

  /** The connection is gone: nothing is under way any more. */
  disconnected() {
    clearTimeout(this.#timer);
    for (const entry of this.entries) if (entry.state === "sending") this.#become(entry, "waiting");
  }

  /** The server has this message: by an acknowledgement, or because history shows it. */
  settle(clientMsgId) {
    const entry = this.#find(clientMsgId);
    if (!entry) return null;
    this.entries = this.entries.filter((other) => other !== entry);
    this.#shelf.remove(clientMsgId).catch(() => {});
    this.emit("changed", entry.conversationId);
    this.flush();
    return entry;
  }

  /** The server refused this message. */
  refuse(clientMsgId, code, retryAfter) {
    const entry = this.#find(clientMsgId);
    if (!entry) return;
    if (isTransient(code)) {
      entry.notBefore = Date.now() + (retryAfter ? retryAfter * 1000 : retryDelay(entry.attempts));
      this.#become(entry, "waiting");
    } else {
      // An id that stands for another message can never succeed.
      if (code === "CLIENT_MSG_ID_REUSED") entry.needsNewId = true;
      entry.problem = sentence(code);
      this.#store(entry, "failed").catch(() => {});
    }
    this.flush();
  }

  /** The user wants a failed message to be tried again. */
  async retry(clientMsgId) {
    const entry = this.#find(clientMsgId);
    if (!entry) return;
    delete entry.problem;
    if (entry.needsNewId) {
      await this.#shelf.remove(entry.clientMsgId).catch(() => {});
      entry.clientMsgId = uuid();
      delete entry.needsNewId;
    }
    entry.notBefore = 0;
    await this.#store(entry, "waiting").catch(() => (entry.state = "waiting"));
    this.flush();
  }

  /** The user gives a failed message up. */
  discard(clientMsgId) {
    this.settle(clientMsgId);
  }

  /** Sends what may be sent now, oldest first; within a conversation nothing overtakes what waits. */
  flush() {
    clearTimeout(this.#timer);
    const now = Date.now();
    const held = new Set();
    let underWay = this.entries.filter((entry) => entry.state === "sending").length;
    let next = Infinity;
    for (const entry of this.entries) {
      if (entry.state === "failed" || held.has(entry.conversationId)) continue;
      const due = entry.state === "sending" ? entry.sentAt + ACK_MS : entry.notBefore;
      const mayStart = entry.state === "sending" || (entry.state === "waiting" && underWay < IN_FLIGHT_MAX);
      if (due <= now && mayStart) {
        if (!this.#transmit(entry)) return;
        underWay += 1;
        next = Math.min(next, entry.sentAt + ACK_MS);
      } else {
        if (entry.state !== "sending") held.add(entry.conversationId);
        if (entry.state !== "storing") next = Math.min(next, Math.max(due, now + 50));
      }
    }
    if (next < Infinity) this.#timer = setTimeout(() => this.flush(), next - now);
  }

  #transmit(entry) {
    const { conversationId, content, messageType, clientMsgId } = entry;
    if (!this.#send("send-message", { conversationId, content, messageType, client_msg_id: clientMsgId })) return false;
    entry.attempts += 1;
    entry.sentAt = Date.now();
    this.#become(entry, "sending");
    return true;
  }

  #find(clientMsgId) {
    return this.entries.find((entry) => entry.clientMsgId === clientMsgId);
  }

  #become(entry, state) {
    if (entry.state === state) return;
    entry.state = state;
    this.emit("changed", entry.conversationId);
  }

  async #store(entry, state) {
    this.#become(entry, state === "failed" ? "failed" : entry.state);
    const { userId, conversationId, clientMsgId, content, messageType, createdAtMs, problem } = entry;
    await this.#shelf.put({ userId, conversationId, clientMsgId, content, messageType, createdAtMs, problem, state });
    this.#become(entry, state);
  }
}

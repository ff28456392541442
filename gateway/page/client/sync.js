// Pulling what pushes did not bring: the list, history, holes. Owns when this page may say that it has seen everything;
// never sends messages.

import { pause, persist, retryDelay } from "./backoff.js";
import { Emitter } from "./emitter.js";

const PAGE = 100;
const FIRST_PAGE = 100;
const PARALLEL = 4;
/** Farther behind than this a conversation is loaded anew instead of being caught up with. */
const BEHIND_MAX = 3_000;
const HOLE_MS = [1_000, 3_000, 10_000];
const LOST = new Set(["NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"]);

/** Emits `state` when `isComplete` changes. */
export class Sync extends Emitter {
  /** Everything acknowledged before the last connection was made has been seen. */
  isComplete = false;
  #store;
  #api;
  #outbox;
  #openId = () => null;
  #run = new AbortController();
  #serverTime = 0;
  #pulls = new Map();
  #holes = new Map();
  #discoveries = new Map();

  /** `openId()` names the conversation that is looked at. */
  constructor(store, api, outbox, openId) {
    super();
    this.#store = store;
    this.#api = api;
    this.#outbox = outbox;
    this.#openId = openId;
  }

  /** Catches up with everything, from the beginning; an unfinished run is given up. */
  async start() {
    this.#abandon();
    const { signal } = this.#run;
    try {
      await this.#list(signal);
      await this.#timelines(signal);
      this.#complete(true);
    } catch (error) {
      if (!signal.aborted) console.warn("sync:", error);
    }
  }

  /** The connection is gone: nothing is pulled until the next start. */
  stop() {
    this.#abandon();
    this.#complete(false);
  }

  #abandon() {
    this.#run.abort(new DOMException("a newer run", "AbortError"));
    this.#run = new AbortController();
    this.#pulls = new Map();
    this.#holes = new Map();
    this.#discoveries = new Map();
  }

  /** Holds the newest messages of a conversation, and everything that comes after them. */
  async open(id) {
    const timeline = this.#store.holdTimeline(id);
    if (!timeline.isStarted) {
      const page = await persist(() => this.#api.messages(id, { limit: FIRST_PAGE }), this.#run.signal);
      timeline.start(page);
      this.#deliver(id, page.messages);
    }
    await this.pull(id);
  }

  /** One page of older messages. */
  async older(id) {
    const timeline = this.#store.timeline(id);
    if (!timeline?.hasOlder) return;
    const page = await this.#api.messages(id, { cursor: timeline.oldestSeq || undefined, limit: PAGE });
    timeline.prepend(page);
    this.#deliver(id, page.messages);
  }

  /** Pulls a held conversation until an answer says that it is complete. */
  pull(id) {
    return once(this.#pulls, id, () => this.#pull(id, this.#run.signal));
  }

  /** A message left a hole: it is given a moment, then pulled, twice more, then given up. */
  watchHole(id) {
    if (!this.#store.timeline(id)?.hasHole || this.#holes.has(id)) return;
    once(this.#holes, id, () => this.#watch(id, this.#run.signal)).catch(() => {});
  }

  /** Learns of a conversation that is not in the list; `message` is what it was first heard of by. */
  discover(id, message) {
    const learn = () =>
      persist(() => this.#api.conversation(id), this.#run.signal)
        .then((conversation) => this.#found(conversation))
        .catch((error) => this.#missing(id, error));
    return once(this.#discoveries, id, learn).then(() => message && this.#store.putMessage(message));
  }

  /** Asks again what a conversation is. */
  async refresh(id) {
    if (!this.#store.conversations.has(id)) return;
    try {
      this.#found(await this.#api.conversation(id));
    } catch (error) {
      this.#missing(id, error);
    }
  }

  #found({ members, ...conversation }) {
    this.#store.putConversation(conversation);
    if (members) this.#store.putMembers(conversation.id, members);
  }

  #missing(id, error) {
    if (LOST.has(error.code)) this.#store.dropConversation(id);
  }

  // The list

  async #list(signal) {
    for (let attempt = 0; ; attempt++) {
      const isWhole = this.#serverTime ? await this.#delta(signal) : await this.#walk(signal);
      if (isWhole) return;
      await pause(retryDelay(attempt), signal);
    }
  }

  /** What changed since the last time; true when the answer was complete. */
  async #delta(signal) {
    let cursor, first;
    try {
      do {
        const page = await persist(() => this.#api.conversations({ last_sync: this.#serverTime, limit: 200, cursor }), signal);
        signal.throwIfAborted();
        first ??= page;
        for (const conversation of page.conversations) this.#store.putConversation(conversation);
        for (const id of page.removedIds ?? []) this.#store.dropConversation(id);
        if (!page.hasMore) return this.#keep(page.complete, first.serverTime);
        cursor = page.nextCursor;
      } while (cursor);
    } catch (error) {
      if (!error.details?.fullSync) throw error;
    }
    return this.#walk(signal);
  }

  /** Every page; what the server does not list any more is gone. */
  async #walk(signal) {
    const before = new Set(this.#store.conversations.keys());
    let first;
    for (let page = 1; ; page++) {
      const answer = await persist(() => this.#api.conversations({ page, size: PAGE }), signal);
      signal.throwIfAborted();
      first ??= answer;
      for (const conversation of answer.conversations) {
        this.#store.putConversation(conversation);
        before.delete(conversation.id);
      }
      if (!this.#store.isListed) {
        this.#store.isListed = true;
        this.#store.emit("list");
      }
      if (answer.hasMore) continue;
      if (answer.complete) for (const id of before) this.#store.dropConversation(id);
      return this.#keep(answer.complete, first.serverTime);
    }
  }

  #keep(isComplete, serverTime) {
    if (isComplete) this.#serverTime = serverTime;
    return isComplete;
  }

  // History

  /** Held conversations that are behind, the one looked at first. */
  async #timelines(signal) {
    const open = this.#openId();
    const queue = this.#store.heldTimelines().filter((id) => id === open || this.#isBehind(id));
    queue.sort((a, b) => (b === open) - (a === open));
    const work = async () => {
      for (let id = queue.shift(); id; id = queue.shift()) await this.#catchUp(id);
    };
    await Promise.all(Array.from({ length: PARALLEL }, work));
    signal.throwIfAborted();
  }

  #isBehind(id) {
    return (this.#store.conversations.get(id)?.lastSeqId ?? 0) > this.#store.timeline(id).through;
  }

  async #catchUp(id) {
    const timeline = this.#store.timeline(id);
    const behind = (this.#store.conversations.get(id)?.lastSeqId ?? 0) - (timeline?.through ?? 0);
    if (timeline?.isStarted && behind > BEHIND_MAX) this.#store.dropTimeline(id);
    await this.open(id).catch(ignoreLost);
  }

  async #pull(id, signal) {
    let after = this.#store.timeline(id)?.through ?? 0;
    for (let attempt = 0; ; ) {
      const page = await persist(() => this.#api.messages(id, { after_seq: after, limit: PAGE }), signal);
      signal.throwIfAborted();
      const timeline = this.#store.timeline(id);
      if (!timeline) return;
      timeline.append(page, after);
      this.#deliver(id, page.messages);
      if (page.complete) return;
      after = page.nextCursor ?? after;
      if (!page.hasMore) await pause(retryDelay(attempt++), signal);
    }
  }

  async #watch(id, signal) {
    const hole = this.#store.timeline(id).through;
    for (const delay of HOLE_MS) {
      await pause(delay, signal);
      const timeline = this.#store.timeline(id);
      if (!timeline?.hasHole || timeline.through !== hole) break;
      await this.pull(id);
    }
    const timeline = this.#store.timeline(id);
    if (timeline?.hasHole && timeline.through === hole) timeline.skipHole();
    if (timeline?.hasHole) setTimeout(() => this.watchHole(id));
  }

  /** What history shows of our own need not be sent any more; the newest of it stands in the list. */
  #deliver(id, messages) {
    for (const message of messages) {
      if (message.sender) this.#store.putUser(message.sender);
      if (message.senderId === this.#store.me.id && message.clientMsgId) this.#outbox.settle(message.clientMsgId);
    }
    this.#store.emit("timeline", id);
  }

  #complete(isComplete) {
    if (this.isComplete === isComplete) return;
    this.isComplete = isComplete;
    this.emit("state");
  }
}

/** The promise that `work` made for this id, as long as it is under way. */
function once(underWay, id, work) {
  const promise = underWay.get(id) ?? work().finally(() => underWay.get(id) === promise && underWay.delete(id));
  underWay.set(id, promise);
  return promise;
}

function ignoreLost(error) {
  if (!LOST.has(error.code)) throw error;
}

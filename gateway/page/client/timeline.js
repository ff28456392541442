// The messages of one conversation that this page holds, in the order of their numbers. Owns merging of pushes, acks and
// pages, recalls, and what is known to be missing; never asks the server for anything.

const SYSTEM = 4;

export class Timeline {
  /** Ascending by `seqId`; recall rows are in it too. */
  rows = [];
  /** Everything up to this number is decided: what is not here does not exist. */
  through = 0;
  /** Whether the newest page was loaded. */
  isStarted = false;
  /** Whether older messages exist on the server. */
  hasOlder = true;
  /** First message that is new to the reader; 0 when the line is not shown. */
  newFrom = 0;
  /** Changes with every change of the rows. */
  version = 0;
  #bySeq = new Map();
  #byClient = new Map();
  #corrected = new Set();

  get lastSeq() {
    return this.rows.at(-1)?.seqId ?? 0;
  }

  get oldestSeq() {
    return this.rows[0]?.seqId ?? 0;
  }

  at(seqId) {
    return this.#bySeq.get(seqId);
  }

  /** The message that somebody sent under a client id. */
  own(clientMsgId, senderId) {
    return this.#byClient.get(clientKey({ senderId, clientMsgId }));
  }

  /** Rows that are shown: a recall only changes another row. */
  shown() {
    return this.rows.filter((row) => !recallOf(row));
  }

  /** A pushed or acknowledged message: what history says later wins over it. True when something changed. */
  push(row) {
    const changed = this.#put({ ...row, isProvisional: true }, false);
    this.#advance();
    return changed;
  }

  /** Our own message got its number. `isCorrected` wins over every plain acknowledgement, whichever comes first. */
  acknowledge(row, isCorrected) {
    const key = row.clientMsgId;
    if (isCorrected) this.#corrected.add(key);
    else if (this.#corrected.has(key)) return;
    const held = this.#byClient.get(clientKey(row));
    if (held && held.seqId !== row.seqId && !held.isProvisional) return;
    this.push(row);
  }

  /** The newest page of a history that was not held so far, newest first. */
  start(page) {
    for (const row of page.messages) this.#put(row, true);
    this.isStarted = true;
    this.version += 1;
    this.hasOlder = page.hasMore;
    this.#reach(page.complete ? Math.max(this.lastSeq, page.storedThroughSeq) : Math.min(this.lastSeq, page.storedThroughSeq));
  }

  /** A page before the oldest row, newest first. */
  prepend(page) {
    for (const row of page.messages) this.#put(row, true);
    this.hasOlder = page.hasMore;
    this.version += 1;
  }

  /** A page after `after`, oldest first. */
  append(page, after) {
    const end = page.hasMore ? (page.nextCursor ?? after) : Math.max(page.messages.at(-1)?.seqId ?? 0, page.storedThroughSeq);
    this.#dropVoid(page, after, Math.min(end, page.storedThroughSeq));
    for (const row of page.messages) this.#put(row, true);
    const isDecided = page.complete && !page.hasMore;
    this.#reach(isDecided ? end : Math.min(end, page.storedThroughSeq));
  }

  /** Gives a hole up: nothing comes there any more. */
  skipHole() {
    const next = this.rows.find((row) => row.seqId > this.through);
    this.#reach(next ? next.seqId : this.through);
  }

  /** Whether a number is missing below the newest row. */
  get hasHole() {
    return this.lastSeq > this.through;
  }

  /** A message was recalled. True when it is held here and was not recalled before. */
  recall(seqId, messageId) {
    const row = this.#bySeq.get(seqId) ?? this.rows.find((other) => other.id === messageId);
    if (!row || row.id !== messageId || row.deleted) return false;
    Object.assign(row, { deleted: true, content: "", extra: undefined });
    this.version += 1;
    return true;
  }

  #put(row, isHistory) {
    const held = this.#bySeq.get(row.seqId);
    if (held) {
      if (held.deleted || (!isHistory && !held.isProvisional)) return false;
      if (held.id === row.id && Boolean(row.deleted) === Boolean(held.deleted) && !held.isProvisional) return false;
      this.#forget(held);
    }
    const twin = row.clientMsgId && this.#byClient.get(clientKey(row));
    if (twin && twin.seqId !== row.seqId) {
      if (!isHistory && !twin.isProvisional) return false;
      this.#forget(twin);
    }
    this.#insert(row);
    const target = recallOf(row);
    if (target) this.recall(target.seqId, target.messageId);
    this.version += 1;
    return true;
  }

  #insert(row) {
    let at = this.rows.length;
    while (at > 0 && this.rows[at - 1].seqId > row.seqId) at -= 1;
    this.rows.splice(at, 0, row);
    this.#bySeq.set(row.seqId, row);
    if (row.clientMsgId) this.#byClient.set(clientKey(row), row);
  }

  #forget(row) {
    this.rows.splice(this.rows.indexOf(row), 1);
    this.#bySeq.delete(row.seqId);
    if (row.clientMsgId) this.#byClient.delete(clientKey(row));
  }

  /** A push whose number is missing from decided history was void; it stands there under its other number. */
  #dropVoid(page, after, end) {
    const listed = new Set(page.messages.map((row) => row.seqId));
    const isVoid = (row) => row.isProvisional && row.seqId > after && row.seqId <= end && !listed.has(row.seqId);
    for (const row of this.rows.filter(isVoid)) {
      this.#forget(row);
      this.version += 1;
    }
  }

  #reach(seqId) {
    this.through = Math.max(this.through, seqId);
    this.#advance();
  }

  #advance() {
    while (this.#bySeq.has(this.through + 1)) this.through += 1;
  }
}

/** What a recall row recalls, `{messageId, seqId}`; nothing for other rows. */
export function recallOf(row) {
  if (row.messageType !== SYSTEM || !row.extra) return null;
  const extra = readExtra(row.extra);
  return extra.type === "recall" ? extra : null;
}

/** The object in a message's `extra`; empty when there is none. */
export function readExtra(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

const clientKey = (row) => `${row.senderId} ${row.clientMsgId}`;

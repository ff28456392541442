// How far others have read, as this browser heard it: the server tells it when it happens, not again later. Kept through
// reloads for the conversations heard of last.

const KEPT = 200;
const SAVE_MS = 1_000;

export class Reads {
  /** Conversation id → user id → highest number read; the one heard of last is last. */
  #all;
  #key;
  #timer = 0;

  constructor(userId) {
    this.#key = `gochat.reads.${userId}`;
    try {
      this.#all = new Map(JSON.parse(localStorage.getItem(this.#key)) ?? []);
    } catch {
      this.#all = new Map();
    }
  }

  /** True when it was not known. */
  put(conversationId, userId, seqId) {
    const readers = this.#all.get(conversationId) ?? {};
    if (seqId <= (readers[userId] ?? 0)) return false;
    this.#all.delete(conversationId);
    this.#all.set(conversationId, { ...readers, [userId]: seqId });
    if (this.#all.size > KEPT) this.#all.delete(this.#all.keys().next().value);
    this.#timer ||= setTimeout(() => this.#save(), SAVE_MS);
    return true;
  }

  /** Ids of those who have read a number. */
  of(conversationId, seqId) {
    return Object.entries(this.#all.get(conversationId) ?? {}).filter(([, read]) => read >= seqId).map(([userId]) => userId);
  }

  #save() {
    this.#timer = 0;
    localStorage.setItem(this.#key, JSON.stringify([...this.#all]));
  }
}

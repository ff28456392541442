// How far this user has read. Owns the marks that the server does not have yet; what counts as seen is the view's to say.

const MERGE_MS = 300;

export class Reading {
  #store;
  #send;
  #marked = new Map();
  #due = new Map();
  #timer = 0;

  /** `send(type, data)` puts a frame on the connection, or says false. */
  constructor(store, send) {
    this.#store = store;
    this.#send = send;
  }

  /** The user has seen everything up to this number. */
  seen(conversationId, seqId) {
    const conversation = this.#store.conversations.get(conversationId);
    if (!conversation || !seqId) return;
    const isNew = seqId > (this.#marked.get(conversationId) ?? 0);
    if (!isNew && !conversation.unreadCount) return;
    if (conversation.unreadCount && seqId >= (conversation.lastMessage?.seqId ?? 0)) {
      this.#store.changeConversation(conversationId, { unreadCount: 0 });
    }
    this.#marked.set(conversationId, Math.max(seqId, this.#marked.get(conversationId) ?? 0));
    this.#due.set(conversationId, this.#marked.get(conversationId));
    this.#timer ||= setTimeout(() => this.flush(), MERGE_MS);
  }

  /** Sends what is due; without a connection it stays due. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const [conversationId, seqId] of this.#due) {
      if (!this.#send("mark-read", { conversationId, seqId })) return;
      this.#due.delete(conversationId);
    }
  }
}

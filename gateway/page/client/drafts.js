// What was typed but not sent, kept per conversation through reloads.

const key = (userId) => `gochat.drafts.${userId}`;

export class Drafts {
  #userId;
  #all;

  constructor(userId) {
    this.#userId = userId;
    try {
      this.#all = JSON.parse(localStorage.getItem(key(userId))) ?? {};
    } catch {
      this.#all = {};
    }
  }

  get(conversationId) {
    return this.#all[conversationId] ?? "";
  }

  set(conversationId, text) {
    if (text.trim()) this.#all[conversationId] = text;
    else delete this.#all[conversationId];
    localStorage.setItem(key(this.#userId), JSON.stringify(this.#all));
  }
}

// Who wants to know about what. Owns the subscriptions of one object; knows nothing of what is said.

export class Emitter {
  #listeners = new Map();

  /** Calls `listener` for every `topic` from now on; returns how to stop it. */
  on(topic, listener) {
    const all = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, all.add(listener));
    return () => all.delete(listener);
  }

  emit(topic, ...args) {
    for (const listener of [...(this.#listeners.get(topic) ?? [])]) listener(...args);
  }
}

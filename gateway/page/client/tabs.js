// The tabs of this browser with the same user: the newest has the connection. Owns the agreement between them.

import { uuid } from "./ids.js";

/** Calls `onTaken` when another tab has taken the connection. */
export class Tabs {
  #channel;
  #claim = null;
  #onTaken;

  constructor(userId, onTaken) {
    this.#onTaken = onTaken;
    this.#channel = new BroadcastChannel(`gochat.${userId}`);
    this.#channel.onmessage = (event) => this.#heard(event.data);
  }

  /** This tab takes the connection; the others give it up. */
  take() {
    this.#claim = { at: Date.now(), id: uuid() };
    this.#channel.postMessage(this.#claim);
  }

  close() {
    this.#channel.close();
  }

  #heard(claim) {
    if (!this.#claim) return;
    // Two tabs that start in the same moment hear each other: the later claim wins, and both see it the same way.
    const isNewer = claim.at > this.#claim.at || (claim.at === this.#claim.at && claim.id > this.#claim.id);
    if (!isNewer) return this.#channel.postMessage(this.#claim);
    this.#claim = null;
    this.#onTaken();
  }
}

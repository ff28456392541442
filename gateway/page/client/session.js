// Who is signed in here, and the tokens. Owns their renewal before they expire; all tabs of the browser share one session.

import { Emitter } from "./emitter.js";
import { Failure } from "./errors.js";
import { fetchEnvelope } from "./envelope.js";

const KEY = "gochat.session";
const RENEW_BEFORE_S = 10 * 60;

/** Emits `renewed` with a new access token, `described` when the user changed, `ended` with a sentence or nothing. */
export class Session extends Emitter {
  #pair = read();
  #timer = 0;
  #renewal = null;

  constructor() {
    super();
    addEventListener("storage", (event) => event.key === KEY && this.#adopt());
    document.addEventListener("visibilitychange", () => document.hidden || this.#schedule());
    this.#schedule();
  }

  get user() {
    return this.#pair?.user ?? null;
  }

  get token() {
    return this.#pair?.accessToken ?? null;
  }

  get refreshToken() {
    return this.#pair?.refreshToken ?? null;
  }

  /** Takes a fresh pair of tokens; `user` stays when the pair has none. */
  begin(pair) {
    this.#keep({ ...pair, user: pair.user ?? this.user });
  }

  /** Changes what is known of the user. */
  describe(user) {
    if (!this.#pair) return;
    this.#keep({ ...this.#pair, user: { ...this.user, ...user } });
    this.emit("described");
  }

  /** Forgets everything. `why` is told to the user. */
  end(why) {
    if (!this.#pair) return;
    this.#pair = null;
    clearTimeout(this.#timer);
    localStorage.removeItem(KEY);
    this.emit("ended", why);
  }

  /** An access token that is good for a while; renews it when it is about to expire. */
  async fresh() {
    if (this.#pair && this.#pair.expiresIn - now() < 60) await this.renew();
    return this.token;
  }

  /** Gets new tokens, once however many ask at the same time. Ends the session when the server refuses. */
  renew() {
    this.#renewal ??= this.#renew().finally(() => (this.#renewal = null));
    return this.#renewal;
  }

  async #renew() {
    const stored = read();
    if (stored && stored.accessToken !== this.token && stored.expiresIn - now() > 60) return this.#adopt();
    if (!this.#pair) throw new Failure("UNAUTHORIZED", { status: 401 });
    try {
      const body = { refreshToken: this.#pair.refreshToken };
      const pair = await fetchEnvelope("POST", "/api/auth/refresh", { body });
      this.begin(pair);
      this.emit("renewed", pair.accessToken);
    } catch (error) {
      if (error.status === 401 || error.status === 423) this.end(error.message);
      throw error;
    }
  }

  /** Another tab renewed, signed in or signed out. */
  #adopt() {
    const stored = read();
    if (!stored) return this.end();
    const isSame = stored.user?.id === this.user?.id;
    this.#pair = stored;
    this.#schedule();
    if (isSame) this.emit("renewed", stored.accessToken);
    else location.reload();
  }

  #keep(pair) {
    this.#pair = pair;
    localStorage.setItem(KEY, JSON.stringify(pair));
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#pair) return;
    const left = this.#pair.expiresIn - now();
    const wait = Math.max(5, left - Math.min(RENEW_BEFORE_S, left / 5));
    this.#timer = setTimeout(() => this.renew().catch(() => this.#schedule()), Math.min(wait * 1000, 2 ** 31 - 1));
  }
}

const now = () => Date.now() / 1000;

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

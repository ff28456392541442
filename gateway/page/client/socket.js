// The WebSocket connection: opens it, keeps it alive, opens it again. Owns its state and the table of close codes; never
// looks into frames that are not about the connection itself.

import { reconnectDelay } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { Failure } from "./errors.js";

const PING_MS = 25_000;
const ANSWER_MS = 10_000;
const STEADY_MS = 5_000;

/**
 * States: `idle`, `connecting`, `open`, `waiting` (with `retryAt`), `elsewhere`, `ended`.
 * Emits `state`, `connected` (data of the frame, once a connection), `frame` (frame) and `ended` (sentence).
 */
export class Socket extends Emitter {
  state = "idle";
  retryAt = 0;
  degraded = false;
  #session;
  #ticket;
  #ws = null;
  #attempt = 0;
  #timer = 0;
  #pinger = 0;
  #answerBy = 0;
  #openedAt = 0;
  #connectionId = null;
  #reconnectAfterMs = null;
  #generation = 0;

  /** `ticket` asks the server for the credential of one connection. */
  constructor(session, ticket) {
    super();
    this.#session = session;
    this.#ticket = ticket;
    session.on("renewed", (token) => this.send("auth-refresh", { token }));
    addEventListener("online", () => this.state === "waiting" && this.connect());
    addEventListener("offline", () => this.check());
    document.addEventListener("visibilitychange", () => document.hidden || this.check());
  }

  /** Opens the connection now, whatever it was waiting for. */
  async connect() {
    this.#drop();
    const generation = this.#generation;
    this.#become("connecting");
    try {
      const { ticket } = await this.#ticket();
      if (generation !== this.#generation) return;
      this.#open(`?ticket=${encodeURIComponent(ticket)}`);
    } catch (error) {
      if (generation === this.#generation) this.#refused(error);
    }
  }

  /** Sends a frame; false when there is no connection to send it on. */
  send(type, data) {
    if (this.state !== "open") return false;
    this.#ws.send(JSON.stringify(data === undefined ? { type } : { type, data }));
    return true;
  }

  /** Ends the connection without opening it again. */
  close(state = "idle") {
    this.#drop();
    this.#become(state);
  }

  /** Finds out at once whether the connection still lives. */
  check() {
    if (this.state === "waiting" && !document.hidden) this.connect();
    else if (this.state === "open") this.#ping();
  }

  #open(query) {
    const url = new URL(`/ws${query}`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const ws = new WebSocket(url);
    this.#ws = ws;
    this.#answerBy = setTimeout(() => this.#lost(ws, 1006), ANSWER_MS);
    ws.onmessage = (event) => this.#ws === ws && this.#receive(JSON.parse(event.data));
    ws.onclose = (event) => this.#lost(ws, event.code);
  }

  #receive(frame) {
    clearTimeout(this.#answerBy);
    this.#answerBy = 0;
    if (frame.type === "connected") this.#greeted(frame.data);
    else if (frame.type === "closing") this.#reconnectAfterMs = frame.data?.reconnectAfterMs ?? null;
    else if (frame.type !== "pong") this.emit("frame", frame);
    if (frame.type === "error" && frame.data?.code === "AUTH_FAILED") this.#session.renew().catch(() => {});
  }

  #greeted(data) {
    // The answer to auth-refresh is a greeting too.
    if (data.connectionId === this.#connectionId && this.state === "open") return;
    this.#connectionId = data.connectionId;
    this.#openedAt = Date.now();
    this.degraded = Boolean(data.degraded);
    this.#pinger = setInterval(() => this.#ping(), PING_MS);
    this.#become("open");
    this.emit("connected", data);
  }

  #ping() {
    if (this.#answerBy || !this.send("ping")) return;
    const ws = this.#ws;
    this.#answerBy = setTimeout(() => this.#lost(ws, 4008), ANSWER_MS);
  }

  /** The connection is gone: what the code says decides what is next. */
  async #lost(ws, code) {
    if (this.#ws !== ws) return;
    if (this.#openedAt && Date.now() - this.#openedAt > STEADY_MS) this.#attempt = 0;
    const after = this.#reconnectAfterMs;
    this.#drop();
    if (code === 4002) return this.#become("elsewhere");
    if (code === 4003) return this.#end(new Failure("USER_DISABLED"));
    if (code === 4004) return this.#end(new Failure("INVALID_TOKEN"));
    if (code === 4001) {
      const generation = this.#generation;
      this.#become("connecting");
      await this.#session.renew().catch(() => {});
      if (generation !== this.#generation) return;
      return this.#wait(this.#attempt ? null : 0);
    }
    const patient = code === 1008 || code === 1003 || code === 1007;
    this.#wait(patient ? 30_000 : after);
  }

  /** No credential: the reason is known, unlike that of a refused handshake. */
  #refused(error) {
    if (error.status === 401 || error.status === 423) return this.#end(error);
    this.#wait(error.retryAfter ? error.retryAfter * 1000 : null);
  }

  #wait(ms) {
    const delay = ms ?? reconnectDelay(this.#attempt);
    this.#attempt += 1;
    this.retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#become("waiting");
  }

  #end(failure) {
    this.#become("ended");
    this.emit("ended", failure.message);
  }

  #drop() {
    this.#generation += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#answerBy);
    clearInterval(this.#pinger);
    const ws = this.#ws;
    this.#ws = null;
    this.#answerBy = 0;
    this.#openedAt = 0;
    this.#connectionId = null;
    this.#reconnectAfterMs = null;
    this.degraded = false;
    if (ws && ws.readyState < WebSocket.CLOSING) ws.close(1000);
  }

  #become(state) {
    this.state = state;
    this.emit("state");
  }
}

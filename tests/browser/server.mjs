// A really running gochat on free ports with its own data. Owns the process: it can be killed and started again on the
// same port, as a server is after a crash.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const STUCK_MS = 60_000;

export class Server {
  #child;
  #dataDir;
  #port = 0;
  #flags;

  constructor(...flags) {
    this.#flags = flags;
  }

  get base() {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid() {
    return this.#child.pid;
  }

  /** Starts it and waits until it says where it listens. */
  async start() {
    this.#dataDir ??= await mkdtemp(join(tmpdir(), "gochat-browser-"));
    const args = ["--listen", `127.0.0.1:${this.#port}`, "--admin", "127.0.0.1:0", "--data-dir", this.#dataDir, ...this.#flags];
    this.#child = spawn(process.env.GOCHAT_BIN, args, { stdio: ["ignore", "pipe", "inherit"] });
    const said = [];
    const found = new Promise((resolve, reject) => {
      const stuck = setTimeout(() => reject(new Error(`the server did not start, it said:\n${said.join("\n")}`)), STUCK_MS);
      createInterface(this.#child.stdout).on("line", (line) => {
        said.push(line);
        const address = line.includes("API") && /http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
        if (!address) return;
        clearTimeout(stuck);
        resolve(Number(address[1]));
      });
    });
    this.#port = await found;
    return this;
  }

  /** `kill -9`. */
  async kill() {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }

  /** Ends it and takes its data away. */
  async stop() {
    await this.kill();
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}

/** The HTTP API as somebody, for what a test prepares without a page. */
export class Account {
  constructor(base) {
    this.base = base;
  }

  async call(method, path, body) {
    const answer = await fetch(`${this.base}/api${path}`, {
      method,
      headers: { "Content-Type": "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }) },
      body: body && JSON.stringify(body),
    });
    const envelope = await answer.json();
    if (!envelope.success) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(envelope)}`);
    return envelope.data;
  }

  async register(username, password = "secret-1") {
    await this.call("POST", "/auth/register", { username, password });
    const pair = await this.call("POST", "/auth/login", { username, password });
    this.token = pair.accessToken;
    this.user = pair.user;
    return this;
  }

  send(conversationId, content, id = crypto.randomUUID()) {
    return this.call("POST", `/conversations/${encodeURIComponent(conversationId)}/messages`, { messageType: 1, content, client_msg_id: id });
  }

  /** Every message that history has, oldest first. */
  async history(conversationId) {
    const all = [];
    for (let after = 0; ; ) {
      const page = await this.call("GET", `/conversations/${encodeURIComponent(conversationId)}/messages?after_seq=${after}&limit=100`);
      all.push(...page.messages);
      if (page.complete) return all;
      after = page.nextCursor ?? after;
      if (!page.hasMore) await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

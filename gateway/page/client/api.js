// The HTTP API as the signed-in user. Owns the token on each request and one renewal when it is refused; one method per
// endpoint, so that no other module spells a path.

import { fetchEnvelope } from "./envelope.js";
import { uuid } from "./ids.js";

export class Api {
  #session;

  constructor(session) {
    this.#session = session;
  }

  register = (username, password) => fetchEnvelope("POST", "/api/auth/register", { body: { username, password } });
  login = (username, password) =>
    fetchEnvelope("POST", "/api/auth/login", { body: { username, password, clientInfo: navigator.userAgent.slice(0, 255) } });
  guest = (guestName) => fetchEnvelope("POST", "/api/auth/guest", { body: guestName ? { guestName } : {} });
  logout = () => this.#call("POST", "/auth/logout", { body: { refreshToken: this.#session.refreshToken } });
  ticket = () => this.#call("POST", "/auth/ticket");
  sessions = () => this.#call("GET", "/auth/sessions");
  endSession = (id) => this.#call("DELETE", `/auth/sessions/${part(id)}`);

  profile = () => this.#call("GET", "/users/profile");
  changeProfile = (avatarUrl) => this.#call("PUT", "/users/profile", { body: { avatarUrl } });
  changePassword = (oldPassword, newPassword) => this.#call("PUT", "/users/password", { body: { oldPassword, newPassword } });
  deleteAccount = (password) => this.#call("DELETE", "/users/profile", { body: { password } });
  searchUsers = (q, signal) => this.#call("GET", "/users/search", { query: { q, limit: 20 }, signal });
  statuses = (ids) => this.#call("GET", "/users/status", { query: { ids: ids.join(",") } });

  conversations = (query) => this.#call("GET", "/conversations", { query });
  conversation = (id) => this.#call("GET", `/conversations/${part(id)}`);
  createSingle = (userId) => this.#create("/conversations", { type: 1, members: [userId] });
  createGroup = (name, description, members, key) =>
    this.#create("/conversations", { type: 2, name, description: description || undefined, members }, key);
  updateConversation = (id, changes) => this.#call("PUT", `/conversations/${part(id)}`, { body: changes });
  deleteConversation = (id) => this.#call("DELETE", `/conversations/${part(id)}`);
  leave = (id) => this.#call("POST", `/conversations/${part(id)}/leave`);
  joinWorld = () => this.#call("POST", "/conversations/world/join");

  messages = (id, query) => this.#call("GET", `/conversations/${part(id)}/messages`, { query });
  recall = (id, messageId) => this.#call("DELETE", `/conversations/${part(id)}/messages/${part(messageId)}`);

  members = (id, page) => this.#call("GET", `/conversations/${part(id)}/members`, { query: { page, size: 100 } });
  addMembers = (id, members) => this.#create(`/conversations/${part(id)}/members`, { members });
  removeMember = (id, userId) => this.#call("DELETE", `/conversations/${part(id)}/members/${part(userId)}`);
  changeMember = (id, userId, changes) =>
    this.#call("PUT", `/conversations/${part(id)}/members/${part(userId)}`, { body: changes });

  friends = () => this.#call("GET", "/friends");
  blocked = () => this.#call("GET", "/friends/blocked");
  requests = (type) => this.#call("GET", "/friends/requests", { query: { type, status: 0, size: 100 } });
  askFriend = (targetUserId, message) =>
    this.#create("/friends/requests", { targetUserId, message: message || undefined });
  answerRequest = (id, action) => this.#call("PUT", `/friends/requests/${part(id)}`, { body: { action } });
  removeFriend = (id) => this.#call("DELETE", `/friends/${part(id)}`);
  changeFriend = (id, changes) => this.#call("PUT", `/friends/${part(id)}`, { body: changes });

  /** A POST that makes something: repeated under the same key it makes it once. */
  #create(path, body, key = uuid()) {
    return this.#call("POST", path, { body, headers: { "X-Idempotency-Key": key } });
  }

  async #call(method, path, { query, body, headers, signal } = {}) {
    const target = `/api${path}${queryString(query)}`;
    const send = async () => {
      const token = await this.#session.fresh();
      return fetchEnvelope(method, target, { body, signal, headers: { ...headers, Authorization: `Bearer ${token}` } });
    };
    try {
      return await send();
    } catch (error) {
      if (error.code === "USER_DISABLED") this.#session.end(error.message);
      if (!["INVALID_TOKEN", "TOKEN_EXPIRED"].includes(error.code)) throw error;
      await this.#session.renew();
      return send();
    }
  }
}

const part = encodeURIComponent;

function queryString(query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

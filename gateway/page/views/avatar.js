// Faces of people and conversations: a picture, else initials on a colour that belongs to the id.

import { KIND } from "../client/store.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";

const HUES = [12, 32, 88, 146, 172, 200, 226, 258, 288, 326];

/** A user's; with `presence` (`online`, `offline` or nothing) a dot in its corner. */
export function userAvatar(user, presence) {
  return face(user?.id ?? "", user?.username ?? "?", user?.avatarUrl, "round", presence);
}

/** A conversation's: that of the other side, of the group, or the globe. */
export function conversationAvatar(store, conversation) {
  if (conversation.type === KIND.world) return el("span", { class: "avatar world", "aria-hidden": "true" }, icon("globe"));
  if (conversation.type === KIND.group) return face(conversation.id, conversation.name ?? "?", conversation.avatarUrl, "square");
  const peer = store.user(conversation.peer?.id) ?? { id: conversation.id, username: conversation.name };
  return userAvatar(peer, store.presence.get(peer.id)?.online ? "online" : "offline");
}

function face(id, name, url, shape, presence) {
  const node = el("span", { class: `avatar ${shape}`, "aria-hidden": "true", vars: { hue: HUES[hash(id) % HUES.length] } });
  node.append(el("span", { class: "initials", text: initials(name) }));
  if (url?.startsWith("https:")) {
    const picture = el("img", { src: url, alt: "", loading: "lazy", referrerpolicy: "no-referrer" });
    picture.addEventListener("error", () => picture.remove());
    node.append(picture);
  }
  if (presence) node.append(el("span", { class: `dot ${presence}` }));
  return node;
}

function initials(name) {
  const words = name.replace(/^guest_/, "").split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]].map((word) => [...word][0]) : [...(words[0] ?? "?")].slice(0, 2);
  return letters.join("").toUpperCase();
}

function hash(text) {
  let sum = 7;
  for (const char of text) sum = (sum * 31 + char.codePointAt(0)) >>> 0;
  return sum;
}

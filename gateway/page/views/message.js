// One message as it is shown. Owns its looks; what can be done with it is in actions.js.

import { readExtra } from "../client/timeline.js";
import { KIND } from "../client/store.js";
import { userAvatar } from "./avatar.js";
import { el } from "./dom.js";
import { clock, moment } from "./format.js";
import { icon } from "./icons.js";

const URL_PATTERN = /\bhttps?:\/\/[^\s<>"]+[^\s<>"'.,;:!?)\]}]/g;
const EMOJI_ONLY = /^(?:\p{Extended_Pictographic}(?:\uFE0F|\u200D\p{Extended_Pictographic}|\p{Emoji_Modifier})*\s*){1,3}$/u;
const STATES = {
  storing: ["clock", "Sending"], waiting: ["clock", "Waiting to be sent"], sending: ["clock", "Sending"],
  failed: ["alert", "Not sent"], sent: ["check", "Sent"], read: ["checks", "Read"],
};

/** A day's heading. */
export const dayItem = (text) => el("li", { class: "day", role: "separator" }, el("span", { text }));

/** The line above what is new. */
export const newItem = () => el("li", { class: "new-line", role: "separator" }, el("span", { text: "New" }));

/** What the server says in a conversation. */
export const noteItem = (row) => el("li", { class: "note", title: moment(row.createdAt) }, el("span", { text: row.content }));

/**
 * A message. `look`: `isMine`, `isFirst` and `isLast` of its group, `state` and `readers` of an own one, `kind` of the
 * conversation. `on`: `menu(anchor)`, `person()`, `retry()`, `discard()`.
 */
export function messageItem(store, row, look, on) {
  const name = look.isMine ? "You" : store.nameOf(row.senderId);
  const showsFace = !look.isMine && look.kind !== KIND.single;
  const more = el("button", { class: "more icon-button", type: "button", tabindex: -1, "aria-label": "What to do with this message", "aria-haspopup": "menu" }, icon("more"));
  more.addEventListener("click", () => on.menu(more));
  const isJumbo = row.messageType === 1 && !row.deleted && EMOJI_ONLY.test(row.content);
  const bubble = el("div", { class: `bubble${isJumbo ? " jumbo" : ""}${row.deleted ? " recalled" : ""}` },
    showsFace && look.isFirst
      ? el("button", { class: "who", type: "button", tabindex: -1, text: name, on: { click: on.person } })
      : el("span", { class: "unseen", text: `${name}: ` }),
    body(row),
    meta(store, row, look));
  const node = el("li", {
    class: ["row", look.isMine ? "mine" : "theirs", look.isFirst && "first", look.isLast && "last", look.state === "failed" && "failed"].filter(Boolean).join(" "),
    tabindex: -1, data: { seq: row.seqId ?? "", client: row.clientMsgId ?? "" },
  },
  showsFace && (look.isLast ? faceButton(store, row, name, on) : el("span", { class: "face-space" })),
  bubble, more);
  if (look.state === "failed") node.append(failure(row, on));
  node.addEventListener("contextmenu", (event) => {
    if (event.target.closest("a") || !getSelection().isCollapsed) return;
    event.preventDefault();
    on.menu(more);
  });
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target !== node) return;
    event.preventDefault();
    on.menu(more);
  });
  return node;
}

function faceButton(store, row, name, on) {
  return el("button", { class: "face", type: "button", tabindex: -1, "aria-label": `About ${name}`, on: { click: on.person } }, userAvatar(store.user(row.senderId)));
}

function meta(store, row, look) {
  const time = el("time", { text: clock(row.createdAt), title: moment(row.createdAt) });
  if (!look.isMine || row.deleted) return el("span", { class: "meta" }, time);
  const [iconName, label] = STATES[look.state];
  const words = look.readers.length && look.kind !== KIND.single ? `Read by ${look.readers.map((id) => store.nameOf(id)).join(", ")}` : label;
  return el("span", { class: "meta" }, time, el("span", { class: `state ${look.state}`, role: "img", "aria-label": words, title: words }, icon(iconName)));
}

function failure(row, on) {
  return el("div", { class: "failure" },
    el("span", { text: row.problem ?? "Not sent." }),
    el("button", { class: "link", type: "button", text: "Try again", on: { click: on.retry } }),
    el("button", { class: "link", type: "button", text: "Discard", on: { click: on.discard } }));
}

function body(row) {
  if (row.deleted) return el("p", { class: "text", text: "This message was recalled" });
  if (row.messageType === 1) return el("p", { class: "text", dir: "auto" }, ...linked(row.content));
  const extra = readExtra(row.extra);
  const name = String(extra.name ?? extra.filename ?? "File");
  if (!/^https?:\/\//.test(row.content)) return el("p", { class: "text", text: name });
  if (row.messageType === 2) {
    return el("a", { class: "picture", ...outside(row.content) }, el("img", { src: row.content, alt: name, loading: "lazy", referrerpolicy: "no-referrer" }));
  }
  return el("a", { class: "attachment", ...outside(row.content) }, icon("file"), el("span", { text: name }));
}

/** Text with its addresses as links. */
function linked(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(URL_PATTERN)) {
    parts.push(text.slice(end, match.index), el("a", { text: match[0], ...outside(match[0]) }));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

const outside = (href) => ({ href, target: "_blank", rel: "noopener noreferrer nofollow" });

// The open conversation: its head, messages, who types, and where one writes. Owns how these stand together.

import { KIND } from "../client/store.js";
import { conversationAvatar } from "./avatar.js";
import { composer } from "./composer.js";
import { details } from "./details.js";
import { confirmed, menu } from "./dialog.js";
import { batched, el } from "./dom.js";
import { explain } from "../client/errors.js";
import { lastSeen, members } from "./format.js";
import { icon } from "./icons.js";
import { openPerson } from "./person.js";
import { leave } from "./route.js";
import { Thread } from "./thread.js";
import { attempt, toast } from "./toast.js";

/** `{node, entered(), close()}` for a conversation in the list. */
export function room(client, id) {
  const { store } = client;
  const thread = new Thread(client, id);
  const write = composer(client, id, () => thread.wrote());
  const typing = el("p", { class: "typing-line", "aria-live": "polite" });
  const head = roomHead(client, id, (anchor) => toggleDetails(anchor));
  const column = el("div", { class: "room-column" }, head.node, thread.node, typing, write.node);
  const node = el("div", { class: "room" }, column);
  let panel = null;

  function toggleDetails(anchor) {
    const wasOpen = panel;
    panel?.close();
    panel = null;
    node.classList.toggle("has-details", !wasOpen);
    if (wasOpen) return;
    panel = details(client, id, () => {
      toggleDetails();
      anchor?.focus();
    });
    node.append(panel.node);
    panel.node.querySelector("button")?.focus();
  }

  const draw = batched(() => {
    if (!store.conversations.has(id)) return;
    head.draw();
    write.draw();
    typing.textContent = typists(store.typists(id));
  });
  const stops = ["list", "presence", "people", "members"].map((topic) => store.on(topic, draw));
  stops.push(store.on("typing", (changed) => changed === id && draw()), client.on("minute", draw));
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel) toggleDetails();
  });
  head.draw();
  write.draw();

  return {
    node,
    entered() {
      write.ready();
      write.focus();
      thread.open().catch((error) => error.name !== "AbortError" && toast(explain(error), "bad"));
      client.sync.refresh(id);
    },
    close() {
      stops.forEach((stop) => stop());
      panel?.close();
      thread.close();
      client.typing(id, false);
    },
  };
}

function roomHead(client, id, toggleDetails) {
  const { store } = client;
  const title = el("span", { class: "room-title" });
  const note = el("span", { class: "room-note" });
  const face = el("span", { class: "room-face" });
  const about = el("button", { class: "room-about", type: "button" }, face, el("span", { class: "room-names" }, title, note));
  const more = el("button", { class: "icon-button", type: "button", "aria-label": "More", "aria-haspopup": "menu" }, icon("more"));
  const back = el("button", { class: "icon-button back", type: "button", "aria-label": "Back to the list", on: { click: leave } }, icon("back"));
  const node = el("header", { class: "room-head" }, back, about, more);

  const show = () => {
    const conversation = store.conversations.get(id);
    if (conversation.type === KIND.single) openPerson(client, conversation.peer?.id);
    else toggleDetails(about);
  };
  about.addEventListener("click", show);
  more.addEventListener("click", () => menu(more, roomActions(client, id, show)));

  return {
    node,
    draw() {
      const conversation = store.conversations.get(id);
      title.textContent = store.titleOf(conversation);
      note.textContent = noteOf(store, conversation);
      about.setAttribute("aria-label", `${title.textContent}, ${note.textContent}`);
      face.replaceChildren(conversationAvatar(store, conversation));
    },
  };
}

function noteOf(store, conversation) {
  if (conversation.type === KIND.world) return "Everybody who is here";
  if (conversation.type === KIND.group) return members(conversation.memberCount);
  const peer = store.user(conversation.peer?.id);
  const presence = store.presence.get(conversation.peer?.id);
  if (peer?.isGuest && !presence?.online) return "guest";
  return presence?.online ? "online" : lastSeen(presence?.lastSeen);
}

function roomActions(client, id, show) {
  const { store, api } = client;
  const conversation = store.conversations.get(id);
  const title = store.titleOf(conversation);
  const gone = async (question, text, action, request) => {
    if (!(await confirmed(question, text, action))) return;
    await attempt(async () => {
      await request();
      store.dropConversation(id);
    });
  };
  const about = { label: conversation.type === KIND.single ? `About ${title}` : "Details", icon: "info", run: show };
  if (conversation.type === KIND.single) {
    if (client.isGuest) return [about];
    const hide = () => gone("Remove from the list?", "The conversation comes back with the next message.", "Remove", () => api.deleteConversation(id));
    return [about, { label: "Remove from list", icon: "trash", run: hide }];
  }
  const isOwner = conversation.ownerId === store.me.id;
  const quit = () => gone(`Leave ${title}?`, "You will not get its messages any more.", "Leave", () => api.leave(id));
  return [about, !isOwner && { label: conversation.type === KIND.world ? "Leave the world room" : "Leave group", icon: "out", tone: "danger", run: quit }];
}

function typists(names) {
  if (!names.length) return "";
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return `${names[0]} and ${names.length - 1} others are typing…`;
}

// The list of conversations: last message, unread count, presence. Owns their order on the page and the filter.

import { activity, KIND } from "../client/store.js";
import { conversationAvatar } from "./avatar.js";
import { batched, el, reconcile, roving } from "./dom.js";
import { shortTime, unread } from "./format.js";
import { icon } from "./icons.js";
import { go, openConversation } from "./route.js";
import { summary } from "./summary.js";
import { attempt } from "./toast.js";

const SHOWN_MAX = 400;

export function conversationList(client) {
  const { store } = client;
  const list = el("ul", { class: "items", "aria-label": "Conversations" });
  const empty = el("p", { class: "empty-list", hidden: true });
  const skeleton = el("div", { class: "skeletons", "aria-hidden": "true" }, Array.from({ length: 7 }, () => el("div", { class: "skeleton" })));
  const world = el("button", {
    class: "button quiet wide", type: "button", hidden: true,
    on: { click: () => attempt(async () => store.putConversation(await client.api.joinWorld())) },
  }, icon("globe"), "Join the world room");
  const node = el("div", { class: "pane" }, skeleton, list, empty, world);
  let wanted = "";

  const draw = batched(() => {
    const all = store.listed();
    const matching = wanted ? all.filter((conversation) => store.titleOf(conversation).toLowerCase().includes(wanted)) : all;
    skeleton.hidden = store.isListed || all.length > 0;
    empty.hidden = !store.isListed || matching.length > 0;
    empty.textContent = wanted ? "Nothing has this name." : "No conversations yet. Use + to find somebody.";
    world.hidden = !store.isListed || Boolean(wanted) || all.some((conversation) => conversation.type === KIND.world);
    reconcile(list, matching.slice(0, SHOWN_MAX).map((conversation) => itemOf(client, conversation)), ({ make }) => make());
    if (!list.querySelector("[tabindex='0']")) list.querySelector(".item")?.setAttribute("tabindex", "0");
  });
  for (const topic of ["list", "presence", "typing", "timeline"]) store.on(topic, draw);
  client.on("minute", draw);
  addEventListener("hashchange", draw, { signal: client.gone });
  roving(list, ".item");
  draw();

  return {
    node,
    filter(text) {
      wanted = text.trim().toLowerCase();
      draw();
    },
  };
}

function itemOf(client, conversation) {
  const { store } = client;
  const isOpen = openConversation() === conversation.id;
  const title = store.titleOf(conversation);
  const typists = store.typists(conversation.id);
  const draft = isOpen ? "" : client.drafts.get(conversation.id);
  const text = summary(client, conversation);
  const count = conversation.unreadCount ?? 0;
  const time = conversation.lastMessage ? shortTime(activity(conversation)) : "";
  const isOnline = Boolean(conversation.peer && store.presence.get(conversation.peer.id)?.online);
  const signature = JSON.stringify([isOpen, title, typists, draft, text, count, time, isOnline, conversation.avatarUrl]);
  const make = () => {
    const preview = typists.length ? el("span", { class: "preview typing", text: typing(conversation, typists) })
      : draft ? el("span", { class: "preview" }, el("span", { class: "draft", text: "Draft: " }), draft)
      : el("span", { class: `preview ${text.tone ?? ""}` }, text.who && el("span", { class: "preview-who", text: `${text.who}: ` }), text.words);
    return el("li", {},
      el("button", {
        class: "item", type: "button", tabindex: isOpen ? 0 : -1, "aria-current": isOpen && "true", data: { id: conversation.id },
        "aria-label": spoken({ title, count, isOnline, conversation, text }), on: { click: () => go(conversation.id) },
      },
      conversationAvatar(store, conversation),
      el("span", { class: "item-title", text: title }),
      el("time", { class: "item-time", text: time }),
      preview,
      count > 0 && el("span", { class: "badge", text: unread(count) })));
  };
  return { key: conversation.id, signature, make };
}

const typing = (conversation, names) =>
  conversation.type === KIND.single ? "typing…" : `${names[0]}${names.length > 1 ? " and others" : ""} typing…`;

function spoken({ title, count, isOnline, conversation, text }) {
  const parts = [title];
  if (conversation.type === KIND.single) parts.push(isOnline ? "online" : "offline");
  if (count) parts.push(`${unread(count)} unread`);
  if (text.words) parts.push(text.who ? `${text.who}: ${text.words}` : text.words);
  return parts.join(", ");
}

// Friends, requests and who is blocked. Owns their list on the page; what is done with a person is in person.js.

import { userAvatar } from "./avatar.js";
import { batched, el, roving } from "./dom.js";
import { lastSeen } from "./format.js";
import { icon } from "./icons.js";
import { openPerson, talkTo } from "./person.js";
import { newChat } from "./start.js";
import { attempt } from "./toast.js";

export function people(client) {
  const { store } = client;
  const node = el("div", { class: "pane people" });
  let wanted = "";

  const draw = batched(() => {
    const focused = document.activeElement?.dataset?.key;
    const isWanted = (id) => !wanted || store.nameOf(id).toLowerCase().includes(wanted) || store.user(id)?.username.toLowerCase().includes(wanted);
    const received = [...store.received.values()].filter((request) => isWanted(request.requesterId));
    const sent = [...store.sent.values()].filter((request) => isWanted(request.targetId));
    const friends = [...store.friends.values()].filter((friend) => isWanted(friend.friendId)).sort((a, b) => rank(store, a) - rank(store, b) || byName(store, a, b));
    const blocked = [...store.blocked.values()].filter((friend) => isWanted(friend.friendId));
    node.replaceChildren(
      el("button", { class: "button quiet wide", type: "button", on: { click: () => newChat(client) } }, icon("addPerson"), "Find people"),
      ...section("Requests", received.map((request) => requestItem(client, request))),
      ...section("Friends", friends.map((friend) => personItem(client, friend.friendId))),
      ...section("Waiting for an answer", sent.map((request) => personItem(client, request.targetId, "asked"))),
      ...section("Blocked", blocked.map((friend) => personItem(client, friend.friendId, "blocked"))));
    if (!received.length && !friends.length && !sent.length && !blocked.length) {
      node.append(el("p", { class: "empty-list", text: wanted ? "Nobody has this name." : "No friends yet. Find people by their names." }));
    }
    node.querySelector(".item")?.setAttribute("tabindex", "0");
    if (focused) node.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  });
  for (const topic of ["people", "presence"]) store.on(topic, draw);
  roving(node, ".item");
  draw();

  return {
    node,
    filter(text) {
      wanted = text.trim().toLowerCase();
      draw();
    },
  };
}

const rank = (store, friend) => (store.presence.get(friend.friendId)?.online ? 0 : 1);
const byName = (store, a, b) => store.nameOf(a.friendId).localeCompare(store.nameOf(b.friendId));

function section(title, items) {
  return items.length ? [el("h2", { class: "section-title", text: title }), el("ul", { class: "items", "aria-label": title }, items)] : [];
}

function personItem(client, id, note) {
  const { store } = client;
  const presence = store.presence.get(id);
  const words = note ?? (presence?.online ? "online" : lastSeen(presence?.lastSeen));
  const open = () => (note ? openPerson(client, id) : talkTo(client, id));
  return el("li", { class: "with-action" },
    el("button", { class: "item", type: "button", tabindex: -1, data: { key: `p${id}` }, on: { click: open } },
      userAvatar(store.user(id), !note && (presence?.online ? "online" : "offline")),
      el("span", { class: "item-title", text: store.nameOf(id) }),
      el("span", { class: "preview faint", text: words })),
    el("button", { class: "icon-button", type: "button", "aria-label": `About ${store.nameOf(id)}`, on: { click: () => openPerson(client, id) } }, icon("info")));
}

function requestItem(client, request) {
  const { store, api } = client;
  const name = store.nameOf(request.requesterId);
  const answer = (action) => () => attempt(async () => {
    const { conversation } = await api.answerRequest(request.id, action);
    if (conversation) store.putConversation(conversation);
    store.changePeople(() => store.received.delete(request.id));
    await client.loadPeople();
  }, action === "accept" && `You and ${name} are friends now.`);
  return el("li", { class: "request" },
    userAvatar(store.user(request.requesterId)),
    el("div", { class: "request-text" },
      el("span", { class: "item-title", text: name }),
      el("p", { class: "preview", text: request.message || "wants to be your friend" })),
    el("div", { class: "request-actions" },
      el("button", { class: "button primary small", type: "button", text: "Accept", "aria-label": `Accept ${name}`, on: { click: answer("accept") } }),
      el("button", { class: "button quiet small", type: "button", text: "Decline", "aria-label": `Decline ${name}`, on: { click: answer("reject") } })));
}

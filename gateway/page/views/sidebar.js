// The left side: who is signed in, the conversations, the people. Owns which of the two lists is shown and the filter.

import { account } from "./account.js";
import { userAvatar } from "./avatar.js";
import { conversationList } from "./list.js";
import { batched, el } from "./dom.js";
import { icon } from "./icons.js";
import { newChat, newGroup } from "./start.js";
import { menu } from "./dialog.js";
import { people } from "./people.js";

export function sidebar(client) {
  const { store } = client;
  const panes = { chats: conversationList(client), people: client.isGuest ? null : people(client) };
  const list = el("div", { class: "sidebar-list" });
  const badge = el("span", { class: "badge", hidden: true });
  const tab = (name, label, iconName, extra) =>
    el("button", { class: "tab", type: "button", data: { tab: name }, on: { click: () => show(name) } }, icon(iconName), label, extra);
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": "What is listed" },
    tab("chats", "Chats", "chat"), tab("people", "People", "people", badge));
  const filter = el("input", {
    class: "input", type: "search", placeholder: "Filter", "aria-label": "Filter the list", autocomplete: "off",
    on: { input: () => Object.values(panes).forEach((pane) => pane?.filter(filter.value)) },
  });

  const show = (name) => {
    for (const button of tabs.children) button.setAttribute("aria-pressed", button.dataset.tab === name);
    list.replaceChildren(panes[name].node);
  };
  const drawBadge = batched(() => {
    badge.hidden = !store.received.size;
    badge.textContent = store.received.size;
    badge.setAttribute("aria-label", `${store.received.size} friend requests`);
  });
  store.on("people", drawBadge);
  show("chats");

  return el("nav", { class: "sidebar", "aria-label": "Conversations and people" },
    head(client),
    el("div", { class: "sidebar-tools" }, !client.isGuest && tabs, el("div", { class: "filter" }, icon("search"), filter)),
    list);
}

function head(client) {
  const me = client.store.me;
  const face = el("button", {
    class: "me", type: "button", "aria-label": `Your account, ${me.username}`, on: { click: () => account(client) },
  }, userAvatar(me), el("span", { class: "me-name", text: me.username }), me.isGuest && el("span", { class: "tag", text: "Guest" }));
  client.session.on("described", () => face.firstElementChild.replaceWith(userAvatar(client.session.user)));
  const plus = el("button", { class: "icon-button", type: "button", "aria-label": "New conversation", "aria-haspopup": "menu" }, icon("plus"));
  plus.addEventListener("click", () => menu(plus, [
    { label: "Find somebody", icon: "search", run: () => newChat(client) },
    { label: "New group", icon: "people", run: () => newGroup(client) },
  ]));
  return el("header", { class: "sidebar-head" }, face, !me.isGuest && plus);
}

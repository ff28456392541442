// Beginning something: finding a person, making a group. Owns the search for users and the picking of several.

import { userAvatar } from "./avatar.js";
import { dialog, field, form } from "./dialog.js";
import { el, roving } from "./dom.js";
import { explain } from "../client/errors.js";
import { icon } from "./icons.js";
import { uuid } from "../client/ids.js";
import { openPerson, talkTo } from "./person.js";
import { go } from "./route.js";
import { toast } from "./toast.js";

const TYPED_MS = 250;

/** Finds somebody by name and talks to them. */
export function newChat(client) {
  dialog("Find somebody", (close) => {
    const row = (user) => el("li", { class: "with-action" },
      el("button", { class: "item", type: "button", on: { click: () => (close(), talkTo(client, user.id)) } },
        userAvatar(user), el("span", { class: "item-title", text: user.username }),
        el("span", { class: "preview faint", text: client.store.friends.has(user.id) ? "Friend" : "Write a message" })),
      el("button", { class: "icon-button", type: "button", "aria-label": `About ${user.username}`, on: { click: () => (close(), openPerson(client, user.id)) } }, icon("info")));
    return userSearch(client, row);
  });
}

/** Names a group and picks who is in it. */
export function newGroup(client) {
  const key = uuid();
  dialog("New group", (close) => {
    const picked = picker(client, new Set());
    return form({
      action: "Create group",
      submit: async ({ name, description }) => {
        const { members, ...group } = await client.api.createGroup(name.trim(), description.trim(), picked.ids(), key);
        client.store.putConversation(group);
        close();
        go(group.id);
      },
    },
    field("Name", { name: "name", required: true, maxlength: 100, autofocus: true }),
    field("What it is about", { name: "description", maxlength: 500, placeholder: "Optional" }),
    picked.node);
  });
}

/** Picks people to add to a group. */
export function invite(client, conversation, present) {
  dialog(`Add to ${conversation.name}`, (close) => {
    const picked = picker(client, present);
    return form({
      action: "Add",
      submit: async () => {
        if (!picked.ids().length) return;
        const { failedUsers = [] } = await client.api.addMembers(conversation.id, picked.ids());
        for (const { userId } of failedUsers) toast(`${client.store.nameOf(userId)} could not be added.`, "bad");
        close();
      },
    }, picked.node);
  });
}

/** Friends first, others by search; those in `left` are not offered. */
function picker(client, left) {
  const { store } = client;
  const chosen = new Map();
  const chips = el("ul", { class: "chips", "aria-label": "Chosen" });
  const drawChips = () => {
    chips.replaceChildren(...[...chosen.values()].map((user) => el("li", {},
      el("button", { class: "chip", type: "button", "aria-label": `Take ${user.username} out`, on: { click: () => choose(user, false) } }, user.username, icon("close")))));
  };
  const choose = (user, isChosen) => {
    if (isChosen) chosen.set(user.id, user);
    else chosen.delete(user.id);
    const box = search.querySelector(`[value="${CSS.escape(user.id)}"]`);
    if (box) box.checked = isChosen;
    drawChips();
  };
  const row = (user) => {
    const box = el("input", { type: "checkbox", value: user.id, on: { change: () => choose(user, box.checked) } });
    box.checked = chosen.has(user.id);
    return el("li", {}, el("label", { class: "item pick" }, box, userAvatar(user), el("span", { class: "item-title", text: user.username })));
  };
  const friends = () => [...store.friends.keys()].map((id) => store.user(id)).filter((user) => user && !left.has(user.id));
  const search = userSearch(client, row, { begin: friends, isOffered: (user) => !left.has(user.id), isFirst: false });
  return { node: el("div", { class: "picker" }, chips, search), ids: () => [...chosen.keys()] };
}

/** A field that searches while one types. `begin()`: whom to list before. */
function userSearch(client, row, { begin = () => [], isOffered = () => true, isFirst = true } = {}) {
  const results = el("ul", { class: "items results", "aria-label": "People found" });
  const status = el("p", { class: "faint", role: "status" });
  let running = new AbortController();
  let timer = 0;

  const list = (users, words) => {
    for (const user of users) client.store.putUser(user);
    results.replaceChildren(...users.map(row));
    status.textContent = users.length ? "" : words;
  };
  const look = async (q) => {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    if (!q) return list(begin(), "Names begin with what you type, or have it in them.");
    try {
      const { users } = await client.api.searchUsers(q, signal);
      if (!signal.aborted) list(users.filter(isOffered), "Nobody has this name.");
    } catch (error) {
      if (!signal.aborted) status.textContent = explain(error);
    }
  };
  const typed = (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => look(event.target.value.trim()), TYPED_MS);
  };
  const keep = (event) => event.key === "Enter" && event.preventDefault();
  const input = field("Search people", { type: "search", maxlength: 50, autofocus: isFirst, autocapitalize: "none", on: { input: typed, keydown: keep } });
  look("");
  roving(results, ".item");
  return el("div", { class: "user-search" }, input, status, results);
}

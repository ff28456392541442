// The panel about a group or the world room: what it is, who is in it, what may be changed. Owns what each role sees.

import { KIND, ROLE } from "../client/store.js";
import { conversationAvatar, userAvatar } from "./avatar.js";
import { confirmed, dialog, field, form, menu } from "./dialog.js";
import { batched, el, roving } from "./dom.js";
import { members as memberCount } from "./format.js";
import { icon } from "./icons.js";
import { openPerson, talkTo } from "./person.js";
import { invite } from "./start.js";
import { attempt } from "./toast.js";

const ROLE_NAMES = { [ROLE.admin]: "Admin", [ROLE.owner]: "Owner" };

/** `{node, close()}`; `closed()` is called when the user closes it. */
export function details(client, id, closed) {
  const { store } = client;
  const body = el("div", { class: "details-body" });
  const node = el("aside", { class: "details", "aria-label": "Details" },
    el("header", { class: "details-head" }, el("h2", { text: "Details" }),
      el("button", { class: "icon-button", type: "button", "aria-label": "Close details", on: { click: closed } }, icon("close"))),
    body);
  const draw = batched(() => {
    const conversation = store.conversations.get(id);
    if (!conversation) return;
    const focused = document.activeElement?.dataset?.key;
    body.replaceChildren(...(conversation.type === KIND.world ? aboutWorld(client, conversation) : aboutGroup(client, conversation)));
    if (focused) body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  });
  const stops = ["list", "members", "people", "presence"].map((topic) => store.on(topic, draw));
  draw();
  loadMembers(client, id);
  roving(body, ".item");
  return {
    node,
    close() {
      stops.forEach((stop) => stop());
      node.remove();
    },
  };
}

/** All pages of the members; the world room does not tell them to everybody. */
async function loadMembers({ api, store }, id) {
  if (store.conversations.get(id)?.type === KIND.world) return;
  const all = new Map();
  await attempt(async () => {
    for (let page = 1; ; page++) {
      const { members, hasMore } = await api.members(id, page);
      for (const member of members) all.set(member.userId, member);
      if (!hasMore) break;
    }
    store.putMembers(id, [...all.values()]);
  });
}

function aboutWorld(client, conversation) {
  const limit = conversation.settings?.world_settings?.message_rate_limit;
  return [
    face(client, conversation, "Everybody who is here"),
    el("p", { class: "details-text", text: conversation.description || "One room for everybody on this server, guests too." }),
    limit ? el("p", { class: "faint", text: `Everybody can write ${limit} messages a minute.` }) : "",
  ];
}

function aboutGroup(client, conversation) {
  const { store } = client;
  const mine = conversation.myMembership?.role ?? ROLE.member;
  const settings = conversation.settings?.group_settings ?? {};
  const present = store.members.get(conversation.id) ?? [];
  const mayInvite = mine >= ROLE.admin || settings.invite_enabled !== false;
  const sorted = [...present].sort((a, b) => b.role - a.role || store.nameOf(a.userId).localeCompare(store.nameOf(b.userId)));
  return [
    face(client, conversation, memberCount(conversation.memberCount)),
    conversation.description && el("p", { class: "details-text", text: conversation.description }),
    mine >= ROLE.admin && button("Edit name and description", "edit", () => edit(client, conversation)),
    mayInvite && button("Add people", "addPerson", () => invite(client, conversation, new Set(present.map((member) => member.userId)))),
    mine === ROLE.owner && rules(client, conversation, settings),
    el("h3", { class: "section-title", text: "Members" }),
    present.length ? el("ul", { class: "items", "aria-label": "Members" }, sorted.map((member) => memberItem(client, conversation, mine, member)))
      : el("div", { class: "skeletons", "aria-hidden": "true" }, Array.from({ length: 3 }, () => el("div", { class: "skeleton" }))),
    mine === ROLE.owner ? button("Dissolve group", "trash", () => dissolve(client, conversation), "danger-quiet")
      : button("Leave group", "out", () => leave(client, conversation), "danger-quiet"),
  ].filter(Boolean);
}

const face = ({ store }, conversation, note) =>
  el("div", { class: "card-face" }, conversationAvatar(store, conversation), el("h3", { class: "card-name", text: store.titleOf(conversation) }), el("p", { class: "faint", text: note }));

const button = (label, iconName, run, tone = "quiet") =>
  el("button", { class: `button ${tone} wide`, type: "button", data: { key: label }, on: { click: run } }, icon(iconName), label);

function memberItem(client, conversation, mine, member) {
  const { store } = client;
  const isMe = member.userId === store.me.id;
  const name = isMe ? "You" : store.nameOf(member.userId);
  const tags = [ROLE_NAMES[member.role], member.muted && "Muted"].filter(Boolean).join(", ");
  const node = el("button", { class: "item", type: "button", tabindex: member.role === ROLE.owner ? 0 : -1, data: { key: member.userId }, "aria-label": [name, tags].filter(Boolean).join(", "), "aria-haspopup": isMe ? null : "menu" },
    userAvatar(store.user(member.userId) ?? member.user, !isMe && store.presence.get(member.userId)?.online ? "online" : undefined),
    el("span", { class: "item-title", text: name }),
    tags && el("span", { class: "tag", text: tags }));
  if (!isMe) node.addEventListener("click", () => menu(node, memberActions(client, conversation, mine, member)));
  return el("li", {}, node);
}

function memberActions(client, conversation, mine, member) {
  const { api, store } = client;
  const name = store.nameOf(member.userId);
  const outranks = mine > member.role && mine >= ROLE.admin;
  const change = (changes, done) => attempt(async () => {
    await api.changeMember(conversation.id, member.userId, changes);
    reload(client, conversation.id);
  }, done);
  const remove = async () => {
    if (!(await confirmed(`Remove ${name}?`, `${name} will not get the messages of this group any more.`, "Remove"))) return;
    await attempt(async () => {
      await api.removeMember(conversation.id, member.userId);
      reload(client, conversation.id);
    });
  };
  const transfer = async () => {
    if (!(await confirmed(`Make ${name} the owner?`, "You become an admin. Only the new owner can undo this.", "Hand over"))) return;
    await change({ role: ROLE.owner }, `${name} is the owner now.`);
  };
  return [
    { label: `About ${name}`, icon: "person", run: () => openPerson(client, member.userId) },
    !client.isGuest && { label: "Message", icon: "chat", run: () => talkTo(client, member.userId) },
    outranks && { label: member.muted ? "Let write again" : "Mute", icon: "mute", run: () => change({ muted: !member.muted }) },
    mine === ROLE.owner && { label: member.role === ROLE.admin ? "Make a plain member" : "Make an admin", icon: "crown", run: () => change({ role: member.role === ROLE.admin ? ROLE.member : ROLE.admin }) },
    mine === ROLE.owner && { label: "Make the owner", icon: "crown", run: transfer },
    outranks && { label: "Remove from group", icon: "out", tone: "danger", run: remove },
  ];
}

function reload(client, id) {
  client.sync.refresh(id);
  loadMembers(client, id);
}

function rules(client, conversation, settings) {
  const toggle = (name, label, fallback) => {
    const box = el("input", { type: "checkbox", role: "switch", data: { key: name } });
    box.checked = settings[name] ?? fallback;
    box.addEventListener("change", async () => {
      const changes = { settings: { group_settings: { [name]: box.checked } } };
      const isDone = await attempt(async () => client.store.putConversation(await client.api.updateConversation(conversation.id, changes)));
      if (!isDone) box.checked = !box.checked;
    });
    return el("label", { class: "switch" }, el("span", { text: label }), box);
  };
  return el("fieldset", { class: "rules" },
    el("legend", { class: "section-title", text: "Rules" }),
    toggle("mute_all", "Only admins can write", false),
    toggle("invite_enabled", "Members can add people", true),
    toggle("allow_member_view_history", "New members see earlier messages", true));
}

function edit(client, conversation) {
  dialog("Edit group", (close) => form({
    action: "Save",
    submit: async ({ name, description }) => {
      const changes = { name: name.trim(), description: description.trim(), infoVersion: conversation.infoVersion };
      try {
        client.store.putConversation(await client.api.updateConversation(conversation.id, changes));
      } catch (error) {
        if (error.code === "VERSION_CONFLICT") client.sync.refresh(conversation.id);
        throw error;
      }
      close();
    },
  },
  field("Name", { name: "name", required: true, maxlength: 100, autofocus: true, value: conversation.name ?? "" }),
  field("What it is about", { name: "description", maxlength: 500, rows: 3, value: conversation.description ?? "" })));
}

async function leave(client, conversation) {
  if (!(await confirmed(`Leave ${conversation.name}?`, "You will not get its messages any more.", "Leave"))) return;
  await attempt(async () => {
    await client.api.leave(conversation.id);
    client.store.dropConversation(conversation.id);
  });
}

async function dissolve(client, conversation) {
  if (!(await confirmed(`Dissolve ${conversation.name}?`, "The group ends for everybody. This cannot be undone.", "Dissolve"))) return;
  await attempt(async () => {
    await client.api.deleteConversation(conversation.id);
    client.store.dropConversation(conversation.id);
  });
}

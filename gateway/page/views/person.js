// One person: who they are and what one can do with them. Owns the card and its actions.

import { userAvatar } from "./avatar.js";
import { confirmed, dialog, field, form } from "./dialog.js";
import { el } from "./dom.js";
import { lastSeen } from "./format.js";
import { icon } from "./icons.js";
import { go } from "./route.js";
import { attempt, toast } from "./toast.js";

/** Opens the single chat with somebody. */
export const talkTo = (client, id) => attempt(async () => go(await client.singleWith(id)));

/** Opens the card of a person. */
export function openPerson(client, id) {
  const { store } = client;
  if (id === store.me.id) return;
  const user = store.user(id) ?? { id, username: "Somebody" };
  dialog(store.nameOf(id), (close) => {
    const presence = store.presence.get(id);
    const friend = store.friends.get(id);
    const note = [
      friend?.remark && `Name: ${user.username}`,
      user.isGuest ? "Guest" : presence && (presence.online ? "Online" : lastSeen(presence.lastSeen)),
    ].filter(Boolean).join(" · ");
    return [
      el("div", { class: "card-face" }, userAvatar(user, presence?.online ? "online" : undefined), note && el("p", { class: "faint", text: note })),
      el("div", { class: "card-actions" }, actions(client, user, close)),
    ];
  });
}

function actions(client, user, close) {
  const { store, api } = client;
  if (client.isGuest) return [el("p", { class: "faint", text: "Create an account to write to people and make friends." })];
  const isFriend = store.friends.has(user.id);
  const isBlocked = store.blocked.has(user.id);
  const isAsked = [...store.sent.values()].some((request) => request.targetId === user.id);
  const button = (label, iconName, run, tone = "quiet") =>
    el("button", { class: `button ${tone} wide`, type: "button", on: { click: () => (close(), run()) } }, icon(iconName), label);
  const block = (blocked) => attempt(async () => {
    await api.changeFriend(user.id, { blocked });
    await client.loadPeople();
  }, blocked ? `${user.username} is blocked.` : `${user.username} is not blocked any more.`);
  const remove = async () => {
    if (!(await confirmed("Remove friend?", `${user.username} will not be your friend any more. Your conversation stays.`, "Remove"))) return;
    attempt(async () => {
      await api.removeFriend(user.id);
      store.changePeople(() => store.friends.delete(user.id));
    });
  };
  return [
    !isBlocked && button("Message", "chat", () => talkTo(client, user.id), "primary"),
    !isFriend && !isBlocked && !user.isGuest && !isAsked && button("Add as friend", "addPerson", () => ask(client, user)),
    isAsked && !isFriend && el("p", { class: "faint", text: "You have asked to be friends." }),
    isFriend && button("Name for yourself", "edit", () => remark(client, user)),
    isFriend && button("Remove friend", "trash", remove),
    isBlocked ? button("Unblock", "block", () => block(false)) : button("Block", "block", () => block(true), "danger-quiet"),
  ];
}

function ask(client, user) {
  dialog(`Add ${user.username}`, (close) => form({
    action: "Send request",
    submit: async ({ message }) => {
      await client.api.askFriend(user.id, message.trim());
      await client.loadPeople();
      toast(client.store.friends.has(user.id) ? `You and ${user.username} are friends now.` : "Request sent.");
      close();
    },
  }, field("A few words", { name: "message", maxlength: 200, autofocus: true, placeholder: "Optional" })));
}

function remark(client, user) {
  const friend = client.store.friends.get(user.id);
  dialog("Name for yourself", (close) => form({
    action: "Save",
    submit: async ({ remark: text }) => {
      const changed = await client.api.changeFriend(user.id, { remark: text.trim() });
      client.store.changePeople(({ friends }) => friends.set(user.id, { ...friends.get(user.id), remark: text.trim(), ...changed }));
      close();
    },
  }, field(`What you call ${user.username}`, { name: "remark", maxlength: 100, autofocus: true, value: friend?.remark ?? "" }, "Only you see it. Leave it empty to use their own name.")));
}

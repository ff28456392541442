// The user's own account: picture, password, other logins, leaving. Owns this dialog.

import { userAvatar } from "./avatar.js";
import { confirmed, dialog, field, form } from "./dialog.js";
import { el } from "./dom.js";
import { moment } from "./format.js";
import { icon } from "./icons.js";
import { attempt, toast } from "./toast.js";

export function account(client) {
  const me = client.session.user;
  dialog("Your account", (close) => {
    const button = (label, iconName, run, tone = "quiet") =>
      el("button", { class: `button ${tone} wide`, type: "button", on: { click: () => (close(), run(client)) } }, icon(iconName), label);
    return [
      el("div", { class: "card-face" }, userAvatar(me), el("h3", { class: "card-name", text: me.username }),
        me.isGuest && el("p", { class: "faint", text: "Guest. Create an account to have friends and groups." })),
      el("div", { class: "card-actions" },
        !me.isGuest && button("Change picture", "edit", picture),
        !me.isGuest && button("Change password", "edit", password),
        button("Where you are signed in", "plug", logins),
        button("Sign out", "out", () => client.logout()),
        !me.isGuest && button("Delete account", "trash", remove, "danger-quiet")),
    ];
  });
}

function picture(client) {
  dialog("Change picture", (close) => form({
    action: "Save",
    submit: async ({ avatarUrl }) => {
      client.session.describe(await client.api.changeProfile(avatarUrl.trim()));
      client.store.me = client.session.user;
      close();
    },
  }, field("Address of a picture", { name: "avatarUrl", type: "url", maxlength: 255, pattern: "https://.*", placeholder: "https://", value: client.session.user.avatarUrl ?? "" }, "Leave it empty to show your initials.")));
}

function password(client) {
  dialog("Change password", (close) => form({
    action: "Change password",
    submit: async ({ oldPassword, newPassword }) => {
      await client.changePassword(oldPassword, newPassword);
      close();
      toast("Your password is changed. Other devices were signed out.");
    },
  },
  field("Password now", { name: "oldPassword", type: "password", required: true, autocomplete: "current-password" }),
  field("New password", { name: "newPassword", type: "password", required: true, autocomplete: "new-password" }, "At least 6 characters")));
}

function logins(client) {
  const list = el("ul", { class: "items", "aria-label": "Where you are signed in" });
  const draw = () => attempt(async () => {
    const { sessions } = await client.api.sessions();
    list.replaceChildren(...sessions.map((login) => el("li", { class: "login" },
      el("div", {},
        el("p", { class: "login-name", text: login.current ? "This device" : deviceOf(login.clientInfo) }),
        el("p", { class: "faint", text: `Used ${moment(login.refreshedAt || login.createdAt)}` })),
      !login.current && el("button", { class: "button quiet small", type: "button", text: "Sign out", on: { click: () => end(login.id) } }))));
  });
  const end = (id) => attempt(() => client.api.endSession(id), "Signed out there.").then(draw);
  dialog("Where you are signed in", () => list);
  draw();
}

/** The browser and system in a user agent, roughly. */
function deviceOf(info = "") {
  const browser = /Edg\//.test(info) ? "Edge" : /Firefox\//.test(info) ? "Firefox" : /Chrome\//.test(info) ? "Chrome" : /Safari\//.test(info) ? "Safari" : "A program";
  const system = /Android/.test(info) ? "Android" : /iPhone|iPad/.test(info) ? "iOS" : /Windows/.test(info) ? "Windows" : /Mac OS/.test(info) ? "macOS" : /Linux/.test(info) ? "Linux" : "";
  return system ? `${browser} on ${system}` : browser;
}

async function remove(client) {
  if (!(await confirmed("Delete your account?", "It ends for ever, and nobody can take your name. What you wrote stays where it is.", "Go on"))) return;
  dialog("Delete account", () => form({
    action: "Delete for ever",
    tone: "danger",
    submit: async ({ password: secret }) => {
      await client.api.deleteAccount(secret);
      client.session.end("Your account is deleted.");
    },
  }, field("Password", { name: "password", type: "password", required: true, autofocus: true, autocomplete: "current-password" })));
}

// The first page: sign in, make an account, or enter as a guest.

import { el } from "./dom.js";
import { field, form } from "./dialog.js";
import { icon } from "./icons.js";

const TABS = { signIn: "Sign in", register: "Create account", guest: "Guest" };

/** `begin(pair)` is called with the tokens of who came in; `notice` says why one stands here again. */
export function welcome(api, begin, notice) {
  const panel = el("div", { class: "welcome-panel", id: "welcome-panel", role: "tabpanel" });
  const tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "How to enter" });
  const forms = { signIn: () => signIn(api, begin), register: () => register(api, begin), guest: () => guest(api, begin) };

  const show = (chosen) => {
    for (const tab of tabs.children) {
      const isChosen = tab.dataset.tab === chosen;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
    }
    panel.setAttribute("aria-label", TABS[chosen]);
    panel.replaceChildren(forms[chosen]());
  };
  for (const [name, label] of Object.entries(TABS)) {
    tabs.append(el("button", {
      class: "tab", type: "button", role: "tab", "aria-controls": "welcome-panel", text: label, data: { tab: name },
      on: { click: () => show(name) },
    }));
  }
  tabs.addEventListener("keydown", (event) => {
    const names = Object.keys(TABS);
    const at = names.indexOf(document.activeElement.dataset.tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 }[event.key];
    if (to === undefined) return;
    show(names[(to + names.length) % names.length]);
    tabs.children[(to + names.length) % names.length].focus();
  });
  show("signIn");

  return el("main", { class: "welcome" },
    el("div", { class: "welcome-card" },
      el("div", { class: "brand" }, el("span", { class: "brand-mark" }, icon("chat")), el("h1", { text: "GoChat" })),
      el("p", { class: "welcome-lead", text: "Talk with people, in groups, and with everybody in the world room." }),
      notice && el("p", { class: "notice", role: "alert", text: notice }),
      tabs, panel));
}

function signIn(api, begin) {
  return form({ action: "Sign in", submit: async ({ username, password }) => begin(await api.login(username.trim(), password)) },
    name("username"), password("current-password"));
}

function register(api, begin) {
  const submit = async ({ username, password: secret }) => {
    await api.register(username.trim(), secret);
    begin(await api.login(username.trim(), secret));
  };
  return form({ action: "Create account", submit },
    name("username", "3 to 20 letters, digits, dots, dashes or underscores"),
    password("new-password", "At least 6 characters"));
}

function guest(api, begin) {
  return form({ action: "Enter as guest", submit: async ({ guestName }) => begin(await api.guest(guestName.trim())) },
    field("Your name", { name: "guestName", maxlength: 14, placeholder: "Optional", autocapitalize: "none" },
      "Guests talk in the world room. What you write stays; your way back in ends with this visit."));
}

const name = (autocomplete, hint) =>
  field("Name", { name: "username", required: true, maxlength: 40, autocomplete, autocapitalize: "none", spellcheck: "false" }, hint);

const password = (autocomplete, hint) =>
  field("Password", { name: "password", type: "password", required: true, maxlength: 72, autocomplete }, hint);

// Where one writes. Owns the text, its draft, and why one may not write here.

import { KIND, ROLE } from "../client/store.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";

const CONTENT_MAX = 5_000;
const WARN_FROM = 4_500;
const isTouch = matchMedia("(pointer: coarse)");

/** `wrote()` is called when a message was written. */
export function composer(client, id, wrote) {
  const input = el("textarea", {
    class: "write", rows: 1, placeholder: "Message", "aria-label": "Message", autocomplete: "off", enterkeyhint: isTouch.matches ? "enter" : "send", value: client.drafts.get(id),
  });
  const count = el("span", { class: "count", role: "status" });
  const send = el("button", { class: "send", type: "submit", "aria-label": "Send" }, icon("send"));
  const form = el("form", { class: "composer-form" }, input, count, send);
  const reason = el("p", { class: "composer-reason" });
  const node = el("div", { class: "composer" }, form, reason);

  const fit = () => {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 180)}px`;
    const length = [...input.value].length;
    count.textContent = length > WARN_FROM ? String(CONTENT_MAX - length) : "";
    send.disabled = !input.value.trim() || length > CONTENT_MAX;
  };
  const submit = (event) => {
    event.preventDefault();
    if (send.disabled) return;
    const text = input.value.trim();
    input.value = "";
    fit();
    client.send(id, text);
    wrote();
    input.focus();
  };
  form.addEventListener("submit", submit);
  input.addEventListener("input", () => {
    fit();
    client.drafts.set(id, input.value);
    client.typing(id, Boolean(input.value.trim()));
  });
  input.addEventListener("blur", () => client.typing(id, false));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouch.matches) return;
    submit(event);
  });

  return {
    node,
    focus: () => isTouch.matches || input.focus(),
    ready: fit,
    /** Shows the field, or why there is none. */
    draw() {
      const words = refusal(client, id);
      form.hidden = Boolean(words);
      reason.hidden = !words;
      reason.textContent = words ?? "";
    },
  };
}

function refusal({ store, isGuest }, id) {
  const conversation = store.conversations.get(id);
  if (!conversation) return "This conversation does not exist any more.";
  const mine = conversation.myMembership ?? {};
  const isModerator = mine.role >= ROLE.admin;
  if (conversation.type === KIND.single && store.blocked.has(conversation.peer?.id)) return "You blocked this person. Unblock them to write.";
  if (conversation.type === KIND.group && isGuest) return "Guests cannot write in groups.";
  if (mine.muted && !isModerator && !(mine.mutedUntil && mine.mutedUntil < Date.now() / 1000)) return "You are muted here and cannot write for now.";
  if (conversation.settings?.group_settings?.mute_all && !isModerator) return "Only admins can write here at the moment.";
  return null;
}

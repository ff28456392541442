// Short notices at the edge of the page, and words for screen readers. Owns their lifetimes.

import { explain } from "../client/errors.js";
import { el } from "./dom.js";

const SHOWN_MS = 5_000;
const ANNOUNCED_MAX = 5;

/** Shows a sentence for a while. */
export function toast(text, tone = "plain") {
  const box = document.getElementById("toasts");
  if ([...box.children].some((shown) => shown.textContent === text)) return;
  const node = el("p", { class: `toast ${tone}`, text });
  box.append(node);
  setTimeout(() => node.remove(), SHOWN_MS);
}

/** Runs something that the user asked for; says what went wrong. True when it worked. */
export async function attempt(action, done) {
  try {
    await action();
    if (done) toast(done);
    return true;
  } catch (error) {
    toast(explain(error), "bad");
    return false;
  }
}

/** Lets a screen reader say something that others see; `id` is for taking it back. */
export function announce(text, id) {
  const log = document.getElementById("announcer");
  log.append(el("p", { text, data: { id } }));
  while (log.children.length > ANNOUNCED_MAX) log.firstElementChild.remove();
}

/** What was said must not be read any more. */
export function unsay(id) {
  document.querySelector(`#announcer [data-id="${CSS.escape(id)}"]`)?.remove();
}

// Dialogs and menus. Owns focus and Escape while one is open; what is in it is its caller's.

import { explain } from "../client/errors.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";

let lastId = 0;

/** Opens a dialog; `fill(close)` gives what is in it. Returns it. */
export function dialog(title, fill) {
  const id = `dialog-${++lastId}`;
  const node = el("dialog", { class: "dialog", "aria-labelledby": id });
  const close = () => node.close();
  node.append(
    el("header", { class: "dialog-head" },
      el("h2", { id, text: title }),
      el("button", { class: "icon-button", type: "button", "aria-label": "Close", on: { click: close } }, icon("close"))),
    ...[fill(close)].flat(),
  );
  node.addEventListener("close", () => node.remove());
  node.addEventListener("pointerdown", (event) => event.target === node && close());
  document.body.append(node);
  node.showModal();
  node.querySelector("[autofocus]")?.focus();
  return node;
}

/** Asks before something that cannot be undone; resolves with what was chosen. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const choose = (close) => () => {
      answer = true;
      close();
    };
    const node = dialog(title, (close) => [
      el("p", { class: "dialog-text", text }),
      el("div", { class: "dialog-actions" },
        el("button", { class: "button quiet", type: "button", autofocus: true, text: "Cancel", on: { click: close } }),
        el("button", { class: "button danger", type: "button", text: action, on: { click: choose(close) } })),
    ]);
    node.addEventListener("close", () => resolve(answer));
  });
}

/**
 * A form whose button waits for `submit(values)`. What it refuses stands above the button, in words; resolves nothing.
 * `fields`: elements; inputs with a name become `values`.
 */
export function form({ action, submit, tone = "primary" }, ...fields) {
  const problem = el("p", { class: "problem", role: "alert" });
  const button = el("button", { class: `button ${tone} wide`, type: "submit", text: action });
  const send = async (event) => {
    event.preventDefault();
    problem.textContent = "";
    button.disabled = true;
    try {
      await submit(Object.fromEntries(new FormData(node)));
    } catch (error) {
      problem.textContent = explain(error);
      node.querySelector("input:not([type=hidden])")?.focus();
    } finally {
      button.disabled = false;
    }
  };
  const node = el("form", { class: "form", on: { submit: send } }, ...fields, problem, button);
  return node;
}

/** A labelled text input. */
export function field(label, props, hint) {
  const id = `field-${++lastId}`;
  const tag = props.rows ? "textarea" : "input";
  return el("div", { class: "field" },
    el("label", { for: id, text: label }),
    el(tag, { id, class: "input", autocomplete: "off", "aria-describedby": hint && `${id}-hint`, ...props }),
    hint && el("p", { class: "hint", id: `${id}-hint`, text: hint }));
}

/** Opens a menu at an element; `items` are `{label, icon, tone, run}`. */
export function menu(anchor, items) {
  document.querySelector(".menu")?.close();
  const node = el("dialog", { class: "menu", role: "menu", "aria-label": "Actions" });
  for (const item of items.filter(Boolean)) {
    const run = () => {
      node.close();
      item.run();
    };
    node.append(el("button", { class: `menu-item ${item.tone ?? ""}`, type: "button", role: "menuitem", on: { click: run } },
      icon(item.icon), el("span", { text: item.label })));
  }
  node.addEventListener("keydown", (event) => step(node, event));
  node.addEventListener("close", () => node.remove());
  node.addEventListener("pointerdown", (event) => event.target === node && node.close());
  document.body.append(node);
  node.showModal();
  place(node, anchor.getBoundingClientRect());
  node.querySelector("button")?.focus();
}

function step(node, event) {
  const items = [...node.querySelectorAll("button")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  items[(to + items.length) % items.length].focus();
}

function place(node, anchor) {
  const { offsetWidth: width, offsetHeight: height } = node;
  const left = Math.max(8, Math.min(anchor.right - width, innerWidth - width - 8));
  const below = anchor.bottom + 4;
  const top = below + height > innerHeight - 8 ? Math.max(8, anchor.top - height - 4) : below;
  node.style.setProperty("--left", `${left}px`);
  node.style.setProperty("--top", `${top}px`);
}

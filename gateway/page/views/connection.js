// What the connection is, for people. Owns the bar above the conversation and the sheet over a tab that is not connected.

import { el } from "./dom.js";
import { icon } from "./icons.js";

/** A bar that is seen only while not everything is well. */
export function connectionBar(client) {
  const text = el("span", { class: "bar-text" });
  const now = el("button", { class: "link", type: "button", text: "Try now", on: { click: () => client.socket.connect() } });
  const node = el("div", { class: "connection-bar", role: "status" }, el("span", { class: "pulse" }), text, now);
  const draw = () => {
    const state = client.connection;
    node.dataset.state = state;
    node.hidden = state === "online" || state === "elsewhere";
    now.hidden = state !== "waiting" && state !== "offline";
    const words = sentence(client, state);
    if (text.textContent !== words) text.textContent = words;
  };
  client.on("connection", draw);
  const timer = setInterval(draw, 1_000);
  client.gone.addEventListener("abort", () => clearInterval(timer));
  draw();
  return node;
}

function sentence(client, state) {
  const seconds = Math.max(0, Math.ceil((client.socket.retryAt - Date.now()) / 1000));
  const again = seconds > 0 ? `in ${seconds} s` : "now";
  switch (state) {
    case "waiting":
      return `No connection. Reconnecting ${again}. What you write is kept.`;
    case "offline":
      return `You are offline. Trying again ${again}. What you write is kept.`;
    case "connecting":
      return "Connecting…";
    case "syncing":
      return "Getting what is new…";
    default:
      return "";
  }
}

/** The sheet over a tab whose connection another one took. */
export function elsewhere(client) {
  const use = el("button", { class: "button primary", type: "button", text: "Use here", on: { click: () => client.takeOver() } });
  const node = el("div", { class: "elsewhere", hidden: true, role: "alertdialog", "aria-modal": "true", "aria-labelledby": "elsewhere-title" },
    el("div", { class: "elsewhere-card" },
      el("span", { class: "empty-mark" }, icon("plug")),
      el("h2", { id: "elsewhere-title", text: "GoChat is open somewhere else" }),
      el("p", { text: "You are connected in another window or on another device. Nothing is lost." }),
      use));
  client.on("connection", () => {
    const wasHidden = node.hidden;
    node.hidden = client.connection !== "elsewhere";
    for (const sibling of node.parentElement?.children ?? []) if (sibling !== node) sibling.inert = !node.hidden;
    if (wasHidden && !node.hidden) use.focus();
  });
  return node;
}

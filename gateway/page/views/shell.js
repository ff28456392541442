// The signed-in page: sidebar, the open conversation, and what the connection is. Owns which of them is seen; on a phone one
// at a time.

import { announce, toast, unsay } from "./toast.js";
import { connectionBar, elsewhere } from "./connection.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { openConversation } from "./route.js";
import { room } from "./room.js";
import { sidebar } from "./sidebar.js";

export function shell(client) {
  const { store } = client;
  const main = el("main", { class: "main", "aria-label": "Conversation" });
  const node = el("div", { class: "shell" }, sidebar(client), main, elsewhere(client));
  const bar = connectionBar(client);
  let shown = null;
  let drawn;

  const draw = () => {
    const id = openConversation();
    const isKnown = id !== null && store.conversations.has(id);
    if (id && !isKnown && store.isListed) leaveUnknown(client, id);
    if (drawn === `${isKnown} ${id}`) return;
    drawn = `${isKnown} ${id}`;
    shown?.close();
    client.openId = isKnown ? id : null;
    shown = isKnown ? room(client, id) : null;
    node.classList.toggle("has-room", Boolean(id));
    main.replaceChildren(bar, shown?.node ?? (id ? el("div", { class: "room" }) : nothingOpen()));
    shown?.entered();
  };

  addEventListener("hashchange", draw, { signal: client.gone });
  store.on("list", () => {
    draw();
    document.title = title(store);
  });
  client.on("notice", (text) => toast(text));
  client.on("said", (message) => {
    const conversation = store.conversations.get(message.conversationId);
    if (message.messageType === 4) return announce(message.content, message.id);
    if (conversation) announce(`${store.nameOf(message.senderId)}: ${message.content}`, message.id);
  });
  store.on("recalled", unsay);
  client.gone.addEventListener("abort", () => shown?.close());
  draw();
  return node;
}

function title(store) {
  const count = store.unreadTotal;
  return count ? `(${count > 99 ? "99+" : count}) GoChat` : "GoChat";
}

/** The address names a conversation that is not in the list: it may be new, gone, or somebody else's. */
async function leaveUnknown(client, id) {
  try {
    if (!client.store.wasDropped(id)) await client.sync.discover(id);
  } catch {
    return;
  }
  if (client.store.conversations.has(id) || openConversation() !== id) return;
  history.replaceState(null, "", "/");
  dispatchEvent(new HashChangeEvent("hashchange"));
}

function nothingOpen() {
  return el("div", { class: "empty-room" },
    el("span", { class: "empty-mark" }, icon("chat")),
    el("h2", { text: "Pick a conversation" }),
    el("p", { text: "Choose one on the left, look for somebody, or say hello in the world room." }));
}

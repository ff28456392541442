// One line about a conversation: its newest message, or one that still waits to be sent.

import { KIND } from "../client/store.js";

const THINGS = { 2: "Picture", 3: "File", 5: "Voice message", 6: "Video" };

/** `{who, words, tone}`; `tone` is `faint` or `bad`. */
export function summary(client, conversation) {
  const { store, outbox } = client;
  const unsent = outbox.of(conversation.id).at(-1);
  if (unsent) return { who: "You", words: unsent.content, tone: unsent.state === "failed" ? "bad" : "faint" };
  const last = conversation.lastMessage;
  if (!last) return { words: conversation.type === KIND.world ? "Everybody who is here" : "No messages yet", tone: "faint" };
  const isMine = last.senderId === store.me.id;
  const who = isMine ? "You" : conversation.type === KIND.single ? "" : store.nameOf(last.senderId);
  if (last.deleted) return { who, words: "Message recalled", tone: "faint" };
  return { who, words: THINGS[last.messageType] ?? last.content };
}

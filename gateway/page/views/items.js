// What stands in a conversation, in order: days, the line above what is new, notes, messages, and what is not sent yet.
// Owns grouping; makes nothing until it is asked to.

import { KIND } from "../client/store.js";
import { messageMenu } from "./actions.js";
import { dayName, dayOf } from "./format.js";
import { dayItem, messageItem, newItem, noteItem } from "./message.js";
import { openPerson } from "./person.js";

const GROUP_S = 5 * 60;

/** Items `{key, signature, make}` for rows `begin` to `end`; at the end of the rows also the unsent ones. */
export function itemsOf(client, id, rows, begin, end) {
  const { store, outbox } = client;
  const conversation = store.conversations.get(id);
  if (!conversation) return [];
  const timeline = store.timeline(id);
  const shown = rows.slice(begin, end);
  if (end === rows.length) shown.push(...outbox.of(id).map((entry) => unsent(entry, store.me.id)));
  const items = [];
  shown.forEach((row, at) => {
    const previous = at ? shown[at - 1] : rows[begin - 1];
    if (!previous || dayOf(previous.createdAt) !== dayOf(row.createdAt)) items.push(dayOfRow(row));
    if (row.seqId && row.seqId === timeline.newFrom) items.push({ key: "new", signature: "", make: newItem });
    items.push(row.messageType === 4 ? note(row) : message(client, conversation, row, previous, shown[at + 1], timeline.newFrom));
  });
  return items;
}

/** An entry of the outbox in the form of a message. */
const unsent = (entry, myId) => ({
  senderId: myId, clientMsgId: entry.clientMsgId, content: entry.content, messageType: entry.messageType,
  createdAt: Math.floor(entry.createdAtMs / 1000), unsentState: entry.state, problem: entry.problem,
});

function dayOfRow(row) {
  const name = dayName(row.createdAt);
  return { key: `day-${dayOf(row.createdAt)}`, signature: name, make: () => dayItem(name) };
}

const note = (row) => ({ key: `note-${row.seqId}`, signature: row.content, make: () => noteItem(row) });

function message(client, conversation, row, previous, next, newFrom) {
  const { store, outbox } = client;
  const isMine = row.senderId === store.me.id;
  const readers = isMine && row.seqId ? store.readersOf(conversation.id, row.seqId) : [];
  const look = {
    isMine, kind: conversation.type, readers,
    isFirst: !isGrouped(previous, row) || row.seqId === newFrom,
    isLast: !isGrouped(row, next) || next?.seqId === newFrom,
    state: row.unsentState ?? (readers.length ? "read" : "sent"),
  };
  const showsName = !isMine && conversation.type !== KIND.single;
  const signature = JSON.stringify([
    row.seqId, row.deleted, row.content, row.createdAt, row.problem, look, showsName && store.nameOf(row.senderId), showsName && store.user(row.senderId)?.avatarUrl,
  ]);
  const on = {
    menu: (anchor) => messageMenu(client, conversation, row, anchor),
    person: () => openPerson(client, row.senderId),
    retry: () => outbox.retry(row.clientMsgId),
    discard: () => outbox.discard(row.clientMsgId),
  };
  // An own message keeps its element when it gets its number.
  const key = row.clientMsgId && isMine ? `c-${row.clientMsgId}` : `s-${row.seqId}`;
  return { key, signature, make: () => messageItem(store, row, look, on) };
}

const isGrouped = (a, b) =>
  Boolean(a && b) && a.senderId === b.senderId && a.messageType !== 4 && b.messageType !== 4 &&
  Math.abs(b.createdAt - a.createdAt) < GROUP_S && dayOf(a.createdAt) === dayOf(b.createdAt);

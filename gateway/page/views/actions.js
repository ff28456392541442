// What can be done with a message: copy, recall. Owns who may recall what, as far as the page can know.

import { KIND, ROLE } from "../client/store.js";
import { confirmed, menu } from "./dialog.js";
import { attempt, toast } from "./toast.js";

const RECALL_S = 120;

export function messageMenu(client, conversation, row, anchor) {
  const isStored = Boolean(row.seqId);
  menu(anchor, [
    !row.deleted && { label: "Copy text", icon: "copy", run: () => copy(row.content) },
    isStored && mayRecall(client, conversation, row) && { label: "Recall", icon: "undo", tone: "danger", run: () => recall(client, row) },
    !isStored && { label: "Discard", icon: "trash", tone: "danger", run: () => client.outbox.discard(row.clientMsgId) },
    row.deleted && { label: "Nothing to do", icon: "info", run: () => {} },
  ]);
}

function mayRecall({ store }, conversation, row) {
  if (row.deleted) return false;
  const limits = conversation.settings?.single_settings;
  const age = Date.now() / 1000 - row.createdAt;
  if (row.senderId === store.me.id) {
    const isAllowed = limits?.allow_recall ?? true;
    if (isAllowed && age < (limits?.recall_time_limit || RECALL_S)) return true;
  }
  if (conversation.type === KIND.single) return false;
  const mine = conversation.myMembership?.role ?? ROLE.member;
  if (mine === ROLE.owner) return true;
  const theirs = store.members.get(conversation.id)?.find((member) => member.userId === row.senderId)?.role ?? ROLE.member;
  return mine === ROLE.admin && theirs === ROLE.member;
}

async function recall(client, row) {
  const isOwn = row.senderId === client.store.me.id;
  if (!isOwn && !(await confirmed("Recall this message?", "Nobody will be able to read it any more.", "Recall"))) return;
  attempt(() => client.recall(row));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("This browser does not let the page copy.", "bad");
  }
}

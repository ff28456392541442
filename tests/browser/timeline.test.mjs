// The page's memory of one conversation, without a browser: what merges, what wins, what counts as missing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Timeline } from "../../gateway/page/client/timeline.js";

const message = (seqId, fields = {}) => ({
  id: `m${seqId}`, conversationId: "c", senderId: "7", messageType: 1, content: `text ${seqId}`, seqId, clientMsgId: `k${seqId}`, createdAt: 1, ...fields,
});
const page = (messages, fields = {}) => ({ messages, hasMore: false, complete: true, storedThroughSeq: messages.at(-1)?.seqId ?? 0, ...fields });
const seqs = (timeline) => timeline.shown().map((row) => row.seqId);

test("rows stand by number, however they come, and once", () => {
  const timeline = new Timeline();
  timeline.start(page([]));
  for (const seq of [3, 1, 2, 2, 5, 1]) timeline.push(message(seq));
  assert.deepEqual(seqs(timeline), [1, 2, 3, 5]);
  assert.equal(timeline.through, 3);
  assert.ok(timeline.hasHole);
  timeline.push(message(4));
  assert.equal(timeline.through, 5);
  assert.ok(!timeline.hasHole);
});

test("a hole below what is stored is final, one above is not", () => {
  const timeline = new Timeline();
  timeline.append(page([message(1), message(4), message(9)], { complete: false, storedThroughSeq: 5 }), 0);
  assert.equal(timeline.through, 5);
  timeline.append(page([message(9)], { storedThroughSeq: 9 }), 5);
  assert.equal(timeline.through, 9);
});

test("a push that decided history does not have is void, and stands under its other number", () => {
  const timeline = new Timeline();
  timeline.start(page([message(1)]));
  timeline.push(message(2, { clientMsgId: "x", id: "old" }));
  timeline.append(page([message(3, { clientMsgId: "x", id: "new" })], { storedThroughSeq: 3 }), 1);
  assert.deepEqual(timeline.shown().map((row) => row.id), ["m1", "new"]);
});

test("a corrected acknowledgement wins over a plain one, in either order", () => {
  for (const order of [[2, 3], [3, 2]]) {
    const timeline = new Timeline();
    timeline.start(page([message(1)]));
    for (const seq of order) timeline.acknowledge(message(seq, { clientMsgId: "x" }), seq === 3);
    assert.deepEqual(seqs(timeline), [1, 3], `in order ${order}`);
  }
});

test("history wins over what was pushed, and a recall is never taken back", () => {
  const timeline = new Timeline();
  timeline.start(page([message(1)]));
  timeline.push(message(2, { content: "pushed" }));
  timeline.append(page([message(2, { content: "stored" })]), 1);
  timeline.push(message(2, { content: "late repetition" }));
  assert.equal(timeline.at(2).content, "stored");
  assert.ok(timeline.recall(2, "m2"));
  timeline.push(message(2, { content: "later repetition" }));
  assert.equal(timeline.at(2).content, "");
  assert.ok(timeline.at(2).deleted);
});

test("a recall row empties its target and is not shown itself", () => {
  const timeline = new Timeline();
  timeline.start(page([message(2), message(1)], { storedThroughSeq: 2 }));
  const extra = JSON.stringify({ type: "recall", messageId: "m1", seqId: 1 });
  timeline.push(message(3, { messageType: 4, content: "", extra, clientMsgId: "\u0001rm1" }));
  assert.deepEqual(seqs(timeline), [1, 2]);
  assert.ok(timeline.at(1).deleted);
  assert.equal(timeline.through, 3);
});

test("older pages go before, and a hole can be given up", () => {
  const timeline = new Timeline();
  timeline.start(page([message(9), message(8)], { hasMore: true, complete: false, storedThroughSeq: 9 }));
  timeline.prepend(page([message(7), message(5)], { hasMore: false }));
  assert.deepEqual(seqs(timeline), [5, 7, 8, 9]);
  assert.ok(!timeline.hasOlder);
  timeline.push(message(12));
  assert.ok(timeline.hasHole);
  timeline.skipHole();
  assert.ok(!timeline.hasHole);
});

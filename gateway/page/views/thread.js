// The messages of the open conversation on the page. Owns which part of them is in the document, where it is scrolled to,
// and what counts as seen.

import { batched, el, reconcile, roving } from "./dom.js";
import { icon } from "./icons.js";
import { itemsOf } from "./items.js";
import { unread } from "./format.js";

const FIRST = 80;
const STEP = 60;
const RENDERED_MAX = 240;
const NEAR_PX = 700;
const BOTTOM_PX = 60;

export class Thread {
  #client;
  #id;
  #scroller;
  #list;
  #older;
  #jump;
  #jumpCount;
  /** Numbers of the first and last message in the document; `to` is Infinity while the end is shown. */
  #from = 0;
  #to = Infinity;
  #isPlaced = false;
  #isLoading = false;
  #stops = [];
  #seen = 0;
  #draw = batched(() => this.#render());
  #watcher = new ResizeObserver(() => this.#stick && this.#toBottom());
  #stick = true;

  constructor(client, id) {
    this.#client = client;
    this.#id = id;
    this.#list = el("ol", { class: "messages", "aria-label": "Messages" });
    this.#older = el("div", { class: "older", hidden: true }, el("span", { class: "spinner" }), el("span", { class: "unseen", text: "Getting older messages" }));
    this.#scroller = el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Messages", on: { scroll: () => this.#scrolled() } },
      this.#older, el("div", { class: "skeletons", "aria-hidden": "true" }, ["a", "b", "c", "b", "a"].map((shape) => el("div", { class: `ghost ${shape}` }))), this.#list);
    this.#jumpCount = el("span", { class: "badge", hidden: true });
    this.#jump = el("button", { class: "jump", type: "button", hidden: true, "aria-label": "To the latest message", on: { click: () => this.latest() } }, icon("down"), this.#jumpCount);
    this.node = el("div", { class: "thread" }, this.#scroller, this.#jump);
    const { store } = client;
    for (const topic of ["timeline", "reads"]) this.#stops.push(store.on(topic, (changed) => changed === id && this.#draw()));
    for (const topic of ["people", "members"]) this.#stops.push(store.on(topic, this.#draw));
    this.#stops.push(client.on("said", (message) => message.conversationId === id && this.#said(message)));
    this.#stops.push(client.on("minute", this.#draw));
    const looked = () => this.#look();
    document.addEventListener("visibilitychange", looked);
    addEventListener("focus", looked);
    this.#stops.push(() => document.removeEventListener("visibilitychange", looked), () => removeEventListener("focus", looked));
    this.#watcher.observe(this.#scroller);
    this.#watcher.observe(this.#list);
    roving(this.#list, ".row");
  }

  /** Loads what is newest and shows it, from what is new on. */
  async open() {
    const { store, sync } = this.#client;
    const count = store.conversations.get(this.#id).unreadCount ?? 0;
    this.#draw();
    if (store.timeline(this.#id)?.isStarted) this.#place(count);
    await sync.open(this.#id).finally(() => {
      if (!this.#isPlaced && store.timeline(this.#id)?.isStarted) this.#place(count);
    });
  }

  close() {
    this.#watcher.disconnect();
    for (const stop of this.#stops) stop();
    const timeline = this.#timeline;
    if (timeline) timeline.newFrom = 0;
  }

  /** Shows the newest message. */
  latest() {
    const rows = this.#timeline?.shown() ?? [];
    this.#to = Infinity;
    this.#from = rows.at(-FIRST)?.seqId ?? 0;
    this.#stick = true;
    this.#draw();
  }

  /** The user wrote something: it is shown, and nothing is new any more. */
  wrote() {
    const timeline = this.#timeline;
    if (timeline) timeline.newFrom = 0;
    this.latest();
  }

  get #timeline() {
    return this.#client.store.timeline(this.#id);
  }

  /** Decides what is shown first. */
  #place(count) {
    const timeline = this.#timeline;
    const rows = timeline.shown();
    this.#isPlaced = true;
    timeline.newFrom = firstUnread(rows, count, this.#client.store.me.id);
    const at = timeline.newFrom ? rows.findIndex((row) => row.seqId === timeline.newFrom) : rows.length;
    this.#from = rows[Math.max(0, Math.min(at - 20, rows.length - FIRST))]?.seqId ?? 0;
    this.#stick = !timeline.newFrom;
    this.#render();
    this.#list.querySelector(".new-line")?.scrollIntoView({ block: "center" });
    if (this.#stick) this.#toBottom();
    this.#scrolled();
  }

  #render() {
    const timeline = this.#timeline;
    this.node.classList.toggle("is-loading", !timeline?.isStarted && !timeline?.rows.length);
    if (!timeline || (!this.#isPlaced && timeline.isStarted)) return;
    const rows = timeline.shown();
    const first = indexFrom(rows, this.#from);
    let last = this.#to === Infinity ? rows.length : indexFrom(rows, this.#to + 1);
    let begin = first;
    if (last - first > RENDERED_MAX) {
      if (this.#stick) begin = last - FIRST;
      else last = first + RENDERED_MAX;
    }
    this.#from = begin === 0 ? 0 : rows[begin].seqId;
    this.#to = last === rows.length ? Infinity : rows[last - 1].seqId;
    const items = itemsOf(this.#client, this.#id, rows, begin, last);
    const anchor = this.#stick ? null : this.#anchor();
    reconcile(this.#list, items, ({ make }) => make());
    this.#older.hidden = !timeline.hasOlder || begin > 0 || !timeline.isStarted;
    if (anchor) this.#keepInPlace(anchor);
    if (this.#stick) this.#toBottom();
    if (!this.#list.querySelector("[tabindex='0']")) this.#list.querySelector(".row:last-of-type")?.setAttribute("tabindex", "0");
    this.#look();
  }

  /**
   * A message in view and where it stands, by its number: its element may be made anew. A day's heading would not do, it
   * moves when older messages come.
   */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const node of this.#list.querySelectorAll(".row:not([data-seq=''])")) {
      const box = node.getBoundingClientRect();
      if (box.bottom > top + 10) return { seq: node.dataset.seq, top: box.top };
    }
    return null;
  }

  #keepInPlace({ seq, top }) {
    const node = this.#list.querySelector(`.row[data-seq="${seq}"]`);
    if (node) this.#scroller.scrollTop += node.getBoundingClientRect().top - top;
  }

  #toBottom() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  get #below() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #scrolled() {
    if (!this.#isPlaced) return;
    this.#stick = this.#to === Infinity && this.#below < BOTTOM_PX;
    const rows = this.#timeline?.shown() ?? [];
    if (this.#scroller.scrollTop < NEAR_PX) this.#extendUp(rows);
    else if (this.#below < NEAR_PX && this.#to !== Infinity) this.#extendDown(rows);
    this.#look();
  }

  #extendUp(rows) {
    const first = indexFrom(rows, this.#from);
    if (first === 0) return this.#loadOlder();
    const begin = Math.max(0, first - STEP);
    this.#from = begin === 0 ? 0 : rows[begin].seqId;
    const end = begin + RENDERED_MAX;
    if (!this.#stick && end < rows.length) this.#to = rows[end - 1].seqId;
    this.#draw();
  }

  #extendDown(rows) {
    const last = indexFrom(rows, this.#to + 1) + STEP;
    this.#to = last >= rows.length ? Infinity : rows[last - 1].seqId;
    const begin = Math.max(0, Math.min(last, rows.length) - RENDERED_MAX);
    if (begin > indexFrom(rows, this.#from)) this.#from = rows[begin].seqId;
    this.#draw();
  }

  async #loadOlder() {
    const timeline = this.#timeline;
    if (this.#isLoading || !timeline?.hasOlder || !timeline.isStarted) return;
    this.#isLoading = true;
    const oldest = timeline.oldestSeq;
    try {
      await this.#client.sync.older(this.#id);
      this.#from = this.#stick ? this.#from : oldest;
      this.#extendUp(this.#timeline?.shown() ?? []);
    } catch {
      // Scrolling again asks again.
    } finally {
      this.#isLoading = false;
      this.#draw();
    }
  }

  #said(message) {
    const timeline = this.#timeline;
    if (!timeline || message.messageType === 4) return;
    const isSeen = !document.hidden && document.hasFocus() && this.#stick;
    if (!isSeen && (!timeline.newFrom || this.#seen >= timeline.newFrom) && this.#seen < message.seqId) timeline.newFrom = message.seqId;
  }

  /** What is in view of somebody who looks is seen; what is below is counted. */
  #look() {
    if (!this.#isPlaced) return;
    if (!document.hidden && document.hasFocus()) this.#markSeen();
    const { store } = this.#client;
    const rows = this.#timeline?.rows ?? [];
    let below = 0;
    for (let at = rows.length - 1; at >= 0 && rows[at].seqId > this.#seen; at -= 1) {
      if (rows[at].senderId !== store.me.id && rows[at].messageType !== 4) below += 1;
    }
    this.#jump.hidden = this.#stick || (this.#to === Infinity && this.#below < 300);
    this.#jumpCount.hidden = below === 0;
    this.#jumpCount.textContent = unread(below);
    this.#jump.setAttribute("aria-label", below ? `To the latest message, ${unread(below)} new` : "To the latest message");
  }

  #markSeen() {
    const bottom = this.#scroller.getBoundingClientRect().bottom;
    let seen = this.#stick && this.#to === Infinity ? (this.#timeline?.lastSeq ?? 0) : 0;
    for (let node = this.#list.lastElementChild; node && !seen; node = node.previousElementSibling) {
      if (node.dataset.seq && node.getBoundingClientRect().top + 24 < bottom) seen = Number(node.dataset.seq);
    }
    if (!seen) return;
    this.#seen = Math.max(this.#seen, seen);
    this.#client.reading.seen(this.#id, seen);
  }
}

/** Index of the first row at or above a number. */
function indexFrom(rows, seqId) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].seqId < seqId) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Number of the first of the last `count` messages of others; 0 when nothing is unread. Who writes has read what is above. */
function firstUnread(rows, count, myId) {
  let first = 0;
  for (let at = rows.length - 1; at >= 0 && count > 0 && rows[at].senderId !== myId; at -= 1) {
    if (rows[at].messageType === 4) continue;
    first = rows[at].seqId;
    count -= 1;
  }
  return first;
}

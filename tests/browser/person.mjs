// Somebody who uses the page: a browser context of their own, and what they do as a person would do it. Owns the watch for
// errors of the page: whatever it says on its console fails the test that asks.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(join(process.env.GOCHAT_TOOLS, "from.cjs"))("playwright-core");
const STUCK_MS = 30_000;
export const PASSWORD = "secret-1";
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];

export const launch = () => chromium.launch({ executablePath: process.env.GOCHAT_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** Waits until `check()` is true, or fails with what it last was. */
export async function until(what, check) {
  const deadline = Date.now() + STUCK_MS;
  for (;;) {
    const seen = await check();
    if (seen === true) return;
    if (Date.now() > deadline) assert.fail(`${what}: still ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Person {
  complaints = [];
  /** Errors that a test provokes, by what they contain. */
  expected = [];

  static async open(browser, base, options = {}) {
    const person = new Person();
    person.base = base;
    person.context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
    person.context.setDefaultTimeout(STUCK_MS);
    await person.visit();
    return person;
  }

  /** Opens the page in a new tab. */
  async visit() {
    const page = await this.context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(`${message.text()} ${message.location().url}`);
    });
    page.on("pageerror", (error) => this.complaints.push(error.stack));
    await page.goto(this.base);
    this.page = page;
    return page;
  }

  async register(name) {
    this.name = name;
    await this.page.getByRole("tab", { name: "Create account" }).click();
    await this.page.getByLabel("Name", { exact: true }).fill(name);
    await this.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await this.page.getByRole("button", { name: "Create account" }).click();
    await this.isOnline();
    return this;
  }

  async signIn(name) {
    this.name = name;
    await this.page.getByLabel("Name", { exact: true }).fill(name);
    await this.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.isOnline();
    return this;
  }

  isOnline() {
    return this.page.locator(".connection-bar[data-state=online]").waitFor({ state: "attached" });
  }

  /** The API as this person, with the token of the page. */
  async session() {
    return this.page.evaluate(() => JSON.parse(localStorage.getItem("gochat.session")));
  }

  item(title) {
    return this.page.locator(".sidebar .item", { has: this.page.locator(".item-title", { hasText: new RegExp(`^${title}$`) }) });
  }

  async choose(title) {
    await this.item(title).click();
    await this.page.locator(".room-title", { hasText: title }).waitFor();
  }

  get field() {
    return this.page.getByRole("textbox", { name: "Message", exact: true });
  }

  async write(text) {
    await this.field.fill(text);
    await this.field.press("Enter");
  }

  /** The bubble of a message. */
  bubble(text) {
    return this.page.locator(".row", { has: this.page.locator(".text", { hasText: text }) });
  }

  sees(text) {
    return this.bubble(text).first().waitFor();
  }

  state(text, words) {
    return this.bubble(text).getByRole("img", { name: words }).waitFor();
  }

  /** The texts in the open conversation, in order. */
  texts() {
    return this.page.locator(".row .text").allTextContents();
  }

  /** Opens the menu of a message and chooses. */
  async act(text, action) {
    await this.bubble(text).hover();
    await this.bubble(text).getByRole("button", { name: "What to do with this message" }).click();
    await this.page.getByRole("menuitem", { name: action }).click();
  }

  async plus(action) {
    await this.page.getByRole("button", { name: "New conversation" }).click();
    await this.page.getByRole("menuitem", { name: action }).click();
  }

  tab(name) {
    return this.page.getByRole("group", { name: "What is listed" }).getByRole("button", { name }).click();
  }

  /** Fails when the page complained of anything that was not expected. */
  isContent() {
    const bad = this.complaints.filter((text) => !this.expected.some((part) => text.includes(part)));
    assert.deepEqual(bad, [], `the page of ${this.name} complained`);
  }

  close() {
    return this.context.close();
  }
}

/** Whether every control has a name, every field a label, and every id is there once; gives what is wrong. */
export function unnamed(page) {
  return page.evaluate(() => {
    const wrong = [];
    const isSeen = (node) => node.checkVisibility();
    const nameOf = (node) => (node.getAttribute("aria-label") ?? document.getElementById(node.getAttribute("aria-labelledby"))?.textContent ?? node.labels?.[0]?.textContent ?? node.textContent ?? "").trim();
    for (const node of document.querySelectorAll("button, a[href], input, textarea, select, [role=button], [role=tab], [role=menuitem], dialog, nav, main, aside")) {
      if (isSeen(node) && !nameOf(node)) wrong.push(`no name: ${node.outerHTML.slice(0, 120)}`);
    }
    for (const image of document.querySelectorAll("img:not([alt])")) wrong.push(`no alt: ${image.outerHTML.slice(0, 120)}`);
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`id twice: ${id}`);
    if (!document.documentElement.lang) wrong.push("no language");
    if (document.querySelectorAll("main").length !== 1) wrong.push("not exactly one main");
    return wrong;
  });
}

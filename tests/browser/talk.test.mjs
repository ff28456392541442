// Two people find each other, become friends and talk: sending states, typing, presence, read marks, recall, keyboard.

import assert from "node:assert/strict";
import { test } from "node:test";
import { unnamed, until } from "./person.mjs";
import { stage } from "./world.mjs";

const world = stage();

test("two people register, become friends and talk both ways", async () => {
  const [ann, bob] = await Promise.all([world.person("ann"), world.person("bob")]);

  await ann.plus("Find somebody");
  await ann.page.getByRole("searchbox", { name: "Search people" }).fill("bo");
  await ann.page.getByRole("button", { name: "About bob" }).click();
  await ann.page.getByRole("button", { name: "Add as friend" }).click();
  await ann.page.getByLabel("A few words").fill("We met at the harbour");
  await ann.page.getByRole("button", { name: "Send request" }).click();

  await bob.tab("People");
  await bob.page.getByText("We met at the harbour").waitFor();
  await bob.page.getByRole("button", { name: "Accept ann" }).click();
  await bob.tab("Chats");
  await bob.choose("ann");
  await ann.choose("bob");
  await ann.page.locator(".room-note", { hasText: "online" }).waitFor();

  await ann.write("Hello Bob");
  await bob.sees("Hello Bob");
  await bob.field.pressSequentially("Hi");
  await ann.page.getByText("bob is typing…").waitFor();
  await bob.field.press("Enter");
  await ann.sees("Hi");
  await until("nobody types any more", async () => (await ann.page.locator(".typing-line").textContent()) === "");
  await ann.state("Hello Bob", "Read");
  assert.deepEqual(await ann.texts(), ["Hello Bob", "Hi"]);
  assert.deepEqual(await bob.texts(), ["Hello Bob", "Hi"]);
  await until("the read mark is kept", () => ann.page.evaluate(() => Object.keys(localStorage).some((key) => key.startsWith("gochat.reads."))));
  await ann.page.reload();
  await ann.state("Hello Bob", "Read");

  for (const person of [ann, bob]) person.isContent();
  await Promise.all([ann.close(), bob.close()]);
});

test("what is new is counted, in the title too, and stands below a line", async () => {
  const [cleo, dan] = await Promise.all([world.person("cleo"), world.account("dan")]);
  const id = (await dan.call("POST", "/conversations", { type: 1, members: [(await cleo.session()).user.id] })).id;
  await dan.send(id, "first");
  await cleo.item("dan").getByText("1", { exact: true }).waitFor();
  await cleo.choose("dan");
  await cleo.sees("first");
  await until("nothing is unread", async () => (await cleo.page.title()) === "GoChat" || (await cleo.page.title()));
  await cleo.page.evaluate(() => history.back());
  await cleo.page.locator(".empty-room").waitFor();
  for (const text of ["second", "third"]) await dan.send(id, text);
  await until("the title counts", async () => (await cleo.page.title()) === "(2) GoChat" || (await cleo.page.title()));
  await cleo.choose("dan");
  await cleo.sees("third");
  const order = await cleo.page.locator(".messages > li").evaluateAll((rows) => rows.map((row) => row.querySelector(".text")?.textContent ?? row.textContent));
  assert.deepEqual(order, ["Today", "first", "New", "second", "third"]);
  cleo.isContent();
  await cleo.close();
});

test("drafts stay with their conversation, through a reload", async () => {
  const [eve, fred, gus] = await Promise.all([world.person("eve"), world.account("fred"), world.account("gus")]);
  for (const other of [fred, gus]) await world.chat(eve, other);
  await eve.choose("fred");
  await eve.field.fill("for fred");
  await eve.choose("gus");
  assert.equal(await eve.field.inputValue(), "");
  await eve.item("fred").getByText("for fred").waitFor();
  await eve.page.reload();
  await eve.choose("fred");
  assert.equal(await eve.field.inputValue(), "for fred");
  eve.isContent();
  await eve.close();
});

test("a message is recalled for both, and its text is gone from the page", async () => {
  const [hal, ida] = await Promise.all([world.person("hal"), world.person("ida")]);
  await world.chat(hal, ida);
  await hal.write("take this back");
  await hal.write("but not this");
  await ida.sees("take this back");
  await hal.act("take this back", "Recall");
  for (const person of [hal, ida]) {
    await person.sees("This message was recalled");
    assert.deepEqual(await person.texts(), ["This message was recalled", "but not this"]);
    assert.ok(!(await person.page.content()).includes("take this back"));
  }
  await ida.page.reload();
  await ida.sees("This message was recalled");
  assert.deepEqual(await ida.texts(), ["This message was recalled", "but not this"]);
  for (const person of [hal, ida]) person.isContent();
  await Promise.all([hal.close(), ida.close()]);
});

test("markup is text", async () => {
  const [jon, kim] = await Promise.all([world.person("jon"), world.person("kim")]);
  await world.chat(jon, kim);
  const text = `<img src=x onerror="document.title='owned'"><b>bold</b> & "quotes"`;
  await jon.write(text);
  await kim.sees("bold");
  assert.deepEqual(await kim.texts(), [text]);
  assert.equal(await kim.page.locator(".messages img, .messages b").count(), 0);
  kim.isContent();
  await Promise.all([jon.close(), kim.close()]);
});

test("a refusal is told in words", async () => {
  const lea = await world.open();
  lea.expected.push("401", "400");
  await lea.page.getByLabel("Name", { exact: true }).fill("lea");
  await lea.page.getByLabel("Password", { exact: true }).fill("not-her-password");
  await lea.page.getByRole("button", { name: "Sign in" }).click();
  await lea.page.getByText("This name and password do not belong together.").waitFor();
  await lea.page.getByRole("tab", { name: "Create account" }).click();
  await lea.page.getByLabel("Name", { exact: true }).fill("l a");
  await lea.page.getByLabel("Password", { exact: true }).fill("secret-1");
  await lea.page.getByRole("button", { name: "Create account" }).click();
  await lea.page.getByText("Names have 3 to 20 letters").waitFor();
  lea.isContent();
  await lea.close();
});

test("everything has a name, and the keyboard alone is enough", async () => {
  const max = await world.open();
  const nia = await world.account("nia");
  assert.deepEqual(await unnamed(max.page), []);
  await max.register("max");
  await world.chat(max, nia);
  assert.deepEqual(await unnamed(max.page), []);
  await max.page.goto(world.server.base);
  await max.page.reload();
  await max.item("nia").waitFor();

  const { keyboard } = max.page;
  const isFocused = (selector) => max.page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);
  const tabTo = async (selector) => {
    for (let step = 0; step < 20 && !(await isFocused(selector)); step += 1) await keyboard.press("Tab");
    assert.ok(await isFocused(selector), `Tab reaches ${selector}`);
  };
  await tabTo(".item");
  for (let step = 0; step < 5 && !(await max.page.evaluate(() => document.activeElement.textContent.includes("nia"))); step += 1) await keyboard.press("ArrowDown");
  await keyboard.press("Enter");
  await max.field.waitFor();
  await until("the field has the focus", () => isFocused(".write"));
  await keyboard.type("written without a mouse");
  await keyboard.press("Enter");
  await max.state("written without a mouse", "Sent");
  await max.page.locator(".scroller").focus();
  await tabTo(".row");
  await keyboard.press("Enter");
  await max.page.getByRole("menuitem", { name: "Copy text" }).waitFor();
  assert.deepEqual(await unnamed(max.page), []);
  await keyboard.press("Escape");
  await max.page.locator(".menu").waitFor({ state: "detached" });
  await until("the message has the focus again", () => isFocused(".more, .row"));
  max.isContent();
  await max.close();
});

test("thousands of messages: few of them in the document, all of them within reach", async () => {
  const [oda, pit] = await Promise.all([world.person("oda"), world.account("pit")]);
  const id = await world.chat(oda, pit);
  const count = 1_500;
  for (let from = 0; from < count; from += 25) {
    await Promise.all(Array.from({ length: 25 }, (_, at) => pit.send(id, `number ${from + at}`)));
  }
  const rows = oda.page.locator(".row");
  const stored = (await pit.history(id)).map((message) => message.content);
  assert.equal(stored.length, count);
  await until("the newest is shown", async () => (await oda.texts()).at(-1) === stored.at(-1));
  assert.ok((await rows.count()) <= 300, `${await rows.count()} rows in the document`);
  await oda.page.reload();
  await until("the newest is shown again", async () => (await oda.texts()).at(-1) === stored.at(-1));
  const scroller = oda.page.locator(".scroller");
  const seen = new Set();
  await until("the oldest is reached by scrolling", async () => {
    await scroller.evaluate((node) => (node.scrollTop = 0));
    const texts = await oda.texts();
    texts.forEach((text) => seen.add(text));
    assert.ok(texts.length <= 300, `${texts.length} rows in the document`);
    return texts[0] === stored[0] || `${seen.size} seen`;
  });
  assert.equal(seen.size, count, "every message was shown on the way");
  await oda.page.getByRole("button", { name: /^To the latest message/ }).click();
  await until("the newest is shown after the jump", async () => (await oda.texts()).at(-1) === stored.at(-1));
  oda.isContent();
  await oda.close();
});

// Pictures of the page for the documentation, of conversations that look like real ones. Also a check of what a person sees
// first: the layouts of desktop and phone, light and dark. Written only when a directory for them is named.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { PASSWORD, unnamed } from "./person.mjs";
import { stage } from "./world.mjs";

const world = stage();
const into = process.env.GOCHAT_PICTURES;

async function take(person, name) {
  await person.page.mouse.move(0, 0);
  await person.page.evaluate(() => document.activeElement?.blur());
  if (into) await person.page.screenshot({ path: join(into, `${name}.png`) });
}

/** A harbour's chat: a group, two friends, a request, the world room. */
async function story() {
  const names = ["mara.lind", "jonas", "aiko", "Pedro_R", "selma"];
  const [mara, jonas, aiko, pedro, selma] = await Promise.all(names.map((name) => world.account(name)));
  for (const other of [jonas, aiko]) {
    const { request } = await other.call("POST", "/friends/requests", { targetUserId: mara.user.id });
    await mara.call("PUT", `/friends/requests/${request.id}`, { action: "accept" });
  }
  await selma.call("POST", "/friends/requests", { targetUserId: mara.user.id, message: "We met on the ferry" });
  const chat = async (one, other) => (await one.call("POST", "/conversations", { type: 1, members: [other.user.id] })).id;
  const withPedro = await chat(pedro, mara);
  await pedro.send(withPedro, "The lamp is fixed. Light is on from eight.");
  await pedro.send(withPedro, "Pictures tomorrow 📷");
  const group = (await mara.call("POST", "/conversations", { type: 2, name: "Harbour crew", description: "Who sails when", members: [jonas, aiko, pedro].map(({ user }) => user.id) })).id;
  await jonas.send("world", "Good morning, everybody");
  await selma.send("world", "Morning! First time here.");
  for (const [who, text] of [
    [jonas, "Wind turns west tomorrow, around 14 knots"], [jonas, "Should we leave at nine?"], [aiko, "Nine is fine for me"],
    [mara, "Same here. I bring the new charts."], [mara, "https://example.org/charts/north"], [pedro, "⛵"],
  ]) await who.send(group, text);
  const withJonas = await chat(mara, jonas);
  for (const [who, text] of [
    [jonas, "Did you see the forecast?"], [mara, "Just now. Looks good!"], [mara, "I will tell the others in the group."],
    [jonas, "Great. I keep the spare line on board, just in case somebody forgets theirs again."], [mara, "😄"], [jonas, "See you at the pier"],
  ]) await who.send(withJonas, text);
  return { withJonas };
}

test("desktop and phone, light and dark", async () => {
  const { withJonas } = await story();
  const jonas = await world.open();
  await jonas.signIn("jonas");
  await jonas.choose("mara.lind");
  await jonas.sees("See you at the pier");

  const mara = await world.open();
  await mara.page.getByLabel("Name", { exact: true }).fill("mara.lind");
  await take(mara, "welcome");
  await mara.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await mara.page.getByRole("button", { name: "Sign in" }).click();
  await mara.isOnline();
  await mara.choose("Harbour crew");
  await mara.sees("Nine is fine for me");
  await mara.page.locator(".room-about").click();
  await mara.page.locator(".details .item", { hasText: "Pedro_R" }).waitFor();
  assert.deepEqual(await unnamed(mara.page), []);
  await take(mara, "desktop-light");
  await mara.page.getByRole("button", { name: "Close details" }).click();

  await mara.page.emulateMedia({ colorScheme: "dark" });
  await mara.choose("jonas");
  await jonas.field.pressSequentially("Be");
  await mara.page.getByText("jonas is typing…").waitFor();
  await take(mara, "desktop-dark");

  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
  const small = await world.open(phone);
  await small.signIn("mara.lind");
  await small.item("jonas").waitFor();
  await take(small, "phone-list");
  await small.choose("jonas");
  await small.sees("See you at the pier");
  assert.ok(!(await small.page.locator(".sidebar").isVisible()), "one column: the list makes room");
  const wide = await small.page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(wide, phone.viewport.width, "nothing sticks out sideways");
  const sizes = await small.page.locator("input, textarea").evaluateAll((fields) => fields.filter((field) => field.checkVisibility()).map((field) => parseFloat(getComputedStyle(field).fontSize)));
  assert.ok(sizes.every((size) => size >= 16), `fields that a phone would zoom into: ${sizes}`);
  await take(small, "phone-chat");
  await small.page.emulateMedia({ colorScheme: "dark" });
  await take(small, "phone-chat-dark");
  await small.page.emulateMedia({ colorScheme: "light" });
  await small.page.getByRole("button", { name: "Back to the list" }).click();
  await small.item("jonas").waitFor();
  await small.tab("People");
  await small.page.getByRole("button", { name: "Accept selma" }).waitFor();
  await take(small, "phone-people");
  assert.ok(withJonas);
  for (const person of [jonas, mara, small]) person.isContent();
});

// Groups and the world room: making, renaming, removing, roles, rules; what a guest can and cannot do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { unnamed } from "./person.mjs";
import { stage } from "./world.mjs";

const world = stage();

/** Makes a group by hand and opens it for everybody. */
async function group(owner, name, others) {
  await owner.plus("New group");
  const { page } = owner;
  await page.getByLabel("Name", { exact: true }).fill(name);
  for (const other of others) {
    await page.getByRole("searchbox", { name: "Search people" }).fill(other.name);
    await page.getByRole("checkbox", { name: other.name }).check();
  }
  await page.getByRole("button", { name: "Create group" }).click();
  await page.locator(".room-title", { hasText: name }).waitFor();
  for (const other of others) await other.choose(name);
}

const openDetails = (person) => person.page.locator(".room-about").click();
const member = (person, name) => person.page.locator(".details .item", { hasText: name });
async function choose(person, name, action) {
  await member(person, name).click();
  await person.page.getByRole("menuitem", { name: action }).click();
}

test("a group of three: talk, rename, mute, roles, removal", async () => {
  const [ann, bob, cleo] = await Promise.all([world.person("ann"), world.person("bob"), world.person("cleo")]);
  await group(ann, "Sailors", [bob, cleo]);
  await ann.write("welcome aboard");
  for (const person of [bob, cleo]) await person.sees("welcome aboard");
  await bob.write("aye");
  await ann.sees("aye");
  await cleo.page.locator(".who", { hasText: "bob" }).waitFor();

  await openDetails(ann);
  assert.deepEqual(await unnamed(ann.page), []);
  await ann.page.getByRole("button", { name: "Edit name and description" }).click();
  await ann.page.getByLabel("Name", { exact: true }).fill("Captains");
  await ann.page.getByRole("button", { name: "Save" }).click();
  for (const person of [ann, bob, cleo]) await person.page.locator(".room-title", { hasText: "Captains" }).waitFor();

  await choose(ann, "cleo", "Mute");
  await cleo.page.getByText("You are muted here").waitFor();
  await choose(ann, "cleo", "Let write again");
  await cleo.field.waitFor();

  await choose(ann, "bob", "Make an admin");
  await member(ann, "bob").getByText("Admin").waitFor();
  await cleo.write("to be recalled");
  await bob.sees("to be recalled");
  await bob.act("to be recalled", "Recall");
  await bob.page.getByRole("button", { name: "Recall", exact: true }).click();
  await cleo.sees("This message was recalled");

  await choose(ann, "cleo", "Remove from group");
  await ann.page.getByRole("button", { name: "Remove", exact: true }).click();
  await cleo.page.getByText("You were removed from Captains.").waitFor();
  await cleo.item("Captains").waitFor({ state: "detached" });
  await ann.page.locator(".room-note", { hasText: "2 members" }).waitFor();
  await ann.write("after the removal");
  await bob.sees("after the removal");
  assert.equal(await cleo.page.getByText("after the removal").count(), 0);

  await choose(ann, "bob", "Make the owner");
  await ann.page.getByRole("button", { name: "Hand over" }).click();
  await member(ann, "bob").getByText("Owner").waitFor();
  await ann.page.getByRole("button", { name: "Leave group" }).click();
  await ann.page.getByRole("button", { name: "Leave", exact: true }).click();
  await ann.item("Captains").waitFor({ state: "detached" });
  await bob.page.locator(".room-note", { hasText: "1 member" }).waitFor();
  for (const person of [ann, bob, cleo]) {
    person.isContent();
    await person.close();
  }
});

test("rules: only admins write, and a group ends for everybody", async () => {
  const [dan, eve] = await Promise.all([world.person("dan"), world.person("eve")]);
  await group(dan, "Quiet", [eve]);
  await openDetails(dan);
  await dan.page.getByRole("switch", { name: "Only admins can write" }).check();
  await eve.page.getByText("Only admins can write here").waitFor();
  await dan.write("still possible");
  await eve.sees("still possible");
  await dan.page.getByRole("button", { name: "Dissolve group" }).click();
  await dan.page.getByRole("button", { name: "Dissolve", exact: true }).click();
  for (const person of [dan, eve]) {
    await person.item("Quiet").waitFor({ state: "detached" });
    person.isContent();
    await person.close();
  }
});

test("a guest talks in the world room and is told what is not for guests", async () => {
  const fred = await world.person("fred");
  const guest = await world.open();
  await guest.page.getByRole("tab", { name: "Guest" }).click();
  await guest.page.getByLabel("Your name").fill("visitor");
  await guest.page.getByRole("button", { name: "Enter as guest" }).click();
  await guest.isOnline();
  assert.equal(await guest.page.getByRole("button", { name: "New conversation" }).count(), 0);
  for (const person of [guest, fred]) await person.page.locator(".item", { has: person.page.locator(".avatar.world") }).click();
  await guest.write("hello world");
  await fred.sees("hello world");
  await fred.page.locator(".who", { hasText: "guest_visitor" }).waitFor();
  await fred.write("hello visitor");
  await guest.sees("hello visitor");
  await guest.page.locator(".who", { hasText: "fred" }).click();
  await guest.page.getByText("Create an account to write to people").waitFor();
  assert.deepEqual(await unnamed(guest.page), []);
  for (const person of [guest, fred]) {
    person.isContent();
    await person.close();
  }
});

test("blocking: nothing comes through, and it can be undone", async () => {
  const [gus, hal] = await Promise.all([world.person("gus"), world.person("hal")]);
  await world.chat(gus, hal);
  await gus.page.locator(".room-about").click();
  await gus.page.getByRole("button", { name: "Block" }).click();
  await gus.page.getByText("You blocked this person.").waitFor();
  await hal.write("into the void");
  await hal.page.getByText("You cannot reach this person.").waitFor();
  assert.equal(await gus.page.getByText("into the void").count(), 0);
  await gus.page.locator(".room-about").click();
  await gus.page.getByRole("button", { name: "Unblock" }).click();
  await gus.field.waitFor();
  await hal.page.getByRole("button", { name: "Try again" }).click();
  await gus.sees("into the void");
  for (const person of [gus, hal]) {
    person.isContent();
    await person.close();
  }
});

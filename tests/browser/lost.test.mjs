// The connection is lost and comes back: nothing is missing, nothing is there twice, and what was written meanwhile is sent
// exactly once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PASSWORD, until } from "./person.mjs";
import { stage } from "./world.mjs";

const world = stage();
const GONE = ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_INTERNET_DISCONNECTED", "ERR_SOCKET_NOT_CONNECTED", "WebSocket", "ERR_NETWORK", "503"];

test("the server is killed while two talk; both come back and see everything", async () => {
  const [ann, bob] = await Promise.all([world.person("ann"), world.person("bob")]);
  for (const person of [ann, bob]) person.expected.push(...GONE);
  const id = await world.chat(ann, bob);
  await ann.write("before");
  await bob.sees("before");
  await ann.state("before", /Sent|Read/);

  await world.server.kill();
  for (const person of [ann, bob]) await person.page.getByText("No connection.").waitFor();
  await ann.write("written by ann without a connection");
  await ann.write("and another");
  await bob.write("written by bob without a connection");
  await ann.state("and another", "Waiting to be sent");
  await world.server.start();
  for (const person of [ann, bob]) await person.isOnline();

  for (const person of [ann, bob]) await until("four messages are there", async () => (await person.texts()).length === 4 || person.texts());
  await ann.state("and another", /Sent|Read/);
  const stored = (await (await world.accountOf(ann)).history(id)).map((message) => message.content);
  assert.deepEqual([...stored].sort(), ["and another", "before", "written by ann without a connection", "written by bob without a connection"]);
  for (const person of [ann, bob]) {
    assert.deepEqual(await person.texts(), stored);
    person.isContent();
  }
  await Promise.all([ann.close(), bob.close()]);
});

test("what is written without a connection survives a reload and is sent once, under the id it had", async () => {
  const [cleo, dan] = await Promise.all([world.person("cleo"), world.account("dan")]);
  cleo.expected.push(...GONE);
  const id = await world.chat(cleo, dan);
  await cleo.write("sent as usual");
  await cleo.state("sent as usual", "Sent");

  await world.server.kill();
  await cleo.page.getByText("No connection.").waitFor();
  await cleo.write("only here so far");
  await cleo.state("only here so far", "Waiting to be sent");
  const clientId = await cleo.bubble("only here so far").getAttribute("data-client");
  // The page is gone before the server is back.
  await cleo.page.close();
  await world.server.start();
  await cleo.visit();
  await cleo.isOnline();
  await cleo.choose("dan");
  await cleo.state("only here so far", "Sent");
  await cleo.page.reload();
  await cleo.sees("only here so far");
  assert.deepEqual(await cleo.texts(), ["sent as usual", "only here so far"]);
  const stored = await dan.history(id);
  assert.deepEqual(stored.map((message) => message.content), ["sent as usual", "only here so far"]);
  assert.equal(stored[1].clientMsgId, clientId);
  cleo.isContent();
  await cleo.close();
});

test("a message that was stored but never acknowledged is not sent a second time", async () => {
  const [eve, fred] = await Promise.all([world.person("eve"), world.account("fred")]);
  eve.expected.push(...GONE);
  const id = await world.chat(eve, fred);
  // Acknowledgements do not come through; then the page goes away.
  await eve.context.close();
  const again = await world.open();
  await again.page.routeWebSocket(/\/ws/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => server.send(message));
    server.onMessage((message) => message.includes('"message-ack"') || socket.send(message));
  });
  await again.signIn("eve");
  await again.choose("fred");
  await again.write("stored, not acknowledged");
  await again.state("stored, not acknowledged", "Sending");
  await until("the server has it", async () => (await fred.history(id)).length === 1);
  await again.page.close();
  await again.visit();
  await again.isOnline();
  await again.choose("fred");
  await again.state("stored, not acknowledged", "Sent");
  assert.deepEqual(await again.texts(), ["stored, not acknowledged"]);
  assert.equal((await fred.history(id)).length, 1);
  await again.close();
});

test("messages and recalls that came while one was away are all there", async () => {
  const [gus, hal] = await Promise.all([world.person("gus"), world.account("hal")]);
  gus.expected.push(...GONE);
  const id = await world.chat(gus, hal);
  const sent = [];
  for (let at = 0; at < 10; at += 1) sent.push(await hal.send(id, `early ${at}`));
  await gus.sees("early 9");

  await gus.context.setOffline(true);
  // A connection that is open already is not cut by this: the page is told to look, as it does by itself.
  await until("the page says that it is not connected", async () => {
    const state = await gus.page.locator(".connection-bar").getAttribute("data-state");
    return ["offline", "waiting", "connecting"].includes(state) || state;
  });
  for (let at = 0; at < 250; at += 1) await hal.send(id, `late ${at}`);
  for (const at of [2, 5]) await hal.call("DELETE", `/conversations/${id}/messages/${sent[at].id}`);
  await gus.context.setOffline(false);
  await gus.isOnline();
  await gus.sees("late 249");
  await gus.page.locator(".scroller").evaluate((node) => (node.scrollTop = 0));
  await until("the recalls are seen", async () => {
    await gus.page.locator(".scroller").evaluate((node) => (node.scrollTop = 0));
    const texts = await gus.texts();
    return (texts[0] === "early 0" && texts.filter((text) => text === "This message was recalled").length === 2) || texts.slice(0, 12);
  });
  gus.isContent();
  await gus.close();
});

test("a second tab takes the connection; the first offers to take it back", async () => {
  const [ida, jon] = await Promise.all([world.person("ida"), world.account("jon")]);
  const id = await world.chat(ida, jon);
  const first = ida.page;
  await ida.visit();
  await ida.isOnline();
  await first.getByText("GoChat is open somewhere else").waitFor();
  await ida.choose("jon");
  await jon.send(id, "to the tab in use");
  await ida.sees("to the tab in use");

  await first.getByRole("button", { name: "Use here" }).click();
  await ida.page.getByText("GoChat is open somewhere else").waitFor();
  ida.page = first;
  await ida.isOnline();
  await ida.sees("to the tab in use");
  ida.isContent();
  await ida.close();
});

test("another browser takes the connection; signing out ends the session", async () => {
  const kim = await world.person("kim");
  const other = await world.open();
  await other.signIn("kim");
  await kim.page.getByText("GoChat is open somewhere else").waitFor();
  await kim.page.getByRole("button", { name: "Use here" }).click();
  await other.page.getByText("GoChat is open somewhere else").waitFor();
  await kim.isOnline();
  await kim.page.getByRole("button", { name: "Your account, kim" }).click();
  await kim.page.getByRole("button", { name: "Sign out" }).click();
  await kim.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  for (const person of [kim, other]) person.isContent();
  await Promise.all([kim.close(), other.close()]);
});

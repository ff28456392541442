// What the browser tests share: one server and one browser for a file, and people in it with names of their own.

import { after, before } from "node:test";
import { launch, Person } from "./person.mjs";
import { Account, Server } from "./server.mjs";

/** Starts a server and a browser before the tests of a file and ends both after them. */
export function stage(...flags) {
  const world = { people: [] };
  before(async () => {
    [world.server, world.browser] = await Promise.all([new Server(...(flags.length ? flags : ["--limits", "off"])).start(), launch()]);
  });
  after(async () => {
    await world.browser?.close();
    await world.server?.stop();
  });
  world.open = async (options) => {
    const person = await Person.open(world.browser, world.server.base, options);
    world.people.push(person);
    return person;
  };
  /** Somebody new, with an account of this name, who is online. */
  world.person = async (name, options) => (await world.open(options)).register(name);
  /** Somebody without a page. */
  world.account = (name) => new Account(world.server.base).register(name);
  /** The API as somebody who has a page. */
  world.accountOf = async (person) => {
    const { accessToken, user } = await person.session();
    return Object.assign(new Account(world.server.base), { token: accessToken, user });
  };
  /** A single chat of two, made over the API, open on the pages of those who have one. */
  world.chat = async (one, other) => {
    const [first, second] = await Promise.all([one, other].map((each) => (each instanceof Person ? world.accountOf(each) : each)));
    const { id } = await first.call("POST", "/conversations", { type: 1, members: [second.user.id] });
    for (const each of [one, other]) {
      if (each instanceof Person) await each.page.goto(`${world.server.base}/#/chat/${encodeURIComponent(id)}`);
      if (each instanceof Person) await each.page.reload();
      if (each instanceof Person) await each.field.waitFor();
    }
    return id;
  };
  return world;
}

// Where the page begins: shows the way in, or the chat of who is signed in. Owns nothing else.

import { Api } from "./client/api.js";
import { Client } from "./client/client.js";
import { Session } from "./client/session.js";
import { shell } from "./views/shell.js";
import { welcome } from "./views/welcome.js";

const root = document.getElementById("app");
const session = new Session();
let client = null;

session.on("ended", leave);
if (session.user) enter();
else leave();

function enter() {
  client = new Client(session);
  root.replaceChildren(shell(client));
  client.start();
}

function leave(notice) {
  client?.stop();
  client = null;
  document.title = "GoChat";
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  history.replaceState(null, "", "/");
  root.replaceChildren(welcome(new Api(session), begin, notice));
}

function begin(pair) {
  session.begin(pair);
  enter();
}

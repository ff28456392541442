// Which conversation is open, as the address has it, so that "back" and reload work. Owns the fragment of the address.

const PREFIX = "#/chat/";

/** Id of the conversation in the address; null for none. */
export function openConversation() {
  return location.hash.startsWith(PREFIX) ? decodeURIComponent(location.hash.slice(PREFIX.length)) : null;
}

/** Opens a conversation. From the list it is a step that "back" undoes; from another conversation it replaces that one. */
export function go(id) {
  if (id === openConversation()) return;
  const target = `${PREFIX}${encodeURIComponent(id)}`;
  if (openConversation()) {
    history.replaceState(history.state, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
    history.replaceState({ fromList: true }, "");
  }
}

/** Back to the list. */
export function leave() {
  if (history.state?.fromList) return history.back();
  history.replaceState(null, "", "/");
  dispatchEvent(new HashChangeEvent("hashchange"));
}

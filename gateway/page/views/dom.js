// Making elements. Owns the one way in which text gets into the page: as text, never as markup.

/**
 * An element with properties and children. `class`, `text`, `on` (listeners), `data`, `vars` (CSS variables) and `value`
 * are themselves; everything else is an attribute: `true` is there, `false` and nothing are not.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) assign(node, name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function assign(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name === "class") node.className = value;
  else if (name === "text") node.textContent = value;
  else if (name === "value") node.value = value;
  else if (name === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
  else if (name === "data") Object.assign(node.dataset, value);
  else if (name === "vars") for (const [key, item] of Object.entries(value)) node.style.setProperty(`--${key}`, item);
  else node.setAttribute(name, value === true ? "" : value);
}

/** A function that runs `draw` once before the next frame, however often it is called. */
export function batched(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  };
}

/**
 * Makes the children of `parent` those of `items`, in order. A node is kept as long as its key is there, and made anew by
 * `make(item)` when its signature changes.
 */
export function reconcile(parent, items, make) {
  const held = (parent.held ??= new Map());
  const wanted = new Set(items.map((item) => item.key));
  for (const [key, { node }] of held) {
    if (wanted.has(key)) continue;
    node.remove();
    held.delete(key);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const old = held.get(item.key);
    if (old && old.signature === item.signature) {
      if (old.node === place) place = place.nextElementSibling;
      else parent.insertBefore(old.node, place);
      continue;
    }
    const node = make(item);
    const hadFocus = old?.node.contains(document.activeElement);
    if (old) {
      if (old.node === place) place = place.nextElementSibling;
      old.node.remove();
    }
    parent.insertBefore(node, place);
    if (hadFocus) node.focus();
    held.set(item.key, { node, signature: item.signature });
  }
}

/** Arrow keys, Home and End move the focus among the elements that match `selector`; one of them is in the tab order. */
export function roving(container, selector) {
  const all = () => [...container.querySelectorAll(selector)];
  container.addEventListener("keydown", (event) => {
    const items = all();
    const at = items.indexOf(document.activeElement);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    items[Math.max(0, Math.min(to, items.length - 1))].focus();
  });
  container.addEventListener("focusin", (event) => {
    if (event.target.matches(selector)) all().forEach((item) => (item.tabIndex = item === event.target ? 0 : -1));
  });
}

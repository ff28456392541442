// Renders the two descriptions of the API for people. Owns no fact about the API: everything shown stands in
// /api/openapi.json and /api/asyncapi.json.

const METHODS = ["get", "post", "put", "delete"];

/** An element with attributes and children; texts are never read as markup. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

/** Paragraphs with `code` and **bold**, the only marks that descriptions use. */
function prose(text = "") {
  return text.split("\n\n").filter(Boolean).map((paragraph) => make("p", {}, inline(paragraph)));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return make("strong", {}, part.slice(2, -2));
    return part;
  });
}

/** Follows references; the name of the last one stays known. */
function resolve(root, schema, name) {
  if (!schema?.$ref) return { schema: schema ?? {}, name };
  const target = schema.$ref.slice(2).split("/").reduce((at, key) => at?.[key], root);
  return resolve(root, target, schema.$ref.split("/").pop());
}

/** The schema as one object: parts of an `allOf` are put together. */
function whole(root, schema) {
  const resolved = resolve(root, schema).schema;
  if (!resolved.allOf) return resolved;
  const merged = { type: "object", properties: {}, required: [] };
  for (const part of resolved.allOf) {
    const { properties = {}, required = [] } = whole(root, part);
    Object.assign(merged.properties, properties);
    merged.required.push(...required);
  }
  return merged;
}

function kind(root, given) {
  const { schema, name } = resolve(root, given);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(root, schema.items)}`;
  if (schema.enum && schema.enum.length <= 8) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (name) return name;
  return schema.type ?? (schema.oneOf ? schema.oneOf.map((one) => kind(root, one)).join(" | ") : "any");
}

function bounds(root, given) {
  const { schema } = resolve(root, given);
  const said = [];
  if (schema.minLength !== undefined || schema.maxLength !== undefined) {
    said.push(`${schema.minLength ?? 0}–${schema.maxLength ?? "…"} characters`);
  }
  if (schema.minItems !== undefined || schema.maxItems !== undefined) said.push(`${schema.minItems ?? 0}–${schema.maxItems ?? "…"} entries`);
  if (schema.minimum !== undefined && schema.maximum !== undefined) said.push(`${schema.minimum}–${schema.maximum}`);
  return said.join(", ");
}

/** Rows of an object's fields, those of inner objects below them, each kind of object once. */
function rows(root, given, depth = 0, seen = []) {
  const schema = whole(root, given);
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const { schema: inner, name: type } = resolve(root, field.type === "array" ? field.items : field);
    const about = field.description ?? inner.description ?? "";
    const limits = bounds(root, field);
    const row = make(
      "tr", {},
      make("td", {}, make("span", { class: depth ? "deep" : undefined }, "  ".repeat(Math.max(0, depth - 1)), make("code", {}, name))),
      make("td", {}, kind(root, field), (schema.required ?? []).includes(name) ? make("span", { class: "must", title: "always there" }, " required") : ""),
      make("td", {}, inline(about), limits ? ` (${limits})` : ""),
    );
    const opens = depth < 2 && (inner.properties || inner.allOf) && !seen.includes(type);
    return opens ? [row, ...rows(root, inner, depth + 1, type ? [...seen, type] : seen)] : [row];
  });
}

function table(head, body) {
  if (body.length === 0) return undefined;
  const cells = head.map((text) => make("th", { scope: "col" }, text));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, cells)), make("tbody", {}, body)));
}

function fields(root, schema, title) {
  const found = table(["Field", "Type", "Meaning"], rows(root, schema));
  return found ? [make("h4", {}, title), found] : [];
}

function parameters(root, operation) {
  const body = (operation.parameters ?? []).map((parameter) =>
    make(
      "tr", {},
      make("td", {}, make("code", {}, parameter.name), parameter.required ? make("span", { class: "must" }, " required") : ""),
      make("td", {}, parameter.in),
      make("td", {}, kind(root, parameter.schema), bounds(root, parameter.schema) ? ` (${bounds(root, parameter.schema)})` : ""),
      make("td", {}, inline(parameter.description ?? "")),
    ));
  const found = table(["Parameter", "In", "Type", "Meaning"], body);
  return found ? [make("h4", {}, "Parameters"), found] : [];
}

function marks(operation) {
  const guests = { yes: "guests too", no: "not for guests", restricted: "guests in part" }[operation["x-guest"]];
  const rate = operation["x-rate"];
  const said = [
    operation.security?.length ? "bearer token" : "public",
    guests,
    operation["x-idempotent"] ? "X-Idempotency-Key" : undefined,
    rate ? `${rate.perSecond}/s, burst ${rate.burst}` : undefined,
    operation["x-id"],
  ];
  return make("ul", { class: "marks" }, said.filter(Boolean).map((text) => make("li", {}, text)));
}

function errors(root, operation) {
  const refusals = Object.entries(operation.responses).filter(([status]) => status >= 400);
  const body = refusals.map(([status, response]) =>
    make("tr", {}, make("td", {}, status), make("td", {}, prose(response.description))));
  return make("details", {}, make("summary", {}, "Errors"), table(["Status", "Codes"], body));
}

function endpoint(root, path, method, operation, base) {
  const id = `op-${operation.operationId}`;
  const [success, response] = Object.entries(operation.responses).filter(([status]) => status < 300).pop();
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const answer = whole(root, response.content?.["application/json"]?.schema);
  const data = answer.properties?.data ?? (answer.properties?.success ? undefined : answer);
  const words = `${method} ${base}${path} ${operation.summary} ${(operation["x-errors"] ?? []).join(" ")}`;
  return make(
    "article", { id, "data-title": operation.summary, "data-words": words.toLowerCase() },
    make("h3", {}, make("span", { class: `method ${method}` }, method), make("a", { href: `#${id}` }, `${base}${path}`)),
    make("p", {}, make("strong", {}, operation.summary)),
    prose(operation.description),
    marks(operation),
    parameters(root, operation),
    body ? fields(root, body, "Body") : [],
    data ? fields(root, data, `${success}, data`) : make("p", { class: "lead" }, `${success} without data.`),
    errors(root, operation),
  );
}

function frame(root, message) {
  const of = message.tags[0].name;
  const id = `frame-${message.name}`;
  const data = message.payload.properties.data;
  return make(
    "article", { id, "data-words": `${message.name} ${message.summary} frame websocket`.toLowerCase() },
    make("h3", {}, make("span", { class: `method ${of}` }, of), make("a", { href: `#${id}` }, message.name)),
    make("p", {}, inline(message.summary)),
    make("p", { class: "lead" }, inline(message.description)),
    data ? fields(root, data, "data") : [],
  );
}

function closeCodes(root) {
  const body = root["x-close-codes"].map((close) =>
    make("tr", {}, make("td", {}, String(close.code)), make("td", {}, close.reason), make("td", {}, close.reconnect),
      make("td", {}, close.resume ? "yes" : "no"), make("td", {}, close.backOff || "–")));
  const words = root["x-close-codes"].map((close) => `${close.code} ${close.reason}`).join(" ");
  return make("article", { id: "close-codes", "data-words": `close codes ${words}`.toLowerCase() },
    table(["Code", "Means", "Reconnect?", "Resume?", "Back-off"], body));
}

/** A part of the page with its entry in the contents. */
function section(title, about, articles) {
  const heading = make("h2", {}, title);
  const links = articles.map((article) => {
    const label = article.querySelector("h3")?.textContent ?? title;
    const name = article.dataset.title ?? article.querySelector("h3 a")?.textContent ?? title;
    return make("li", { "data-for": article.id }, make("a", { href: `#${article.id}`, title: label }, name));
  });
  document.getElementById("contents").append(make("section", {}, make("h2", {}, title), make("ul", {}, links)));
  return make("section", {}, heading, about ? make("p", { class: "lead" }, inline(about)) : "", articles);
}

function http(openapi) {
  const operations = Object.entries(openapi.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, item, operation: item[method] })));
  return openapi.tags.map((tag) => {
    const own = operations.filter(({ operation }) => operation.tags[0] === tag.name);
    const articles = own.map(({ path, method, item, operation }) => {
      const base = item.servers ? "" : openapi.servers[0].url;
      return endpoint(openapi, path, method, operation, base);
    });
    return section(tag.name, tag.description, articles);
  });
}

function websocket(asyncapi) {
  const messages = Object.values(asyncapi.components.messages);
  const of = (who) => messages.filter((message) => message.tags[0].name === who).map((message) => frame(asyncapi, message));
  return [
    section("Frames of clients", "What clients send to `/ws`.", of("client")),
    section("Frames of the server", "What the server sends.", of("server")),
    section("Close codes", "How a connection ends, and what a client does then.", [closeCodes(asyncapi)]),
  ];
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const article of document.querySelectorAll("article")) {
    const hit = words.every((word) => article.dataset.words.includes(word));
    article.hidden = !hit;
    const link = document.querySelector(`[data-for="${article.id}"]`);
    if (link) link.hidden = !hit;
  }
  for (const part of document.querySelectorAll("main > section, #contents > section")) {
    part.hidden = !part.querySelector("article:not([hidden]), li:not([hidden])");
  }
}

async function load(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

async function start() {
  const main = document.getElementById("main");
  const state = document.getElementById("state");
  try {
    const [openapi, asyncapi] = await Promise.all([load("/api/openapi.json"), load("/api/asyncapi.json")]);
    main.replaceChildren(
      make("h1", {}, `GoChat API ${openapi.info.version}`), ...prose(openapi.info.description),
      ...http(openapi),
      make("h1", {}, "WebSocket"), ...prose(asyncapi.info.description), ...websocket(asyncapi));
    document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    state.textContent = `The descriptions cannot be loaded: ${error.message}`;
  }
}

start();

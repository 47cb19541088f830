// The interface, read from openapi.json and laid out without anything from elsewhere.

const id = (name) => document.getElementById(name);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function link(reference) {
  const name = reference.split("/").at(-1);
  return element("a", { href: `#type-${name}` }, name);
}

/** The type of a schema in words, with links to named types. */
function typed(schema) {
  if (!schema || !Object.keys(schema).length) return "any value";
  if (schema.$ref) return link(schema.$ref);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return joined(options.map(typed), " or ");
  if (schema.const !== undefined) return element("code", {}, JSON.stringify(schema.const));
  if (schema.enum) return joined(schema.enum.map((value) => element("code", {}, JSON.stringify(value))), " or ");
  if (schema.prefixItems) return joined(["list: ", joined(schema.prefixItems.map(typed), ", ")], "");
  if (schema.type === "array") return joined(["list of ", typed(schema.items)], "");
  if (schema.type === "object" && typeof schema.additionalProperties === "object")
    return joined(["name to ", typed(schema.additionalProperties)], "");
  return schema.format === "binary" ? "bytes" : String(schema.type ?? "any value");
}

function joined(parts, between) {
  const box = document.createElement("span");
  parts.forEach((part, i) => {
    if (i && between) box.append(between);
    box.append(part);
  });
  return box;
}

/** The limits of a schema in words. */
function limits(schema) {
  const words = {
    minimum: "at least", exclusiveMinimum: "more than", maximum: "at most", exclusiveMaximum: "less than",
    minItems: "entries at least", maxItems: "entries at most", maxLength: "characters at most", maxProperties: "names at most",
  };
  const found = Object.entries(words).filter(([key]) => schema[key] !== undefined).map(([key, text]) => `${text} ${schema[key]}`);
  if (schema.default !== undefined && schema.default !== null && JSON.stringify(schema.default) !== "{}") found.push(`default ${JSON.stringify(schema.default)}`);
  return found.length ? `(${found.join(", ")})` : "";
}

function table(headings, rows, kind = "") {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("div", { className: `scroll ${kind}` }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

/** Text with `code` in it. */
function prose(text) {
  return joined(String(text ?? "").split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part)), "");
}

/** Names of types in the order in which the operations mention them, types within types after these. */
function mentioned(api) {
  const found = [], look = (value) => {
    for (const [, name] of JSON.stringify(value ?? null).matchAll(/#\/components\/schemas\/(\w+)/g)) {
      if (found.includes(name)) continue;
      found.push(name);
    }
  };
  look(Object.values(api.paths).map((methods) => Object.values(methods).map((what) => [what.requestBody, what.responses["200"]])));
  look(api.paths);
  for (let i = 0; i < found.length; i += 1) look(api.components.schemas[found[i]]);
  return found;
}

function operation(path, method, what) {
  const locked = what.security ? element("span", { className: "lock" }, "asks for the token, where there is one") : null;
  const head = element("h2", {}, element("span", { className: `method ${method}` }, method.toUpperCase()), element("code", {}, path), locked);
  const made = element("article", {}, head);
  for (const paragraph of (what.description ?? what.summary ?? "").split("\n\n")) made.append(element("p", {}, prose(paragraph)));
  const body = what.requestBody?.content;
  if (body) {
    made.append(element("h3", {}, "Body"));
    for (const [kind, { schema }] of Object.entries(body)) made.append(element("p", {}, element("code", {}, kind), ": ", typed(schema)));
  }
  made.append(element("h3", {}, "Answers"), table(["Status", "Meaning", "Form"], Object.entries(what.responses).map(answer), "answers"));
  return made;
}

function answer([status, { description, content = {} }]) {
  const forms = Object.entries(content).map(([kind, { schema }]) => joined([element("code", {}, kind), ": ", typed(schema)], ""));
  return [status, prose(description), forms.length ? joined(forms.map((form) => element("div", {}, form)), "") : "none"];
}

function type(name, schema) {
  const made = element("article", { id: `type-${name}` }, element("h2", {}, name));
  if (schema.description) made.append(element("p", {}, prose(schema.description)));
  const rows = Object.entries(schema.properties ?? {}).map(([field, one]) => [
    element("code", {}, field + (schema.required?.includes(field) ? " *" : "")), typed(one),
    prose([one.description, limits(one)].filter(Boolean).join(" ")),
  ]);
  if (rows.length) made.append(table(["Field (* needed)", "Type", "Limits and meaning"], rows));
  if (schema.examples) made.append(element("h3", {}, "Example"), element("pre", {}, JSON.stringify(schema.examples[0], null, 1)));
  return made;
}

async function load() {
  const here = new URL(".", location.href).href.replace(/\/$/, "");
  id("example").textContent = [
    `curl ${here}/v1/showers \\`,
    '  -H "Authorization: Bearer $CALORAY_SERVE_TOKEN" \\',
    '  -H "Content-Type: application/json" -H "Accept: application/json" \\',
    `  -d '{"energies": [10000.0, 50000.0], "seed": 1}'`,
  ].join("\n");
  const reply = await fetch("openapi.json");
  const api = await reply.json();
  id("version").textContent = `The interface for programs, version ${api.info.version}.`;
  id("operations").replaceChildren(...Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, what]) => operation(path, method, what))));
  id("types").replaceChildren(...mentioned(api).map((name) => type(name, api.components.schemas[name])));
}

load().catch(() => id("operations").replaceChildren(element("p", { className: "problem" }, "The document could not be read.")));

// Shows /openapi.json and tries its operations. All text enters the page as text nodes, never as markup.
"use strict";

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

const resolve = (contract, schema) =>
  schema.$ref ? contract.components.schemas[schema.$ref.split("/").pop()] : schema;

// "integer, 0 to 1000000": a schema in a few words.
const describe = (contract, raw) => {
  const schema = resolve(contract, raw);
  if (schema.anyOf) return schema.anyOf.map((one) => describe(contract, one)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const words = [schema.format || schema.type || "anything"];
  if (schema.type === "array") words[0] = `list of ${describe(contract, schema.items)}`;
  const low = schema.minimum ?? schema.minLength, high = schema.maximum ?? schema.maxLength ?? schema.maxItems;
  if (low !== undefined && high !== undefined) words.push(`${low} to ${high}`);
  else if (high !== undefined) words.push(`up to ${high}`);
  else if (low !== undefined) words.push(`from ${low}`);
  if (schema.pattern) words.push(`matching ${schema.pattern}`);
  if (raw.default !== undefined) words.push(`default ${JSON.stringify(raw.default)}`);
  return words.join(", ");
};

// A body to start from: defaults where there are some, else the simplest value of the type.
const example = (contract, raw) => {
  const schema = resolve(contract, raw);
  if (raw.default !== undefined) return raw.default;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(contract, schema.anyOf[0]);
  if (schema.type === "object") {
    const names = schema.required || Object.keys(schema.properties || {}).slice(0, 1);
    return Object.fromEntries(names.map((name) => [name, example(contract, schema.properties[name])]));
  }
  return { integer: schema.minimum ?? 0, number: 0, boolean: false, array: [], string: "example" }[schema.type] ?? null;
};

const table = (heads, rows) =>
  make("table", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head))),
    ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell)))));

const code = (text) => make("code", {}, text);

// Descriptions put `code` between backticks.
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? code(part) : part));

const properties = (contract, raw) => {
  const schema = resolve(contract, raw);
  const rows = Object.entries(schema.properties || {}).map(([name, inner]) => [
    code(name),
    code(describe(contract, inner)),
    (schema.required || []).includes(name) ? "required" : "",
    make("span", {}, ...prose(inner.description || resolve(contract, inner).description || "")),
  ]);
  return rows.length ? table(["field", "type", "", ""], rows) : code(describe(contract, raw));
};

const attempt = (contract, path, method, operation) => {
  const inputs = new Map();
  const form = make("form");
  const rows = (operation.parameters || []).map((parameter) => {
    const label = `${parameter.name} (${parameter.in})`;
    const input = make("input", { "aria-label": label, placeholder: describe(contract, parameter.schema) });
    inputs.set(parameter, input);
    const words = [parameter.required ? "required. " : "", parameter.description];
    return [make("span", {}, code(parameter.name), make("span", { class: "quiet" }, ` ${parameter.in}`)), input, make("span", {}, ...prose(words.join("")))];
  });
  if (rows.length) form.append(make("h3", {}, "Parameters"), table(["name", "value", ""], rows));
  const [type, media] = Object.entries(operation.requestBody?.content || {})[0] || [];
  const body = make("textarea", { "aria-label": "body", spellcheck: "false" });
  if (type) {
    body.value = JSON.stringify(example(contract, media.schema), null, 2);
    form.append(make("h3", {}, `Body, ${type}`), properties(contract, media.schema), body);
  }
  const result = make("pre", { hidden: "" });
  form.append(make("p", {}, make("button", {}, "Try it")), result);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (type) headers["Content-Type"] = type;
    result.hidden = false;
    try {
      const answer = await fetch(`.${target}${query.size ? `?${query}` : ""}`,
        { method: method.toUpperCase(), headers, body: type ? body.value : undefined });
      const shown = ["etag", "location", "link", "x-request-id"].filter((name) => answer.headers.has(name));
      const text = await answer.text();
      result.textContent = [`${answer.status} ${answer.statusText}`, ...shown.map((name) => `${name}: ${answer.headers.get(name)}`),
        "", text && JSON.stringify(JSON.parse(text), null, 2)].join("\n");
    } catch (error) {
      result.textContent = String(error);
    }
  });
  return form;
};

const responses = (contract, operation) =>
  table(["status", "", "body"], Object.entries(operation.responses).map(([status, response]) => {
    const [type, media] = Object.entries(response.content || {})[0] || ["", {}];
    const name = media.schema?.$ref?.split("/").pop();
    return [code(status), response.description, name ? `${name} (${type})` : type];
  }));

const show = (contract) => {
  document.title = contract.info.title;
  document.getElementById("title").textContent = contract.info.title;
  document.getElementById("version").textContent = `version ${contract.info.version}`;
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  const groups = new Map();
  for (const [path, methods] of Object.entries(contract.paths))
    for (const [method, operation] of Object.entries(methods))
      (groups.get(operation.tags[0]) || groups.set(operation.tags[0], []).get(operation.tags[0])).push({ path, method, operation });
  main.replaceChildren();
  for (const [tag, listed] of groups) {
    main.append(make("h2", {}, tag));
    const links = make("ul");
    contents.append(make("h2", {}, tag), links);
    for (const { path, method, operation } of listed) {
      const word = () => make("span", { class: `method ${method}` }, method.toUpperCase());
      const inside = make("div", { class: "inside" });
      if (operation.description) inside.append(make("p", {}, ...prose(operation.description)));
      inside.append(attempt(contract, path, method, operation), make("h3", {}, "Responses"), responses(contract, operation));
      const details = make("details", { id: operation.operationId },
        make("summary", {}, word(), make("span", { class: "path" }, path), make("span", { class: "what" }, operation.summary)), inside);
      main.append(details);
      const link = make("a", { href: `#${operation.operationId}` }, word(), make("span", {}, path));
      link.addEventListener("click", () => { details.open = true; });
      links.append(make("li", {}, link));
    }
  }
  const chosen = document.getElementById(location.hash.slice(1));
  if (chosen instanceof HTMLDetailsElement) {
    chosen.open = true;
    chosen.scrollIntoView();
  }
};

fetch("openapi.json").then((answer) => answer.json()).then(show)
  .catch((error) => { document.getElementById("operations").textContent = `The contract cannot be read: ${error}`; });

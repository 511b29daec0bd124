// Draws the OpenAPI document. Everything is put in as text: nothing of it is ever read as HTML.
'use strict';

const make = (name, text, ...children) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};

// A schema with what it refers to, a few steps deep.
const resolve = (api, schema, depth = 0) => {
  if (!schema || typeof schema !== 'object') return schema;
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    return depth > 6 ? name : resolve(api, api.components.schemas[name], depth + 1);
  }
  if (Array.isArray(schema)) return schema.map((part) => resolve(api, part, depth));
  return Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, resolve(api, part, depth)]));
};

const table = (rows) => make('table', '', ...rows.map((cells) => make('tr', '', ...cells.map((cell) => make('td', cell)))));

const shape = (api, title, content) => {
  const [kind, media] = Object.entries(content ?? {})[0] ?? [];
  if (!media?.schema) return [];
  const text = JSON.stringify(resolve(api, media.schema), null, 2);
  return [make('details', '', make('summary', `${title}, ${kind}`), make('pre', text))];
};

const route = (api, path, method, operation) => {
  const verb = make('span', method);
  verb.className = 'method';
  const parameters = (operation.parameters ?? []).map((p) => [p.name, p.in, p.required ? 'required' : '', p.description ?? '']);
  const said = (answer) => (answer.$ref ? api.components.responses[answer.$ref.split('/').pop()] : answer);
  const answers = Object.entries(operation.responses).map(([status, answer]) => [status, said(answer)]);
  return make('details', '', make('summary', '', verb, make('code', path), ` ${operation.summary ?? ''}`),
    make('p', operation.description ?? ''), table(parameters),
    ...shape(api, 'request', operation.requestBody?.content),
    table(answers.map(([status, answer]) => [status, answer.description])),
    ...answers.filter(([status]) => status < '300').flatMap(([status, answer]) => shape(api, status, answer.content)));
};

const draw = (api) => {
  const tags = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? 'other';
      tags.set(tag, [...(tags.get(tag) ?? []), route(api, path, method, operation)]);
    }
  }
  const sections = [...tags].map(([tag, routes]) => make('section', '', make('h2', tag), ...routes));
  document.getElementById('routes').replaceChildren(...sections);
};

fetch('/api/v1/openapi.json').then((answer) => answer.json()).then(draw, (error) => {
  document.getElementById('routes').textContent = `The document cannot be read: ${error}`;
});

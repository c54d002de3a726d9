"use strict";

function made(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function rows(pairs) {
  return made("table", "", ...pairs.map(([name, text]) => made("tr", "", made("th", name), made("td", text))));
}

function route(method, path, operation) {
  const section = made("section", "", made("h2", `${method.toUpperCase()} ${path}`), made("p", operation.summary));
  const parameters = operation.parameters ?? [];
  if (parameters.length) section.append(made("h3", "Parameters"), rows(parameters.map((p) => [p.name, p.description ?? ""])));
  const bodies = Object.keys(operation.requestBody?.content ?? {});
  if (bodies.length) section.append(made("h3", "Body"), made("p", bodies.join(", ")));
  section.append(made("h3", "Answers"), rows(Object.entries(operation.responses).map(([s, r]) => [s, r.description])));
  return section;
}

for (const span of document.querySelectorAll(".origin")) span.textContent = location.origin;
fetch("/openapi.json").then((response) => response.json()).then((api) => {
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      document.getElementById("routes").append(route(method, path, operation));
    }
  }
});

"use strict";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 4;
const waiting = [];
let running = 0;

function headers(more = {}) {
  const key = $("key").value.trim();
  return key ? { ...more, "X-API-Key": key } : more;
}

/* The answer's JSON. Throws an Error with what the user should read. */
async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) $("key-row").hidden = false;
  if (!response.ok) throw new Error(answer.error?.message ?? `The server answered ${response.status}.`);
  return { answer, timing: response.headers.get("Server-Timing") ?? "" };
}

async function fillModels() {
  const chosen = $("model").value;
  try {
    const { answer } = await asked("/models", { headers: headers() });
    $("model").replaceChildren(...answer.models.map((name) => new Option(name, name)));
    const wanted = answer.models.includes(chosen) ? chosen : answer.default;
    if (wanted) $("model").value = wanted;
    $("model-note").textContent = answer.models.length ? "" : "No model is ready yet.";
  } catch (error) {
    $("model-note").textContent = error.message;
  }
}

function add(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (files.length && !images.length) announce("That is not an image.");
  for (const file of images) {
    const card = $("card").content.cloneNode(true).firstElementChild;
    const image = card.querySelector("img");
    image.addEventListener("error", () => image.classList.add("blank"));
    image.src = URL.createObjectURL(file);
    card.querySelector("h3").textContent = file.name || "pasted image";
    $("results").prepend(card);
    waiting.push({ file, card, model: $("model").value });
  }
  $("empty").hidden = $("results").childElementCount > 0;
  $("clear").hidden = !$("empty").hidden;
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    classify(waiting.shift()).finally(() => { running -= 1; next(); });
  }
}

async function classify({ file, card, model }) {
  const started = performance.now();
  const name = card.querySelector("h3").textContent;
  try {
    const query = model ? `?model=${encodeURIComponent(model)}` : "";
    const type = file.type || "application/octet-stream";
    const options = { method: "POST", headers: headers({ "Content-Type": type }), body: file };
    const { answer, timing } = await asked(`/classify${query}`, options);
    const total = performance.now() - started;
    const none = answer.predictions.length ? "" : "no classes; ";
    card.querySelector(".latency").textContent = none + latency(total, timing, model);
    show(card, answer.predictions);
    announce(`${name}: ${spoken(answer.predictions[0])}`);
  } catch (error) {
    card.querySelector(".latency").textContent = "";
    card.querySelector(".error").textContent = error.message;
    card.querySelector(".error").hidden = false;
    announce(`${name}: ${error.message}`);
  }
  card.removeAttribute("aria-busy");
}

function show(card, predictions) {
  card.querySelector(".bars").replaceChildren(...predictions.map((prediction) => {
    const bar = $("bar").content.cloneNode(true).firstElementChild;
    bar.querySelector(".label").textContent = prediction.label;
    bar.querySelector(".percent").textContent = percent(prediction);
    const meter = bar.querySelector("meter");
    meter.value = prediction.probability;
    meter.setAttribute("aria-label", prediction.label);
    meter.textContent = percent(prediction);
    return bar;
  }));
}

function latency(total, timing, model) {
  const triton = /triton;dur=([\d.]+)/.exec(timing);
  const inside = triton ? `, ${Math.round(triton[1])} ms of them in the model` : "";
  return `${model ? `${model}: ` : ""}${Math.round(total)} ms${inside}`;
}

const percent = (prediction) => `${(prediction.probability * 100).toFixed(1)} %`;
const spoken = (prediction) => prediction ? `${prediction.label}, ${percent(prediction)}` : "no classes";
const announce = (text) => { $("status").textContent = text; };

$("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
$("form").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("change", fillModels);
$("clear").addEventListener("click", () => {
  waiting.length = 0;
  for (const image of document.querySelectorAll("#results img")) URL.revokeObjectURL(image.src);
  $("results").replaceChildren();
  $("empty").hidden = false;
  $("clear").hidden = true;
  $("files").focus();
});
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const type of ["dragleave", "drop"]) {
  document.addEventListener(type, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
}
document.addEventListener("drop", (event) => add(event.dataTransfer?.files ?? []));
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) { event.preventDefault(); add(event.clipboardData.files); }
});
fillModels();

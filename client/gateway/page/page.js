"use strict";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 4;
const SHOWN_NUMBERS = 8;
const BACKGROUND = "#000000";
const waiting = [];
let running = 0;
let tasks = {};
let routes = {};

/* By task: where a picture is sent, and how the answer is shown; `show` gives what a screen reader is told. */
const TASKS = {
  classification: { path: "/classify", show: showClasses },
  detection: { path: "/detect", show: showBoxes },
  segmentation: { path: "/segment", query: { mask: "true" }, show: showMask },
  embedding: { path: "/embed", show: showNumbers },
};

/* Models of texts have one task, and two routes. */
const OF_TEXTS = { "/classify": showClasses, "/embed": showNumbers };
const takesText = (model) => tasks[model] === "text";
const EXCERPT = 80;

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
    ({ tasks, routes } = answer);
    $("model").replaceChildren(...answer.models.map((name) => new Option(described(name), name)));
    const wanted = answer.models.includes(chosen) ? chosen : answer.default;
    if (wanted) $("model").value = wanted;
    showInput();
    $("model-note").textContent = answer.models.length ? "" : "No model is ready yet.";
  } catch (error) {
    $("model-note").textContent = error.message;
  }
}

const described = (name) => tasks[name] === "classification" ? name : `${name} (${tasks[name]})`;

function showInput() {
  const isText = takesText($("model").value);
  $("words").hidden = !isText;
  $("drop").hidden = isText;
}

function addText() {
  const text = $("text").value;
  if (!text) return announce("There is no text.");
  const card = $("card").content.cloneNode(true).firstElementChild;
  card.classList.add("of-text");
  card.querySelector(".picture").remove();
  card.querySelector("h3").textContent = text.length > EXCERPT ? `${text.slice(0, EXCERPT)}…` : text;
  begin(card, text);
  shown();
}

function begin(card, content) {
  $("results").prepend(card);
  waiting.push({ content, card, model: $("model").value });
}

function shown() {
  $("empty").hidden = $("results").childElementCount > 0;
  $("clear").hidden = !$("empty").hidden;
  next();
}

function add(files) {
  if (files.length && takesText($("model").value)) return announce("This model takes texts.");
  const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (files.length && !images.length) announce("That is not an image.");
  for (const file of images) {
    const card = $("card").content.cloneNode(true).firstElementChild;
    const image = card.querySelector("img");
    image.addEventListener("error", () => image.classList.add("blank"));
    image.src = URL.createObjectURL(file);
    card.querySelector("h3").textContent = file.name || "pasted image";
    begin(card, file);
  }
  shown();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    ask(waiting.shift()).finally(() => { running -= 1; next(); });
  }
}

/* Where it is asked, and how the answer is shown. */
const taskOf = (model) => takesText(model)
  ? { path: routes[model], show: OF_TEXTS[routes[model]] }
  : TASKS[tasks[model]] ?? TASKS.classification;

async function ask({ content, card, model }) {
  const started = performance.now();
  const name = card.querySelector("h3").textContent;
  const task = taskOf(model);
  try {
    const query = new URLSearchParams({ ...(model ? { model } : {}), ...task.query }).toString();
    const type = typeof content === "string" ? "text/plain" : content.type || "application/octet-stream";
    const more = { "Content-Type": type, "Accept": "application/json" };
    const options = { method: "POST", headers: headers(more), body: content };
    const { answer, timing } = await asked(query ? `${task.path}?${query}` : task.path, options);
    const total = performance.now() - started;
    const told = await task.show(card, answer);
    card.querySelector(".latency").textContent = (told.none ?? "") + latency(total, timing, model);
    announce(`${name}: ${told.spoken}`);
  } catch (error) {
    card.querySelector(".latency").textContent = "";
    card.querySelector(".error").textContent = error.message;
    card.querySelector(".error").hidden = false;
    announce(`${name}: ${error.message}`);
  }
  card.removeAttribute("aria-busy");
}

function showClasses(card, { predictions }) {
  card.querySelector(".bars").replaceChildren(...predictions.map((p) => bar("bar", p.label, p.probability)));
  const first = predictions[0];
  if (!first) return { none: "no classes; ", spoken: "no classes" };
  return { spoken: `${first.label}, ${percent(first.probability)}` };
}

function bar(template, label, share) {
  const made = $(template).content.cloneNode(true).firstElementChild;
  made.querySelector(".label").textContent = label;
  made.querySelector(".percent").textContent = percent(share);
  const meter = made.querySelector("meter");
  meter.value = share;
  meter.setAttribute("aria-label", label);
  meter.textContent = percent(share);
  return made;
}

/* The whole picture instead of its middle. Its size, upright; null where the browser cannot show it. */
async function whole(card) {
  const image = card.querySelector("img");
  await image.decode().catch(() => {});
  if (!image.naturalWidth) return null;
  card.classList.add("whole");
  return { width: image.naturalWidth, height: image.naturalHeight };
}

/* The list says all; the boxes are for the eye. */
async function showBoxes(card, { detections }) {
  const size = await whole(card);
  const rows = detections.map((detection) => {
    const row = bar("found", detection.label, detection.score);
    const box = size && drawn(detection, size);
    const button = row.querySelector("button");
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", pressed);
      box?.classList.toggle("pressed", pressed);
    });
    if (box) card.querySelector(".picture").append(box);
    return row;
  });
  card.querySelector(".bars").replaceChildren(...rows);
  if (!rows.length) return { none: "nothing found; ", spoken: "nothing found" };
  const spoken = detections.slice(0, 3).map((one) => `${one.label}, ${percent(one.score)}`).join("; ");
  return { spoken: `${rows.length} found: ${spoken}` };
}

function drawn({ box: [x1, y1, x2, y2], label, score }, { width, height }) {
  const box = document.createElement("div");
  box.className = "box";
  box.setAttribute("aria-hidden", "true");
  const places = { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
  for (const [side, share] of Object.entries(places)) box.style[side] = `${share * 100}%`;
  const text = document.createElement("span");
  text.textContent = `${label} ${percent(score)}`;
  box.append(text);
  return box;
}

async function showMask(card, { mask, classes, width, height }) {
  if (await whole(card)) await overlay(card, mask);
  const shares = classes.map((one) => ({ ...one, share: one.pixels / (width * height) }));
  shares.sort((one, other) => other.share - one.share);
  const legend = card.querySelector(".legend");
  legend.replaceChildren(...shares.map(({ label, color, share }) => {
    const row = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    if (color !== BACKGROUND) swatch.style.backgroundColor = color;
    row.append(swatch, `${label} ${percent(share)}`);
    return row;
  }));
  legend.hidden = false;
  return { spoken: shares.slice(0, 3).map(({ label, share }) => `${label}, ${percent(share)}`).join("; ") };
}

/* The mask over the picture, which shows through where the background is. */
async function overlay(card, mask) {
  const bytes = Uint8Array.from(atob(mask), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = document.createElement("canvas");
  canvas.className = "overlay";
  canvas.setAttribute("aria-hidden", "true");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    if (!(pixels.data[at] | pixels.data[at + 1] | pixels.data[at + 2])) pixels.data[at + 3] = 0;
  }
  context.putImageData(pixels, 0, 0);
  card.querySelector(".picture").append(canvas);
  const slider = card.querySelector(".strength input");
  const follow = () => { canvas.style.opacity = slider.value / 100; };
  slider.addEventListener("input", follow);
  follow();
  card.querySelector(".strength").hidden = false;
}

function showNumbers(card, { embedding }) {
  const numbers = card.querySelector(".numbers");
  const first = embedding.slice(0, SHOWN_NUMBERS).map((number) => Number(number.toPrecision(4)));
  const more = embedding.length > SHOWN_NUMBERS ? ", …" : "";
  numbers.textContent = `${embedding.length} numbers: ${first.join(", ")}${more}`;
  numbers.hidden = false;
  return { spoken: `${embedding.length} numbers` };
}

function latency(total, timing, model) {
  const triton = /triton;dur=([\d.]+)/.exec(timing);
  const inside = triton ? `, ${Math.round(triton[1])} ms of them in the model` : "";
  return `${model ? `${model}: ` : ""}${Math.round(total)} ms${inside}`;
}

const percent = (share) => `${(share * 100).toFixed(1)} %`;
const announce = (text) => { $("status").textContent = text; };

$("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
$("model").addEventListener("change", showInput);
$("ask").addEventListener("click", addText);
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

// Wires the page together: the drawing and the pictures ask, and the chosen one's answer is shown.
// A subject is what is asked about: {name, state, request, prediction, error, timing, version}, state being one
// of "empty" | "waiting" | "answered" | "refused".

import { layOutBars, sentence, showAnswer } from "./answer.js";
import { drawingRequest, fetchModels, filesRequest, portions, predict, Refusal } from "./api.js";
import { copyText } from "./copy.js";
import { Drawing } from "./drawing.js";
import { apiKey, askForKey } from "./key.js";
import { preview, Strip } from "./strip.js";

const PAUSE_BETWEEN_QUESTIONS_MS = 40; // while the pen moves
const QUIET_BEFORE_SPEAKING_MS = 600; // a screen reader hears where the drawing arrives, not every bit of ink
const COPIED_FOR_MS = 1500;

const element = (id) => document.getElementById(id);
const drawing = new Drawing(element("paper"), { onChange: inkChanged, onSay: say });
const strip = new Strip(element("strip"), { onSelect: show, onRemoveAll: () => removePictures(pictures) });
const sketch = { name: "Your drawing", state: "empty" };
let pictures = []; // subjects with a file and, to show it, its address
let shown = sketch;
let models = [];
let card = null; // what the service tells about the chosen model
let isAsking = false; // about the drawing
let hasChanged = false; // drawing or model, since that question
let toSpeak = 0;

// --- the model ---

async function loadModels() {
  try {
    const served = await fetchModels();
    models = served.models;
    if (!models.length) throw new Refusal({ message: "The service has no model loaded." });
    const { name } = models.find((model) => model.name === served.default) ?? models[0];
    offerModels(name);
    chooseModel(name);
  } catch (error) {
    if (error.code !== "unauthorized") complain(error);
    else askForKey(element("key"), apiKey() ? error.message : "This service asks for an API key.", loadModels);
  }
}

function offerModels(preferred) {
  const groups = [...new Set(models.map((model) => model.dataset))].map((dataset) => {
    const group = document.createElement("optgroup");
    group.label = dataset;
    const members = models.filter((model) => model.dataset === dataset);
    group.append(...members.map(({ name }) => new Option(name, name, false, name === preferred)));
    return group;
  });
  element("model").replaceChildren(...groups);
  element("model").disabled = false;
}

function chooseModel(name) {
  card = models.find((model) => model.name === name);
  element("subject").textContent = `a ${card.canonical_form}`;
  element("heat-choice").hidden = !card.max_explained_images;
  layOutBars(card.labels);
  update(sketch, { state: drawing.isEmpty ? "empty" : "waiting" });
  askAll();
}

function askAll() {
  askAboutDrawing();
  askAboutPictures(pictures);
}

// What failed for a reason that may have passed.
function askAgain() {
  element(shown === sketch ? "paper" : "remove").focus(); // as the button goes away
  if (shown !== sketch) return askAboutPictures(pictures.filter((picture) => picture.error?.mayPass));
  update(sketch, { state: "waiting" });
  return askAboutDrawing();
}

function query() {
  return { model: card.name, explain: card.max_explained_images > 0 && element("heat").checked };
}

// --- the drawing ---

function inkChanged() {
  element("invitation").hidden = !drawing.isEmpty;
  element("undo").disabled = !drawing.canUndo;
  element("clear").disabled = drawing.isEmpty;
  if (drawing.isEmpty) update(sketch, { state: "empty" });
  askAboutDrawing();
}

// One question at a time; ink that comes meanwhile is in the next.
async function askAboutDrawing() {
  if (shown === sketch) hush();
  hasChanged = true;
  if (isAsking || !card) return;
  isAsking = true;
  while (hasChanged) {
    hasChanged = false;
    if (drawing.isEmpty) continue;
    if (sketch.state === "empty") update(sketch, { state: "waiting" });
    const asked = card;
    const request = drawingRequest(query(), drawing.toPng());
    const [outcome] = await outcomes(request, 1);
    if (asked === card && !drawing.isEmpty) update(sketch, outcome);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_BETWEEN_QUESTIONS_MS));
  }
  isAsking = false;
  if (shown === sketch) saySoon(() => sentence(sketch, card));
}

// --- pictures ---

function addPictures(files) {
  const added = Array.from(files, (file) => ({ name: file.name, file, address: URL.createObjectURL(file) }));
  if (!added.length) return;
  pictures.push(...added);
  added.forEach((picture) => strip.add(picture));
  element("strip").hidden = false;
  askAboutPictures(added);
  show(added[0]);
}

// Together, as far as the limits of a request allow.
async function askAboutPictures(asked) {
  if (!card || !asked.length) return;
  for (const picture of asked) update(picture, { state: "waiting" });
  const readable = await readableOnes(asked);
  const most = query().explain ? card.max_explained_images : card.max_images;
  const requests = portions(readable, ({ file }) => file.size, most).map((members) => {
    const request = filesRequest(query(), members.map(({ file }) => file));
    for (const picture of members) picture.request = request;
    return [request, members];
  });
  for (const [request, members] of requests) {
    if (!members.some((picture) => picture.request === request)) continue; // removed, or asked again meanwhile
    const answers = await outcomes(request, members.length);
    members.forEach((picture, i) => {
      if (picture.request === request) update(picture, answers[i]);
    });
  }
  const kept = () => asked.filter((picture) => pictures.includes(picture));
  saySoon(() => kept().map((picture) => `${picture.name}: ${sentence(picture, card)}`).join(" "));
}

// One file that cannot be read would take its whole request along: a folder, or what has changed on the disk.
async function readableOnes(asked) {
  const isReadable = ({ file }) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  const answers = await Promise.all(asked.map(isReadable));
  const error = { message: "This is a folder, or the file has changed: choose it again." };
  return asked.filter((picture, i) => {
    if (!pictures.includes(picture)) return false; // removed meanwhile
    if (!answers[i]) update(picture, { state: "refused", error });
    return answers[i];
  });
}

function removePictures(removed) {
  for (const picture of removed) {
    picture.request = null; // an answer that still comes is nobody's
    strip.remove(picture);
    URL.revokeObjectURL(picture.address);
  }
  const place = pictures.indexOf(removed[0]);
  pictures = pictures.filter((picture) => !removed.includes(picture));
  element("strip").hidden = !pictures.length;
  const next = pictures[Math.min(place, pictures.length - 1)] ?? sketch;
  show(next);
  element(next === sketch ? "paper" : "remove").focus();
}

// --- answers ---

// What became of each of `count` images of a request.
async function outcomes(request, count) {
  try {
    const { predictions, timing, version } = await predict(request);
    return predictions.map((prediction) =>
      prediction.error
        ? { state: "refused", error: prediction.error, request }
        : { state: "answered", prediction, request, timing, version },
    );
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    if (refusal.code === "unauthorized" && element("key").hidden) askForKey(element("key"), refusal.message, askAll);
    const errors = Array.from({ length: count }, (_, i) => refusal.details[i]?.error ?? refusal);
    return errors.map((error) => ({ state: "refused", error, request }));
  }
}

function update(subject, outcome) {
  const nothing = { request: null, prediction: null, error: null, timing: null, version: null };
  Object.assign(subject, nothing, outcome);
  strip.update(subject);
  if (subject === shown) showSubject();
}

function show(subject) {
  shown = subject;
  const isSketch = subject === sketch;
  element("paper").hidden = !isSketch;
  element("invitation").hidden = !isSketch || !drawing.isEmpty;
  element("shown").hidden = isSketch;
  for (const id of ["undo", "clear"]) element(id).hidden = !isSketch;
  for (const id of ["draw", "remove"]) element(id).hidden = isSketch;
  strip.select(subject);
  showSubject();
}

function showSubject() {
  if (shown !== sketch) showPicture();
  if (card) showAnswer(shown, card);
  const hasAsked = shown.request && shown.state !== "empty";
  element("command").textContent = hasAsked ? shown.request.curlInShort : "Draw or choose a picture first.";
  element("copy").disabled = !hasAsked;
}

function showPicture() {
  const name = document.createElement("small");
  name.textContent = shown.name;
  element("shown").replaceChildren(preview(shown), name);
}

function say(text) {
  element("status").textContent = text;
}

// What was said no longer holds; besides, the same sentence twice in a row would be heard once.
function hush() {
  clearTimeout(toSpeak);
  say("");
}

function saySoon(tell) {
  hush();
  toSpeak = setTimeout(() => say(tell()), QUIET_BEFORE_SPEAKING_MS);
}

function complain(error) {
  element("trouble").textContent = `${error.message} Reload the page to try again.`;
  element("trouble").hidden = false;
}

// --- what people do ---

function listenToTools() {
  element("model").addEventListener("change", (event) => chooseModel(event.target.value));
  element("heat").addEventListener("change", askAll);
  element("undo").addEventListener("click", () => drawing.undo());
  element("clear").addEventListener("click", () => drawing.clear());
  element("draw").addEventListener("click", () => {
    show(sketch);
    element("paper").focus();
  });
  element("remove").addEventListener("click", () => removePictures([shown]));
  element("again").addEventListener("click", askAgain);
  element("copy").addEventListener("click", async () => {
    const outcome = (await copyText(shown.request.curl)) ? "Copied" : "Copying is not possible here";
    say(outcome);
    element("copy").textContent = outcome;
    setTimeout(() => (element("copy").textContent = "Copy"), COPIED_FOR_MS);
  });
  addEventListener("keydown", (event) => {
    const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z";
    if (!isUndo || shown !== sketch) return;
    event.preventDefault();
    drawing.undo();
  });
}

function listenToPictures() {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const drop = element("drop");
  element("files").addEventListener("change", (event) => {
    addPictures(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => addPictures(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.classList.add("open");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("open"); // the pointer left the window
  });
  addEventListener("drop", (event) => {
    drop.classList.remove("open");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    addPictures(event.dataTransfer.files);
  });
}

strip.add(sketch);
strip.select(sketch);
listenToTools();
listenToPictures();
await loadModels();

// The answer on the page: label, doubt, probabilities, the pixels the model saw, times.

const SIDE = 28;
const element = (id) => document.getElementById(id);

export function showAnswer(subject, card) {
  const prediction = subject.state === "answered" ? subject.prediction : null;
  showHeadline(subject, prediction, card);
  showBars(card.labels, prediction);
  showPixels(element("seen"), prediction);
  element("seen").setAttribute("aria-label", describePixels(prediction));
  showFacts(prediction, subject, card);
}

// One row for each label, once for each model; the answers only move them.
export function layOutBars(labels) {
  element("bars").classList.toggle("words", labels.some(isWord));
  element("bars").replaceChildren(
    ...labels.map((label) => {
      const row = document.createElement("li");
      const fill = part("span", "fill");
      const track = part("span", "track", fill);
      track.setAttribute("aria-hidden", "true");
      row.append(part("span", "name", label), track, part("span", "share", ""));
      return row;
    }),
  );
}

// The answer as one sentence, for those who listen.
export function sentence(subject, card) {
  if (subject.state === "refused") return subject.error.message;
  if (subject.state !== "answered") return "";
  const { label, probability, prediction_set: set, in_distribution: isFamiliar } = subject.prediction;
  const parts = [`${label}, ${percent(probability)}.`];
  if (set?.length > 1) parts.push(`It could be ${either(set)}.`);
  if (isFamiliar === false) parts.push(`Doubtful: ${unlike(card)}.`);
  return parts.join(" ");
}

// The 28 by 28 pixels as the model saw them, with the heat map over them where there is one.
export function showPixels(canvas, prediction) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, SIDE, SIDE);
  canvas.classList.toggle("blank", !prediction?.pixels);
  if (!prediction?.pixels) return;
  const grey = bytes(prediction.pixels);
  const heat = prediction.heat_map ? bytes(prediction.heat_map) : null;
  const image = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) image.data.set(pixel(grey[i], heat ? heat[i] / 255 : 0), 4 * i);
  context.putImageData(image, 0, 0);
}

// Grey turns amber where the heat is; black pixels glow too, since emptiness can matter as much as ink.
function pixel(grey, heat) {
  return [grey + heat * (255 - grey), grey + heat * (150 - grey), grey * (1 - heat), 255];
}

function showHeadline({ state, error }, prediction, card) {
  const label = element("label");
  label.textContent = prediction?.label ?? "";
  label.classList.toggle("word", isWord(label.textContent));
  element("verdict").textContent = {
    empty: "The answer follows your pen.",
    waiting: "Reading…",
    answered: prediction ? `${percent(prediction.probability)} likely` : "",
    refused: error?.message,
  }[state];
  element("verdict").classList.toggle("refusal", state === "refused");
  element("again").hidden = !error?.mayPass;
  const isDoubtful = prediction?.in_distribution === false;
  element("doubt").hidden = !isDoubtful;
  element("doubt").textContent = isDoubtful ? `Doubtful: ${unlike(card)}` : "";
}

function showBars(labels, prediction) {
  const shares = new Map(prediction?.top.map(({ label, probability }) => [label, probability]));
  const rows = element("bars").children;
  labels.forEach((label, i) => {
    const share = shares.get(label) ?? 0;
    const [name, track, value] = rows[i].children;
    track.firstChild.style.transform = `translateX(${100 * (share - 1)}%)`;
    value.textContent = prediction ? percent(share) : "";
    rows[i].classList.toggle("best", label === prediction?.label);
    name.classList.toggle("in-set", prediction?.prediction_set?.includes(label) ?? false);
  });
}

function showFacts(prediction, { timing, version }, card) {
  const set = prediction?.prediction_set;
  fill("set", set && either(set), set && coverage(card), prediction && "This model is not calibrated");
  const isFamiliar = prediction?.in_distribution;
  const familiarity = isFamiliar ? "Like its training data" : `Unlike any ${card.canonical_form} it was trained on`;
  fill("familiar", isFamiliar != null && familiarity, "", prediction && "This model is not calibrated");
  fill("time", timing && `${milliseconds(timing.roundTripMs)} there and back`, timing && stages(timing));
  fill("card", `${(100 * card.test_accuracy).toFixed(2)} % right in its test`, `version ${version ?? card.version}`);
  const batch = timing?.batch;
  fill("batch", batch && (batch === 1 ? "Rode alone" : `Rode with ${batch - 1} other${batch > 2 ? "s" : ""}`));
}

function fill(id, value, aside = "", otherwise = null) {
  element(id).replaceChildren(value || otherwise || "–", ...(value && aside ? [part("small", "", aside)] : []));
}

function coverage({ conformal_level: level }) {
  return level ? `holds the truth ${percent(level)} of the time` : "";
}

function stages({ read, queue, compute }) {
  const named = { read, queue, compute };
  const known = Object.entries(named).filter(([, duration]) => duration !== undefined);
  return known.map(([name, duration]) => `${name} ${duration.toFixed(2)}`).join(" · ");
}

function describePixels(prediction) {
  const what = "The 28 by 28 pixels that the model saw";
  if (!prediction) return `${what}: none yet`;
  return prediction.heat_map ? `${what}, and where it looked` : what;
}

function unlike({ canonical_form: form }) {
  return `unlike any ${form} it was trained on`;
}

function isWord(label) {
  return label.length > 2;
}

function either(labels) {
  return labels.length > 1 ? `${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}` : labels[0];
}

// To a tenth of a percent; nothing is certain, so what would round up to that is told apart.
function percent(share) {
  if (share >= 0.9995) return "> 99.9 %";
  const tenths = (100 * share).toFixed(1);
  return `${tenths.replace(/\.0$/, "")} %`;
}

function milliseconds(duration) {
  return `${duration < 10 ? duration.toFixed(1) : Math.round(duration)} ms`;
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function part(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

// The strip of pictures under the drawing area: one radio button each, the drawing first.

import { showPixels } from "./answer.js";

export class Strip {
  #strip;
  #onSelect;
  #items = new Map(); // subject -> its label element

  constructor(strip, { onSelect, onRemoveAll }) {
    this.#strip = strip;
    this.#onSelect = onSelect;
    strip.querySelector("button").addEventListener("click", onRemoveAll);
  }

  add(subject) {
    const item = document.createElement("label");
    const choice = document.createElement("input");
    choice.type = "radio";
    choice.name = "subject";
    choice.className = "unseen";
    choice.addEventListener("change", () => this.#onSelect(subject));
    const caption = document.createElement("span");
    item.append(choice, preview(subject), caption);
    this.#strip.lastElementChild.before(item); // the button that removes all
    this.#items.set(subject, item);
    this.update(subject);
  }

  remove(subject) {
    this.#items.get(subject).remove();
    this.#items.delete(subject);
  }

  // The answer under the picture, and for those who listen also the picture's name.
  update(subject) {
    const item = this.#items.get(subject);
    const [choice, shown, caption] = item.children;
    const { state, prediction, error, name } = subject;
    caption.textContent = { empty: "Draw", answered: prediction?.label, refused: "!", waiting: "…" }[state];
    choice.setAttribute("aria-label", `${name}: ${prediction?.label ?? error?.message ?? "no answer yet"}`);
    item.classList.toggle("doubted", state === "refused" || prediction?.in_distribution === false);
    if (shown.matches("canvas")) showPixels(shown, prediction);
  }

  select(subject) {
    const item = this.#items.get(subject);
    item.querySelector("input").checked = true;
    item.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

// The picture itself, or what the model saw of it where the browser cannot show its format.
export function preview(subject) {
  if (!subject.address || subject.isUnshowable) return pixels(subject);
  const image = document.createElement("img");
  image.src = subject.address;
  image.alt = "";
  image.addEventListener("error", () => {
    subject.isUnshowable = true;
    image.replaceWith(pixels(subject));
  });
  return image;
}

function pixels(subject) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 28;
  showPixels(canvas, subject.prediction);
  return canvas;
}

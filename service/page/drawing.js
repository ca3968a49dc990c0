// A sheet of paper: strokes from mouse, touch, pen or arrow keys become a picture.
// Coordinates are shares of the sheet's side, so strokes survive every change of size.

const PEN_WIDTH = 0.075; // of the side; about 2.5 of MNIST's 20 pixels once a usual digit is scaled there
const SENT_SIDE = 224; // pixels; the service looks at no more than half of them along the side
const KEY_STEP = 0.02;
const KEY_LEAP = 0.1; // with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawing {
  #canvas;
  #strokes = []; // each a list of points {x, y, width}
  #past = []; // what the strokes were before each change, for undo
  #pointer = null; // id of the pointer that draws
  #cursor = { x: 0.5, y: 0.3 };
  #keyPenIsDown = false;
  #arrowsHeld = new Set();
  #frame = 0;

  // `onChange` is told of every new bit of ink, `onSay` what a screen reader should hear.
  constructor(canvas, { onChange, onSay }) {
    this.#canvas = canvas;
    this.onChange = onChange;
    this.onSay = onSay;
    this.#listenToPointers();
    this.#listenToKeys();
    new ResizeObserver(() => this.#repaint()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#repaint());
  }

  get isEmpty() {
    return this.#strokes.length === 0;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  undo() {
    if (this.canUndo) this.#become(this.#past.pop());
  }

  clear() {
    if (this.isEmpty) return;
    this.#past.push(this.#strokes);
    this.#become([]);
  }

  // The drawing as a data URL: black on white whatever the page's colours are.
  toPng() {
    const sheet = document.createElement("canvas");
    sheet.width = sheet.height = SENT_SIDE;
    const context = sheet.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
    paintStrokes(context, this.#strokes, SENT_SIDE, "#000");
    return sheet.toDataURL("image/png");
  }

  #become(strokes) {
    this.#strokes = strokes;
    this.#keyPenIsDown = false;
    this.#pointer = null;
    this.#changed();
  }

  #beginStroke(point) {
    this.#past.push(this.#strokes);
    this.#strokes = [...this.#strokes, [point]];
    this.#changed();
  }

  #extendStroke(points) {
    this.#strokes.at(-1).push(...points);
    this.#changed();
  }

  #changed() {
    this.#repaint();
    this.onChange();
  }

  #listenToPointers() {
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (this.#pointer !== null || event.button !== 0) return; // a palm or a second finger
      this.#pointer = event.pointerId;
      this.#keyPenIsDown = false;
      canvas.setPointerCapture(event.pointerId);
      this.#beginStroke(this.#pointOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.#pointer) return;
      const events = event.getCoalescedEvents?.() ?? [];
      this.#extendStroke((events.length ? events : [event]).map((each) => this.#pointOf(each)));
    });
    const lift = (event) => {
      if (event.pointerId === this.#pointer) this.#pointer = null;
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
  }

  #pointOf(event) {
    const box = this.#canvas.getBoundingClientRect();
    const pressure = event.pointerType === "pen" ? 0.6 + 0.8 * event.pressure : 1;
    return {
      x: (event.clientX - box.left) / box.width,
      y: (event.clientY - box.top) / box.height,
      width: PEN_WIDTH * pressure,
    };
  }

  #listenToKeys() {
    const canvas = this.#canvas;
    canvas.addEventListener("keydown", (event) => {
      if (event.key in ARROWS) {
        this.#arrowsHeld.add(event.key);
        this.#moveCursor(event.shiftKey ? KEY_LEAP : KEY_STEP);
      } else if (event.key === " ") {
        if (!event.repeat) this.#toggleKeyPen();
      } else return;
      event.preventDefault();
    });
    canvas.addEventListener("keyup", (event) => this.#arrowsHeld.delete(event.key));
    canvas.addEventListener("focus", () => this.#repaint());
    canvas.addEventListener("blur", () => {
      this.#arrowsHeld.clear();
      this.#keyPenIsDown = false;
      this.#repaint();
    });
  }

  // Two arrows held together move diagonally.
  #moveCursor(step) {
    for (const key of this.#arrowsHeld) {
      this.#cursor.x = clamp(this.#cursor.x + step * ARROWS[key][0]);
      this.#cursor.y = clamp(this.#cursor.y + step * ARROWS[key][1]);
    }
    if (this.#keyPenIsDown) this.#extendStroke([{ ...this.#cursor, width: PEN_WIDTH }]);
    else this.#repaint();
  }

  #toggleKeyPen() {
    this.#keyPenIsDown = !this.#keyPenIsDown;
    if (this.#keyPenIsDown) this.#beginStroke({ ...this.#cursor, width: PEN_WIDTH });
    else this.#repaint();
    this.onSay(this.#keyPenIsDown ? "Pen down" : "Pen up");
  }

  #repaint() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #paint() {
    const canvas = this.#canvas;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, side, side);
    paintStrokes(context, this.#strokes, side, style.color);
    if (canvas.matches(":focus-visible")) {
      paintCursor(context, this.#cursor, side, style.outlineColor, this.#keyPenIsDown);
    }
  }
}

function paintStrokes(context, strokes, side, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    if (points.length === 1) paintDot(context, points[0], side);
    else paintLine(context, points, side);
  }
}

// Curves run from the middle of one segment to the middle of the next, the point between being their control.
// One path lasts as long as the pen's width does: paths that overlap would show their soft edges.
function paintLine(context, points, side) {
  let width = 0;
  points.forEach((point, i) => {
    if (point.width !== width) {
      if (i > 0) context.stroke();
      width = point.width;
      context.lineWidth = width * side;
      context.beginPath();
      const start = middle(points[Math.max(i - 1, 0)], point);
      context.moveTo(start.x * side, start.y * side);
    }
    const end = middle(point, points[Math.min(i + 1, points.length - 1)]);
    context.quadraticCurveTo(point.x * side, point.y * side, end.x * side, end.y * side);
  });
  context.stroke();
}

function paintDot(context, { x, y, width }, side) {
  context.beginPath();
  context.arc(x * side, y * side, (width * side) / 2, 0, 2 * Math.PI);
  context.fill();
}

function paintCursor(context, { x, y }, side, colour, isDown) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = Math.max(2, side / 200);
  context.beginPath();
  context.arc(x * side, y * side, (PEN_WIDTH * side) / 2, 0, 2 * Math.PI);
  if (isDown) context.fill();
  else context.stroke();
}

function middle(a, b) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}

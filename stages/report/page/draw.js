// The square to draw in, and what the net says of it while one draws.

const square = document.getElementById("square"), pen = square.getContext("2d", { willReadFrequently: true });
const WIDTH = square.width, HEIGHT = square.height, STROKE = WIDTH / 10;
// row: of a test image underneath; before: what undo brings back, where there is no stroke
const drawing = { strokes: [], row: null, before: null, erasing: false, cursor: null };

function redraw() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  if (drawing.row !== null) {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(canvasOf(imageAt(drawing.row)), 0, 0, WIDTH, HEIGHT);
  }
  Object.assign(pen, { lineWidth: STROKE, lineCap: "round", lineJoin: "round" });
  for (const { points, erases } of drawing.strokes) {
    pen.strokeStyle = erases ? "#000" : "#fff";
    pen.beginPath();
    pen.moveTo(points[0][0], points[0][1] + 0.01); // a line of no length has no ink
    points.forEach((point) => pen.lineTo(...point));
    pen.stroke();
  }
}

// What the net gets: {image, height, width}, with the size of the ink, or {message}, that says why there is nothing
function seen() {
  if (!nets[chosen.net]) return { message: "This page cannot run the net, which is a class of Python." };
  if (!DRAWN) return drawing.row === null ? { message: `Choose a test ${data.noun} below.` } : { image: imageAt(drawing.row) };
  const { data: rgba } = pen.getImageData(0, 0, WIDTH, HEIGHT), ink = new Uint8Array(WIDTH * HEIGHT);
  for (let at = 0; at < ink.length; at++) ink[at] = rgba[4 * at];
  const asItIs = (drawing.row !== null || !CENTRED) && ink.some((value) => value > 0);
  if (asItIs) return { image: shrunk(ink), height: HIGH, width: WIDE, unchanged: !drawing.strokes.length };
  const found = CENTRED ? findDigits(ink, WIDTH) : [];
  if (found.length === 1) return { ...found[0], image: asMnist(found[0]) };
  return { message: found.length ? `${found.length} separate marks. Draw one ${data.noun}.` : `Draw ${data.a_noun}.` };
}

// The mean of each of the blocks that are a pixel for the net: a test image that was changed stays where it is
function shrunk(ink) {
  const sums = new Float64Array(PIXELS), counts = new Float64Array(PIXELS);
  ink.forEach((value, at) => {
    const row = Math.floor((Math.floor(at / WIDTH) * HIGH) / HEIGHT), column = Math.floor(((at % WIDTH) * WIDE) / WIDTH);
    sums[row * WIDE + column] += value;
    counts[row * WIDE + column]++;
  });
  return Uint8Array.from(sums, (sum, at) => Math.round(sum / counts[at]));
}

// Everything that follows from the drawing, now
function update() {
  redraw();
  const found = seen(), { image, message } = found;
  const layers = image ? forward(nets[chosen.net], image) : [];
  const probabilities = layers.length ? softmax(layers.at(-1).values) : null;
  say(probabilities ? answerOf(probabilities, found) : message, probabilities);
  showBars(probabilities);
  showPixels(document.getElementById("seen"), image ?? new Uint8Array(VALUES));
  showMaps(layers);
}

function say(answer, probabilities) {
  const label = drawing.row === null ? null : labels[drawing.row];
  const changed = drawing.strokes.length ? ", changed" : "";
  const right = probabilities && probabilities.indexOf(Math.max(...probabilities)) === label;
  const verdict = !probabilities ? "" : right ? " Classified as labelled." : " Misclassified.";
  const about = label === null ? "" : `Test ${data.noun} ${drawing.row}${changed}: label ${NAMES[label]}.${verdict}`;
  for (const [name, text] of Object.entries({ answer, about })) {
    const place = document.getElementById(name);
    if (place.textContent !== text) place.textContent = text; // a screen reader reads out whatever is set
  }
}

function showBars(probabilities) {
  document.querySelectorAll("#bars li").forEach((bar, place) => {
    const share = probabilities ? probabilities[place] : 0;
    bar.style.setProperty("--share", share);
    if (CLASSES > 12) bar.style.order = Math.round(-1e6 * share); // the likeliest first, where the list scrolls
    bar.classList.toggle("most", share > 0 && share === Math.max(...probabilities));
    bar.lastElementChild.textContent = probabilities ? percent(share) : "";
  });
}

// The maps of the convolutions side by side, blue above 0 and orange below, each layer on a scale of its own
function showMaps(layers) {
  document.querySelectorAll("#maps canvas").forEach((canvas) => {
    const made = layers.find((layer) => layer.name === canvas.dataset.layer);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!made) return;
    const { channels, height, width, values } = made, columns = Number(canvas.dataset.columns);
    const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
    const tile = new ImageData(width, height);
    for (let channel = 0; channel < channels; channel++) {
      for (let at = 0; at < height * width; at++) {
        const value = values[channel * height * width + at] / most;
        tile.data.set([...(value > 0 ? [0, 130, 215] : [222, 90, 10]), 255 * Math.sqrt(Math.abs(value))], 4 * at);
      }
      context.putImageData(tile, (channel % columns) * (width + 1), Math.floor(channel / columns) * (height + 1));
    }
  });
}

function begin(point) {
  const stroke = { points: [point], erases: drawing.erasing };
  drawing.strokes.push(stroke);
  return stroke;
}

function undo() {
  if (!drawing.strokes.pop() && drawing.before) Object.assign(drawing, drawing.before);
  if (drawing.cursor) drawing.cursor.down = false;
  markChosen();
  update();
}

// Start anew: with the test image of that row underneath, or with nothing
function start(row) {
  const { strokes, row: last, before } = drawing, empty = !strokes.length && last === null;
  Object.assign(drawing, { strokes: [], row, before: empty ? before : { strokes, row: last, before }, cursor: null });
  markChosen();
  update();
}

function pointOf(event) {
  const box = square.getBoundingClientRect(), scale = WIDTH / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

function drawWithPointer() {
  let due = false, stroke = null, pointer = null; // pointer: the number of the one that draws
  square.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary || (pointer !== null && event.pointerType !== "pen")) return; // no palm
    square.setPointerCapture(event.pointerId);
    pointer = event.pointerId;
    stroke = begin(pointOf(event));
    update();
  });
  square.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    stroke.points.push(...(moves.length ? moves : [event]).map(pointOf));
    if (!due) requestAnimationFrame(() => ((due = false), update()));
    due = true;
  });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach((end) => square.addEventListener(end, (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    update();
  }));
}

// The arrow keys move a pen, space puts it down and lifts it
function drawWithKeys() {
  const steps = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
  square.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey, undoes = event.key === (command ? "z" : "Backspace");
    if (event.altKey || (command && !undoes)) return; // the browser's own keys, such as those to go back
    const step = steps[event.key], cursor = (drawing.cursor ??= { point: [WIDTH / 2, WIDTH / 4], down: false });
    const moved = (value, axis) => Math.min([WIDTH, HEIGHT][axis], Math.max(0, value + step[axis] * (WIDTH / 20)));
    if (step) cursor.point = cursor.point.map(moved);
    else if (event.key === " ") cursor.down = !cursor.down;
    else if (undoes) undo();
    else return;
    event.preventDefault();
    if (event.key === " " && cursor.down) begin(cursor.point);
    else if (step && cursor.down && drawing.strokes.length) drawing.strokes.at(-1).points.push(cursor.point);
    update();
    pen.fillStyle = cursor.down ? "#d55e00" : "#0082d7"; // after all was read: the pen is no ink
    pen.fillRect(cursor.point[0] - 8, cursor.point[1] - 8, 16, 16);
  });
  square.addEventListener("blur", () => ((drawing.cursor = null), redraw()));
}

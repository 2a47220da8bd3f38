// The confusion matrix, and the test images that a cell of it counts.

// Where the image of each row of the test set stands in the page; a large test set is not there as a whole
const placeOf = data.images.rows && new Map(data.images.rows.map((row, place) => [row, place]));

function imageAt(row) {
  const place = placeOf ? placeOf.get(row) : row;
  return testImages.subarray(place * VALUES, (place + 1) * VALUES);
}

function showPixels(canvas, image) {
  const pixels = new ImageData(WIDE, HIGH), last = (CHANNELS - 1) * PIXELS;
  for (let at = 0; at < PIXELS; at++) pixels.data.set([image[at], image[at + last / 2], image[at + last], 255], 4 * at);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function canvasOf(image) {
  const canvas = element("canvas", { width: WIDE, height: HIGH, className: ON_BLACK ? "ink" : "" });
  showPixels(canvas, image);
  return canvas;
}

// The rows of the test images of each label that `run` classifies as each class: rows[label][class]
function rowsOf(run) {
  const rows = NAMES.map(() => NAMES.map(() => []));
  labels.forEach((label, row) => rows[label][run.predicted[row]].push(row));
  return rows;
}

// A table of buttons, one for each pair of classes, with their `rows`; `most` errors of a cell are the darkest
function matrixOf(run, rows, most) {
  const table = element("table", { className: CLASSES <= 12 ? "matrix few" : "matrix" }), body = element("tbody");
  const upright = NAMES.some((name) => name.length > 2) ? "upright" : "";
  const heads = NAMES.map((name) => element("th", { scope: "col", title: name, className: upright }, name));
  const head = element("tr", {}, element("td"), ...heads);
  table.style.setProperty("--classes", CLASSES);
  head.append(element("th", { scope: "col" }, "accuracy"));
  table.append(element("caption", {}, "Rows: label. Columns: class that the net predicts."));
  table.append(element("thead", {}, head), body);
  rows.forEach((cells, actual) => {
    const name = NAMES[actual], row = element("tr", {}, element("th", { scope: "row", title: name }, name));
    cells.forEach((of, predicted) => row.append(element("td", {}, cellOf(run, of, actual, predicted, most))));
    row.append(element("td", { textContent: percent(cells[actual].length / cells.flat().length, 2) }));
    body.append(row);
  });
  moveWithArrows(table, () => CLASSES);
  return table;
}

function cellOf(run, rows, actual, predicted, most) {
  const right = actual === predicted, pair = `label ${NAMES[actual]}, predicted ${NAMES[predicted]}`;
  const label = `${pair}: ${count(rows.length, data.noun)}`;
  const cell = element("button", { type: "button", textContent: rows.length || "·", className: right ? "right" : "" });
  cell.setAttribute("aria-label", label);
  cell.style.setProperty("--share", right ? 0 : rows.length / most);
  cell.addEventListener("click", () => {
    showImages(`${run.name ? `${run.name}, ` : ""}${label}`, rows);
    cell.setAttribute("aria-pressed", true);
  });
  return cell;
}

// Show the test images of `rows` as buttons that put them into the square
async function showImages(title, rows) {
  document.querySelector(".matrix [aria-pressed=true]")?.setAttribute("aria-pressed", false);
  const there = placeOf ? rows.filter((row) => placeOf.has(row)) : rows;
  const some = there.length < rows.length ? `, of which the page has ${there.length}` : "";
  document.getElementById("digits-title").textContent = title + some;
  const list = document.getElementById("digits");
  await decoded; // calls end in their order
  list.replaceChildren(...there.map((row) => {
    const classes = data.runs.map((run) => `${run.name ? `${run.name} ` : ""}predicted ${NAMES[run.predicted[row]]}`);
    const said = `${row}: ${[`label ${NAMES[labels[row]]}`, ...classes].join(", ")}`;
    const button = element("button", { type: "button", title: `no. ${said}` }, canvasOf(imageAt(row)));
    button.setAttribute("aria-label", `test ${data.noun} ${said}`);
    button.dataset.row = row;
    button.addEventListener("click", () => {
      start(row);
      document.getElementById("try").scrollIntoView();
      square.focus({ preventScroll: true });
    });
    return button;
  }));
  markChosen();
  document.querySelectorAll("#steps button").forEach((button) => (button.disabled = !there.length));
  moveWithArrows(list, () => [...list.children].filter((of) => of.offsetTop === list.firstChild.offsetTop).length);
}

function markChosen() {
  document.querySelector("#digits [aria-current]")?.removeAttribute("aria-current");
  document.querySelector(`#digits [data-row="${drawing.row}"]`)?.setAttribute("aria-current", true);
}

// Put the image into the square that stands `by` places after the chosen one in the list; after the last, the first
function goOn(by) {
  const rows = [...document.querySelectorAll("#digits button")].map((button) => Number(button.dataset.row));
  const at = rows.indexOf(drawing.row);
  start(rows.at((at + (at < 0 && by < 0 ? 0 : by)) % rows.length));
}

// One stop of the Tab key for all buttons in `parent`, `columns` in a row: the arrow keys go from one to the next
function moveWithArrows(parent, columns) {
  const buttons = [...parent.querySelectorAll("button")];
  buttons.forEach((button, at) => (button.tabIndex = at ? -1 : 0));
  parent.onkeydown = (event) => {
    const wide = columns();
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
    const from = buttons.indexOf(event.target), to = buttons[from + step];
    if (!to) return;
    event.preventDefault();
    buttons.forEach((button) => (button.tabIndex = button === to ? 0 : -1));
    to.focus();
  };
}

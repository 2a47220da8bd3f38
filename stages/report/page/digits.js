// The confusion matrix, and the test digits that a cell of it counts.

function digitAt(row) {
  return digits.subarray(row * PIXELS, (row + 1) * PIXELS);
}

function showPixels(canvas, image) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, at) => pixels.data.set([value, value, value, 255], 4 * at));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function canvasOf(image) {
  const canvas = element("canvas", { width: SIDE, height: SIDE });
  showPixels(canvas, image);
  return canvas;
}

// The rows of the test digits labelled `actual` that `run` classifies as `predicted`
function rowsOf(run, actual, predicted) {
  const rows = [];
  for (let row = 0; row < data.labels.length; row++) {
    if (data.labels[row] === String(actual) && run.predicted[row] === String(predicted)) rows.push(row);
  }
  return rows;
}

// A table of buttons, one for each pair of classes; `most` errors of a cell are the darkest
function matrixOf(run, most) {
  const table = element("table", { className: "matrix" }), body = element("tbody");
  const head = element("tr", {}, element("td"), ...eachClass((digit) => textElement("th", digit, { scope: "col" })));
  head.append(textElement("th", "accuracy", { scope: "col" }));
  table.append(textElement("caption", "Rows: label. Columns: class that the net predicts."));
  table.append(element("thead", {}, head), body);
  for (const actual of eachClass((digit) => digit)) {
    const cells = eachClass((predicted) => rowsOf(run, actual, predicted));
    const row = element("tr", {}, element("th", { scope: "row", textContent: actual }));
    cells.forEach((rows, predicted) => row.append(element("td", {}, cellOf(run, rows, actual, predicted, most))));
    row.append(element("td", { textContent: percent(cells[actual].length / cells.flat().length, 2) }));
    body.append(row);
  }
  moveWithArrows(table, CLASSES);
  return table;
}

function cellOf(run, rows, actual, predicted, most) {
  const right = actual === predicted, label = `label ${actual}, predicted ${predicted}: ${count(rows.length, "digit")}`;
  const cell = element("button", { type: "button", textContent: rows.length || "·", className: right ? "right" : "" });
  cell.setAttribute("aria-label", label);
  cell.style.setProperty("--share", right ? 0 : rows.length / most);
  cell.addEventListener("click", () => {
    showDigits(`${run.name ? `${run.name}, ` : ""}${label}`, rows);
    document.querySelector(".matrix [aria-pressed=true]")?.setAttribute("aria-pressed", false);
    cell.setAttribute("aria-pressed", true);
  });
  return cell;
}

// Show the test digits of `rows` as buttons that put them into the square
function showDigits(title, rows) {
  document.getElementById("digits-title").textContent = title;
  const list = document.getElementById("digits");
  list.replaceChildren(...rows.map((row) => {
    const button = element("button", { type: "button", title: `no. ${row}` }, canvasOf(digitAt(row)));
    button.setAttribute("aria-label", `test digit ${row}, label ${data.labels[row]}`);
    button.addEventListener("click", () => {
      list.querySelector("[aria-current]")?.removeAttribute("aria-current");
      button.setAttribute("aria-current", true);
      start(row);
      document.getElementById("try").scrollIntoView();
      square.focus({ preventScroll: true });
    });
    return button;
  }));
  moveWithArrows(list, () => Math.max(1, Math.floor(list.clientWidth / list.firstChild.offsetWidth)));
}

// One stop of the Tab key for all buttons in `parent`, `columns` in a row: the arrow keys go from one to the next
function moveWithArrows(parent, columns) {
  const buttons = [...parent.querySelectorAll("button")];
  buttons.forEach((button, at) => (button.tabIndex = at ? -1 : 0));
  parent.onkeydown = (event) => {
    const wide = typeof columns === "function" ? columns() : columns;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
    const from = buttons.indexOf(event.target), to = buttons[from + step];
    if (!to) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
}

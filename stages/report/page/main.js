// Put the page together.

let testImages;
const decoded = decodeImages(data.images).then((images) => (testImages = images));
const nets = data.runs.map((run) => run.net && decodeNet(run.net));
const chosen = { net: nets.findLastIndex(Boolean) }; // -1: the page can run none

function shortened(name, most) {
  const letters = [...name], room = Math.max(most, 2);
  return letters.length <= room ? name : `${letters.slice(0, room - 1).join("")}…`;
}

function count(number, thing) {
  return `${number} ${thing}${number === 1 ? "" : "s"}`;
}

function showMatrices() {
  const cells = data.runs.map(rowsOf);
  const errors = cells.flat().flatMap((row, at) => row.map((rows, of) => (of === at % CLASSES ? 0 : rows.length)));
  const most = errors.reduce((a, b) => Math.max(a, b), 1);
  document.getElementById("matrices").replaceChildren(...data.runs.map((run, at) => {
    const scroll = element("div", { className: "scroll" }, matrixOf(run, cells[at], most));
    return element("div", {}, ...(run.name ? [element("h3", { textContent: run.name })] : []), scroll);
  }));
}

// Buttons that show images of all cells: what is misclassified, or what one run alone classifies correctly
function showGroups() {
  document.getElementById("groups").replaceChildren(...data.groups.map(({ title, rows }) => {
    const button = element("button", { type: "button", textContent: `${title} (${rows.length})` });
    button.addEventListener("click", () => showImages(button.textContent, rows));
    return button;
  }));
  const first = data.groups.findIndex(({ rows }) => rows.length);
  document.querySelectorAll("#groups button")[Math.max(first, 0)].click();
}

// A canvas for the maps of each of the first layers of the chosen net
function makeMaps() {
  const net = nets[chosen.net], layers = net ? forward(net, new Uint8Array(VALUES)) : [];
  const convolutions = layers.filter((layer) => layer.height > 1 && layer.name.endsWith("_conv")).slice(0, 2);
  document.getElementById("maps").replaceChildren(...convolutions.map(({ name, channels, height, width }) => {
    const columns = Math.ceil(Math.sqrt(channels * 2.2)), rows = Math.ceil(channels / columns);
    const canvas = element("canvas", { width: columns * (width + 1) - 1, height: rows * (height + 1) - 1 });
    Object.assign(canvas.dataset, { layer: name, columns });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${channels} feature maps of layer ${name}`);
    const caption = `Layer ${name.replace("_", ", ")}: ${count(channels, "map")} of ${height} × ${width}`;
    return element("figure", {}, canvas, element("figcaption", { textContent: caption }));
  }));
}

function choose(number) {
  chosen.net = number;
  makeMaps();
  update();
}

const bars = document.getElementById("bars");
// The room for the names of the classes
const longest = Math.min(14, Math.max(...NAMES.map((name) => name.length)));
document.documentElement.style.setProperty("--names", `${longest + 1}ch`);
if (CLASSES > 12) bars.tabIndex = 0; // it scrolls
bars.append(...NAMES.map((name) => {
  const of = element("span", { title: name }, name);
  return element("li", {}, of, element("span", { className: "bar" }), element("span"));
}));
document.querySelectorAll("[name=net]").forEach((radio, number) => {
  radio.checked = number === chosen.net;
  radio.addEventListener("change", () => choose(number));
});
document.getElementById("previous").addEventListener("click", () => goOn(-1));
document.getElementById("next").addEventListener("click", () => goOn(1));
if (DRAWN) {
  document.getElementById("undo").addEventListener("click", undo);
  document.getElementById("clear").addEventListener("click", () => start(null));
  document.getElementById("erase").addEventListener("click", ({ currentTarget: button }) => {
    drawing.erasing = !drawing.erasing;
    button.setAttribute("aria-pressed", drawing.erasing);
  });
  drawWithPointer();
  drawWithKeys();
}
showMatrices();
showGroups();
showCharts();
choose(chosen.net);
if (!DRAWN) {
  const first = data.groups[0].rows.find((row) => !placeOf || placeOf.has(row)) ?? data.images.rows?.[0] ?? 0;
  decoded.then(() => start(first));
}

// Put the page together.

const digits = decodeDigits(data.digits);
const nets = data.runs.map((run) => run.net && decodeNet(run.net));
const chosen = { net: nets.length - 1 };

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function eachClass(make) {
  return Array.from({ length: CLASSES }, (_, digit) => make(digit));
}

function percent(share, decimals = 1) {
  return `${(100 * share).toFixed(decimals)}%`;
}

function tick(share) {
  return `${Number((100 * share).toPrecision(3))}%`;
}

function count(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}

function short(value) {
  return Math.abs(value) >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)));
}

function named(run, what) {
  return run.name ? `${run.name}: ${what}` : what;
}

function ofEachRun(make) {
  return data.runs.flatMap((run, number) => [make(run, number)].flat());
}

function perClass() {
  const series = ofEachRun((run) => ({
    name: named(run, "error rate, 95 % interval"), kind: "dots",
    points: run.per_class.map((of) => ({
      x: of.class, y: 1 - of.recall, low: 1 - of.upper, high: 1 - of.lower,
      values: { class: of.class, errors: `${of.errors} of ${of.count}`, "error rate": percent(1 - of.recall, 2), interval: `${percent(1 - of.upper, 2)} to ${percent(1 - of.lower, 2)}` },
    })),
  }));
  return chart({ title: "Error rate of each class", series, x: { label: "class", integer: true }, y: { label: "error rate", from: 0, text: tick } });
}

function reliability() {
  const series = ofEachRun((run) => ({
    name: named(run, "15 bins of equally many images, 95 % interval"), kind: "dots",
    points: run.reliability.map((of) => ({
      x: of.confidence, y: of.accuracy, low: of.lower, high: of.upper,
      values: { images: of.count, probability: percent(of.confidence, 2), accuracy: percent(of.accuracy, 2), interval: `${percent(of.lower, 2)} to ${percent(of.upper, 2)}` },
    })),
  }));
  const axes = { x: { label: "mean predicted probability", text: tick }, y: { label: "accuracy", text: tick } };
  return chart({ title: "Accuracy against predicted probability", series, identity: true, ...axes });
}

// The curve of what `value` says of each row: of each epoch, for `parts`, and with the `batches` between them
function training(title, parts, y, batches) {
  const curve = (name, rows, of, color) => ({
    name, color, kind: "line", dashed: data.runs.length > 1 && name.endsWith("training"),
    points: rows.map((row) => ({ x: row.examples, y: of(row), values: { images: row.examples, ...(row.epoch === null ? {} : { epoch: row.epoch }), [y.label]: (y.value ?? y.text)(of(row)) } })),
  });
  const series = ofEachRun((run, number) => {
    const epochs = run.training.filter((row) => row.epoch !== null), between = run.training.filter((row) => row.batch_loss !== null);
    const lines = parts.map(([name, of], part) => curve(named(run, name), epochs, of, data.runs.length > 1 ? number : part));
    return batches ? [curve(named(run, "batches, as trained on"), between, (row) => row.batch_loss, 3), ...lines] : lines;
  });
  return chart({ title, series, x: { label: "training images seen", from: 0 }, y });
}

function classes() {
  const parts = Object.entries({ training: "train", validation: "validation", test: "test" });
  const series = parts.map(([name, key]) => {
    const all = data.classes.reduce((sum, of) => sum + of[key], 0);
    return { name, kind: "bars", points: data.classes.map((of) => ({ x: of.class, y: of[key] / all, values: { class: of.class, images: of[key], share: percent(of[key] / all) } })) };
  });
  return chart({ title: "Share of each class", series, x: { label: "class", integer: true }, y: { label: "share of the images", from: 0, text: tick } });
}

function showCharts() {
  const loss = { label: "loss (nats)", log: true, text: short }, error = { label: "error rate", log: true, text: tick, value: (share) => percent(share, 2) };
  const losses = [["training", (row) => row.train_loss], ["validation", (row) => row.validation_loss]];
  const errors = [["training", (row) => 1 - row.train_accuracy], ["validation", (row) => 1 - row.validation_accuracy]];
  document.getElementById("charts").replaceChildren(
    perClass(), reliability(), training("Loss during training", losses, loss, data.runs.length === 1),
    training("Error rate during training", errors, error));
  document.getElementById("classes")?.append(classes());
}

function showMatrices() {
  const off = data.runs.flatMap((run) => eachClass((actual) => eachClass((predicted) => (actual === predicted ? 0 : rowsOf(run, actual, predicted).length))));
  const most = Math.max(1, ...off.flat());
  document.getElementById("matrices").replaceChildren(...data.runs.map((run) =>
    element("div", {}, ...(run.name ? [element("h3", { textContent: run.name })] : []), matrixOf(run, most))));
}

// Buttons that show digits of all cells: what is misclassified, or what one run alone classifies correctly
function showGroups() {
  document.getElementById("groups").replaceChildren(...data.groups.map(({ title, rows }) => {
    const button = element("button", { type: "button", textContent: `${title} (${rows.length})` });
    button.addEventListener("click", () => showDigits(button.textContent, rows));
    return button;
  }));
  showDigits(`${data.groups[0].title} (${data.groups[0].rows.length})`, data.groups[0].rows);
}

// A canvas for the maps of each of the first layers of the chosen net
function makeMaps() {
  const net = nets[chosen.net], layers = net ? forward(net, new Uint8Array(PIXELS)) : [];
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

document.getElementById("bars").append(...eachClass((digit) =>
  element("li", {}, element("span", { textContent: digit }), element("span", { className: "bar" }), element("span"))));
document.querySelectorAll("[name=net]").forEach((radio) => radio.addEventListener("change", () => choose(Number(radio.value))));
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("clear").addEventListener("click", () => start(null));
document.getElementById("erase").addEventListener("click", ({ currentTarget: button }) => {
  drawing.erasing = !drawing.erasing;
  button.setAttribute("aria-pressed", drawing.erasing);
});
drawWithPointer();
drawWithKeys();
showMatrices();
showGroups();
showCharts();
choose(chosen.net);

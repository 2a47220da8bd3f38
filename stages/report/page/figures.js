// The charts of the page: what plots/*.csv say of each run.

const FEW = CLASSES <= 12; // so few that each has its name at the axis
const CLASS = { label: "class", integer: FEW, text: (place) => shortened(NAMES[place] ?? "", FEW ? 40 / CLASSES : 9) };
const IMAGES = { label: "training images seen", from: 0 };
const LOSS = { label: "loss (nats)", log: true, text: short, value: short };
const ERROR = { label: "error rate", log: true, text: tick, value: (share) => percent(share, 2) };

function showCharts() {
  const single = data.runs.length === 1;
  const losses = { training: (row) => row.train_loss, validation: (row) => row.validation_loss };
  const errors = { training: (row) => 1 - row.train_accuracy, validation: (row) => 1 - row.validation_accuracy };
  if (single) losses["batches, as trained on"] = (row) => row.batch_loss;
  const curves = [curve("Loss during training", losses, LOSS), curve("Error rate during training", errors, ERROR)];
  document.getElementById("charts").replaceChildren(perClass(), reliability(), ...curves);
  if (single) document.getElementById("classes").append(classes());
}

// A series for each run, with a point for each row of its `table`
function ofRuns(table, name, pointOf) {
  return data.runs.map((run) => ({ name: named(run, name), kind: "dots", points: run[table].map(pointOf) }));
}

function named(run, what) {
  return run.name ? `${run.name}: ${what}` : what;
}

function between(low, high) {
  return `${percent(low, 2)} to ${percent(high, 2)}`;
}

function perClass() {
  const series = ofRuns("per_class", "error rate, 95% interval", (row) => {
    const { class: place, count, errors, recall, lower, upper } = row;
    const values = { class: NAMES[place], errors: `${errors} of ${count}`, "error rate": percent(1 - recall, 2) };
    const interval = between(1 - upper, 1 - lower);
    return { x: place, y: 1 - recall, low: 1 - upper, high: 1 - lower, values: { ...values, interval } };
  });
  const y = { label: "error rate", from: 0, text: tick };
  return chart({ title: "Error rate of each class", series, x: CLASS, y });
}

function reliability() {
  const series = ofRuns("reliability", "bins of equally many images, 95% interval", (bin) => {
    const values = { images: bin.count, probability: percent(bin.confidence, 2), accuracy: percent(bin.accuracy, 2) };
    const interval = between(bin.lower, bin.upper);
    return { x: bin.confidence, y: bin.accuracy, low: bin.lower, high: bin.upper, values: { ...values, interval } };
  });
  const x = { label: "mean predicted probability", text: tick }, y = { label: "accuracy", text: tick };
  return chart({ title: "Accuracy against predicted probability", series, x, y, identity: "accuracy = probability" });
}

// What each of `parts`, {name: function of a row}, is during the training of each run
function curve(title, parts, y) {
  const series = data.runs.flatMap((run, number) => Object.entries(parts).map(([name, of], part) => {
    const rows = run.training.filter((row) => Number.isFinite(of(row)) && (row.epoch !== null) === (part < 2));
    const points = rows.map((row) => {
      const epoch = row.epoch === null ? {} : { epoch: row.epoch };
      return { x: row.examples, y: of(row), values: { images: row.examples, ...epoch, [y.label]: y.value(of(row)) } };
    });
    const two = data.runs.length > 1;
    return { name: named(run, name), kind: "line", points, color: two ? number : [0, 1, 3][part], dashed: two && !part };
  }));
  return chart({ title, series, x: IMAGES, y });
}

function classes() {
  const series = Object.entries({ training: "train", validation: "validation", test: "test" }).map(([name, part]) => {
    const all = data.classes.reduce((sum, row) => sum + row[part], 0);
    const points = data.classes.map(({ class: place, [part]: images }) => {
      return { x: place, y: images / all, values: { class: NAMES[place], images, share: percent(images / all, 2) } };
    });
    return { name, kind: "bars", points };
  });
  const y = { label: "share of the images", from: 0, text: tick };
  return chart({ title: "Share of each class", series, x: CLASS, y });
}

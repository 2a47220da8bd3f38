// Charts, drawn as SVG from the numbers in the page; their values are under the pointer, and in a table.

const AREA = { width: 440, height: 290, left: 70, right: 26, top: 12, bottom: 46 };

// A figure of `series`: [{name, kind: "line" | "dots" | "bars" | "spread", points: [{x, y, low, high, values}]}, …], with
// `values` as {name: text}; `x` and `y`: {label, text, log, from, to, integer}; `identity` names the line y = x.
// From `low` to `high` is a band around a line and around a mean of kind "spread", and an interval of a dot.
function chart({ title, x, y, series, identity }) {
  const points = series.flatMap((of) => of.points);
  const across = scaleOf(x, points.map((point) => point.x), AREA.left, AREA.width - AREA.right);
  const heights = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  const down = scaleOf(y, heights, AREA.height - AREA.bottom, AREA.top);
  const label = `${title}; values in the table below`;
  const drawn = svg("svg", { viewBox: `0 0 ${AREA.width} ${AREA.height}`, role: "img", "aria-label": label });
  drawAxes(drawn, across, down, x, y);
  const ends = [Math.max(across.from, down.from), Math.min(across.to, down.to)];
  if (identity) drawn.append(svg("path", { class: "identity", d: path(ends.map((at) => [across(at), down(at)])) }));
  const marks = series.flatMap((of, number) => drawSeries(drawn, of, number, series.length, across, down));
  const values = element("output", { className: "values", textContent: "Point at the chart, or tap it, to see its values." });
  valuesUnderPointer(drawn, marks, values);
  const keys = series.map((of, number) => element("span", { className: classOf("key", of, number) }, of.name));
  if (identity) keys.push(element("span", { className: "key line dashed s3" }, identity));
  const legend = element("p", { className: "legend" }, ...keys), caption = element("figcaption", {}, title);
  return element("figure", { className: "chart" }, caption, legend, drawn, values, tableOf(title, series));
}

// A function from values to places, with its ends and ticks
function scaleOf({ log, from, to, integer }, values, start, end) {
  const of = log ? Math.log10 : (value) => value;
  const finite = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  const low = from ?? Math.min(...finite), high = to ?? Math.max(...finite, from ?? -Infinity);
  const room = (of(high) - of(low)) * 0.04 || 1, zero = log && values.includes(0); // no error: at the axis
  const [least, top] = [from === undefined ? of(low) - room : of(low), to === undefined ? of(high) + room : of(high)];
  const bottom = zero ? least - 0.2 * (top - least) : least;
  const share = (value) => (log && value <= 0 ? 0 : (of(value) - bottom) / (top - bottom));
  const place = (value) => start + share(value) * (end - start);
  const ticks = low === high ? [low] : log ? decades(least, top) : steps(least, top, integer ? 1 : undefined);
  return Object.assign(place, { from: low, to: high, ticks: zero ? [0, ...ticks] : ticks });
}

function steps(bottom, top, given) {
  const rough = (top - bottom) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = given ?? power * [1, 2, 5, 10].find((by) => by * power >= rough);
  const first = Math.ceil(bottom / step - 1e-9);
  return Array.from({ length: Math.floor(top / step + 1e-9) - first + 1 }, (_, at) => (first + at) * step);
}

function decades(bottom, top) {
  const by = top - bottom < 1.3 ? [1, 2, 5] : top - bottom < 2.5 ? [1, 3] : [1], ticks = [];
  for (let power = Math.floor(bottom); power <= top; power++) by.forEach((one) => ticks.push(one * 10 ** power));
  return ticks.filter((tick) => Math.log10(tick) >= bottom && Math.log10(tick) <= top);
}

function drawAxes(drawn, across, down, x, y) {
  const { width, height, left, right, top, bottom } = AREA;
  for (const tick of down.ticks) {
    drawn.append(svg("path", { class: "grid", d: path([[left, down(tick)], [width - right, down(tick)]]) }));
    drawn.append(svg("text", { x: left - 7, y: down(tick) + 4, "text-anchor": "end" }, (y.text ?? short)(tick)));
  }
  for (const tick of across.ticks) {
    const place = { x: across(tick), y: height - bottom + 18, "text-anchor": "middle" };
    drawn.append(svg("text", place, (x.text ?? short)(tick)));
  }
  drawn.append(svg("path", { class: "axis", d: path([[left, height - bottom], [width - right, height - bottom]]) }));
  const middle = (top + height - bottom) / 2, upright = `translate(14 ${middle}) rotate(-90)`;
  drawn.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, x.label));
  drawn.append(svg("text", { transform: upright, "text-anchor": "middle" }, y.label));
}

// Draw the `number`th of `count` series; return its marks: [{x, y, text}, …]
function drawSeries(drawn, of, number, count, across, down) {
  const { name, kind, points } = of;
  const shown = points.filter((point) => Number.isFinite(down(point.y)));
  const group = svg("g", { class: classOf("series", of, number) });
  const places = shown.map(({ x, y }) => [across(x), down(y)]);
  drawn.append(group);
  if (kind === "line") {
    const [low, high] = ["low", "high"].map((end) => shown.map((of) => [across(of.x), down(of[end] ?? of.y)]));
    if (shown.some((of) => of.low !== undefined)) {
      group.append(svg("path", { class: "band", d: path([...low, ...high.reverse()]) }));
    }
    group.append(svg("path", { class: "line", d: path(places) }));
  }
  return shown.map((point) => {
    const wide = Math.min(22, 0.8 * Math.abs(across(1) - across(0))) / count; // across(1): the next class
    const apart = { line: 0, dots: 6, bars: 1.05 * wide, spread: 0 }[kind];
    const x = across(point.x) + (number - (count - 1) / 2) * apart, y = down(point.y);
    const ends = [point.low ?? point.y, point.high ?? point.y].map((end) => [x, down(end)]);
    if (kind === "bars") group.append(svg("rect", { x: x - wide / 2, y, width: wide, height: down(0) - y }));
    else if (kind === "spread" && point.low !== undefined) group.append(...drawSpread(x, y, ends, count));
    else if (shown.length < 40) group.append(svg("circle", { cx: x, cy: y, r: 3.5 }));
    if (kind === "dots") group.append(svg("path", { class: "interval", d: path(ends) }));
    return { x, y, text: [name, ...Object.entries(point.values).map((entry) => entry.join(" "))].join(", ") };
  });
}

// A mean at `x` and `y`, one of `count` side by side, with the band between `ends`
function drawSpread(x, y, [[, low], [, high]], count) {
  const half = Math.min(18, 120 / count);
  const band = svg("rect", { class: "band", x: x - half, y: high, width: 2 * half, height: low - high });
  return [band, svg("path", { class: "line", d: path([[x - half, y], [x + half, y]]) })];
}

// Say in `values` what the mark nearest to the pointer says, and ring it
function valuesUnderPointer(drawn, marks, values) {
  const ring = svg("circle", { class: "ring", r: 7, visibility: "hidden" });
  drawn.append(ring);
  const show = (event) => {
    const box = drawn.getBoundingClientRect(), scale = AREA.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const away = (mark) => Math.hypot(mark.x - x, mark.y - y);
    const nearest = marks.reduce((best, mark) => (away(mark) < away(best) ? mark : best));
    values.textContent = nearest.text;
    const place = { cx: nearest.x, cy: nearest.y, visibility: "visible" };
    for (const [key, value] of Object.entries(place)) ring.setAttribute(key, value);
  };
  drawn.addEventListener("pointerdown", show); // a finger's tap is no move
  drawn.addEventListener("pointermove", show);
}

function classOf(what, { kind, color, dashed }, number) {
  return `${what} s${color ?? number} ${kind}${dashed ? " dashed" : ""}`;
}

function tableOf(title, series) {
  const names = ["series", ...new Set(series.flatMap((of) => of.points.flatMap((point) => Object.keys(point.values))))];
  const rowOf = (cells, kind) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell ?? "")));
  const rows = series.flatMap((of) => of.points.map(({ values }) => ({ series: of.name, ...values })));
  const head = element("thead", {}, rowOf(names, "th"));
  const body = element("tbody", {}, ...rows.map((row) => rowOf(names.map((name) => row[name]), "td")));
  const table = element("table", {}, element("caption", {}, title), head, body);
  const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
  return element("details", {}, element("summary", {}, "Values as a table"), scroll);
}

function path(points) {
  return points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

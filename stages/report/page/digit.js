// From ink on a square to a digit as MNIST has it: as tools/ink.py, tools/predict.py and stages/download/digit.py do.

const INK = 0.35 * 255; // what is fainter is paper
const DIRT = 0.2; // of the size of the largest mark: what is smaller is no part of a digit
const WIDEST = 2; // times its height
const CLEAR = 0.8; // the least probability of a clear digit

const SIDE = 28; // pixels, of MNIST's images

// What stands in the square, in words: a class, or what is no clear digit
function answerOf(probabilities, { height, width, unchanged }) {
  const likeliest = probabilities.indexOf(Math.max(...probabilities)), share = percent(probabilities[likeliest]);
  if (CENTRED && width > WIDEST * height) return `No clear ${data.noun}: too wide.`;
  const clear = !CENTRED || unchanged || probabilities[likeliest] >= CLEAR; // a test image counts as the matrix counts it
  return clear ? `${NAMES[likeliest]}, with ${share}.` : `No clear ${data.noun}: most like ${NAMES[likeliest]}, ${share}.`;
}

// The groups of marks in `ink` (side x side, 0..255 each), each a digit of its own: [{ink, height, width}, …]
function findDigits(ink, side) {
  const { labels, marks } = findMarks(ink, side);
  const most = Math.max(...marks.map(sizeOf)), groups = [];
  for (const mark of marks.filter((mark) => sizeOf(mark) > DIRT * most)) {
    const near = groups.filter((group) => group.some((other) => belong(mark, other)));
    const joined = [mark, ...near.flat()];
    groups.splice(0, groups.length, ...groups.filter((group) => !near.includes(group)), joined);
  }
  return groups.map((group) => cut(ink, side, labels, group));
}

// A mark is ink whose pixels touch; `labels` has for each pixel the number of its mark, from 1, or 0 for paper
function findMarks(ink, side) {
  const labels = new Int32Array(ink.length), marks = [], open = [];
  for (let start = 0; start < ink.length; start++) {
    if (ink[start] <= INK || labels[start]) continue;
    const mark = { label: marks.length + 1, top: side, left: side, bottom: 0, right: 0 };
    marks.push(mark);
    open.push(start);
    labels[start] = mark.label;
    while (open.length) {
      const at = open.pop(), y = Math.floor(at / side), x = at % side;
      mark.top = Math.min(mark.top, y);
      mark.bottom = Math.max(mark.bottom, y + 1);
      mark.left = Math.min(mark.left, x);
      mark.right = Math.max(mark.right, x + 1);
      for (let row = Math.max(0, y - 1); row <= Math.min(side - 1, y + 1); row++) {
        for (let column = Math.max(0, x - 1); column <= Math.min(side - 1, x + 1); column++) {
          const near = row * side + column;
          if (ink[near] > INK && !labels[near]) {
            labels[near] = mark.label;
            open.push(near);
          }
        }
      }
    }
  }
  return { labels, marks };
}

// Whether two marks make one digit: one over the other, or all but touching
function belong(one, other) {
  const across = Math.max(one.left - other.right, other.left - one.right); // below 0 where they overlap
  const down = Math.max(one.top - other.bottom, other.top - one.bottom);
  const narrower = Math.min(one.right - one.left, other.right - other.left);
  const larger = Math.max(sizeOf(one), sizeOf(other));
  return (across < -0.5 * narrower && down < 0.25 * larger) || Math.max(across, down) < 0.05 * larger;
}

function sizeOf({ top, left, bottom, right }) {
  return Math.max(bottom - top, right - left);
}

function cut(ink, side, labels, group) {
  const [top, left] = ["top", "left"].map((edge) => Math.min(...group.map((mark) => mark[edge])));
  const [bottom, right] = ["bottom", "right"].map((edge) => Math.max(...group.map((mark) => mark[edge])));
  const height = bottom - top, width = right - left, values = new Uint8Array(height * width);
  const own = group.map((mark) => mark.label);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, at = (top + y) * side + left; x < width; x++, at++, to++) {
      if (labels[at] && own.includes(labels[at])) values[to] = ink[at];
    }
  }
  return { ink: values, height, width };
}

// `ink` (height x width, the digit's box) as 28 x 28 bytes: scaled into 20 x 20, its centre of mass in the middle
function asMnist({ ink, height, width }) {
  const longest = Math.max(height, width), most = ink.reduce((a, b) => Math.max(a, b));
  const full = ink.map((value) => value * (255 / most));
  const [high, wide] = [height, width].map((side) => Math.max(1, Math.floor((side * 20) / longest)));
  const across = resizeRows(full, height, width, wide);
  const scaled = transpose(resizeRows(transpose(across, height, wide), wide, height, high), wide, high);
  let mass = 0, down = 0, right = 0;
  scaled.forEach((value, at) => {
    mass += value;
    down += value * Math.floor(at / wide);
    right += value * (at % wide);
  });
  const place = (moment, size) => Math.min(SIDE - size, Math.max(0, roundToEven(13.5 - moment / mass)));
  const top = place(down, high), left = place(right, wide), image = new Uint8Array(SIDE * SIDE);
  scaled.forEach((value, at) => (image[(top + Math.floor(at / wide)) * SIDE + left + (at % wide)] = value));
  const brightest = Math.max(...image);
  return image.map((value) => value * (255 / brightest));
}

function roundToEven(value) {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

function transpose(values, height, width) {
  return values.map((_, at) => values[(at % height) * width + Math.floor(at / height)]);
}

// Each of the `rows` of bytes, `from` wide, resized to the width `to`: bicubic, in whole numbers, as Pillow does it
function resizeRows(values, rows, from, to) {
  const scale = from / to, stretch = Math.max(1, scale), resized = new Uint8ClampedArray(rows * to);
  for (let x = 0; x < to; x++) {
    const centre = (x + 0.5) * scale;
    const start = Math.max(0, Math.floor(centre - 2 * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + 2 * stretch + 0.5));
    const away = (at) => (start + at - centre + 0.5) * (1 / stretch);
    const weights = Array.from({ length: end - start }, (_, at) => bicubic(away(at)));
    const sum = weights.reduce((a, b) => a + b);
    const whole = weights.map((weight) => Math.trunc((weight / sum) * 2 ** 22 + 0.5 * Math.sign(weight)));
    for (let row = 0; row < rows; row++) {
      let total = 2 ** 21;
      for (let at = 0, pixel = row * from + start; at < whole.length; at++) total += whole[at] * values[pixel + at];
      resized[row * to + x] = Math.floor(total / 2 ** 22);
    }
  }
  return resized;
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

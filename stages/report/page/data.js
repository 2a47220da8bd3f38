// What the page holds: numbers as JSON, weights and test images in base64.

const NAMES = data.names, CLASSES = NAMES.length, [CHANNELS, HIGH, WIDE] = data.shape;
const PIXELS = HIGH * WIDE, VALUES = CHANNELS * PIXELS;
const ON_BLACK = data.drawing !== "none", CENTRED = data.drawing === "centred"; // as MNIST's digits are
const DRAWN = ON_BLACK && data.runs.some((run) => run.net);
const labels = numbers(data.labels, Uint8Array);
data.runs.forEach((run) => (run.predicted = numbers(run.predicted, Uint8Array)));

// The numbers, of the typed array `Kind`, in `base64`
function numbers(base64, Kind) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new Kind(bytes.buffer);
}

// Decode what rans.py encoded: `put(at, symbol)` is called for each of `steps` symbols of each lane, all lanes abreast.
// `contextOf(step)(at)` is the symbol's context; it may look at what was put before in the same lane.
// It pauses every 40 ms, so that one can draw meanwhile.
async function decode(coded, steps, contextOf, put) {
  const { lanes, symbols } = coded, states = new Uint32Array(lanes);
  const frequency = numbers(coded.frequencies, Uint16Array), stream = numbers(coded.stream, Uint16Array);
  for (let lane = 0; lane < lanes; lane++) states[lane] = stream[lane] + 65536 * stream[lanes + lane];
  let next = 2 * lanes;
  for (let step = 0, due = performance.now() + 40; step < steps; step++) {
    const contextAt = contextOf(step);
    for (let lane = 0; lane < lanes; lane++) {
      const at = lane * steps + step, slot = states[lane] & 4095;
      let of = contextAt(at) * symbols, start = 0, symbol = 0;
      for (; slot >= start + frequency[of]; symbol++) start += frequency[of++];
      const state = frequency[of] * (states[lane] >>> 12) + slot - start;
      states[lane] = state < 65536 ? state * 65536 + stream[next++] : state;
      put(at, symbol);
    }
    if (performance.now() < due) continue;
    await new Promise((later) => setTimeout(later));
    due = performance.now() + 40;
  }
}

// The images in the page, one after the other, colour after colour. In few greys, but for those that are `exact`.
async function decodeImages({ greys, images, exact, rest, half, aLane }) {
  const steps = aLane * VALUES, levels = new Uint8Array(images.lanes * steps), values = new Uint8Array(levels.length);
  await decode(images, steps, (step) => contextIn(values, step), (at, level) => {
    levels[at] = level;
    values[at] = Math.floor((level * 255) / (greys - 1));
  });
  const shown = values.slice(), place = (at) => (exact[Math.floor(at / VALUES)] ?? 0) * VALUES + (at % VALUES);
  await decode(rest, steps, () => (at) => levels[place(at)], (at, difference) => {
    values[place(at)] = shown[place(at)] + difference - half;
  });
  return values;
}

// What is known of a lane's pixel number `step` from its neighbours, as `contexts` of embed.py has it
function contextIn(values, step) {
  const column = step % WIDE, row = Math.floor(step / WIDE) % HIGH;
  const coarse = (value) => (value + 31) >> 5, corner = (value) => (value > 0) + (value >= 200);
  return (at) => {
    const left = column ? values[at - 1] : 0, above = row ? values[at - WIDE] : 0;
    const aboveLeft = row && column ? values[at - WIDE - 1] : 0;
    const aboveRight = row && column < WIDE - 1 ? values[at - WIDE + 1] : 0;
    return ((coarse(left) * 9 + coarse(above)) * 3 + corner(aboveLeft)) * 3 + corner(aboveRight);
  };
}

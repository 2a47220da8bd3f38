"use strict";

// What the page holds: numbers as JSON, weights and test digits in base64.

const data = JSON.parse(document.getElementById("data").textContent);
const CLASSES = 10, SIDE = 28, PIXELS = SIDE * SIDE;

// The numbers, of the typed array `Kind`, in `base64`
function numbers(base64, Kind) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new Kind(bytes.buffer);
}

// Decode what rans.py encoded: `put(at, symbol)` is called for each of `steps` symbols of each lane, all lanes abreast.
// `contextOf(step)(at)` is the symbol's context; it may look at what was put before in the same lane.
function decode(coded, steps, contextOf, put) {
  const { lanes, symbols } = coded, states = new Uint32Array(lanes);
  const frequency = numbers(coded.frequencies, Uint16Array), stream = numbers(coded.stream, Uint16Array);
  for (let lane = 0; lane < lanes; lane++) states[lane] = stream[lane] + 65536 * stream[lanes + lane];
  let next = 2 * lanes;
  for (let step = 0; step < steps; step++) {
    const contextAt = contextOf(step);
    for (let lane = 0; lane < lanes; lane++) {
      const at = lane * steps + step, slot = states[lane] & 4095;
      let of = contextAt(at) * symbols, start = 0, symbol = 0;
      for (; slot >= start + frequency[of]; symbol++) start += frequency[of++];
      const state = frequency[of] * (states[lane] >>> 12) + slot - start;
      states[lane] = state < 65536 ? state * 65536 + stream[next++] : state;
      put(at, symbol);
    }
  }
}

// All test digits, one after the other: 28 x 28 bytes each, 0 is paper. In few greys, but for those that are `exact`.
function decodeDigits({ greys, images, exact, rest, half, aLane }) {
  const steps = aLane * PIXELS, levels = new Uint8Array(images.lanes * steps), digits = new Uint8Array(levels.length);
  decode(images, steps, (step) => contextIn(digits, step), (at, level) => {
    levels[at] = level;
    digits[at] = Math.floor((level * 255) / (greys - 1));
  });
  const shown = digits.slice(), place = (at) => (exact[Math.floor(at / PIXELS)] ?? 0) * PIXELS + (at % PIXELS);
  decode(rest, steps, () => (at) => levels[place(at)], (at, difference) => {
    digits[place(at)] = shown[place(at)] + difference - half;
  });
  return digits;
}

// What is known of a lane's pixel number `step` from its neighbours, as `contexts` of embed.py has it
function contextIn(digits, step) {
  const column = step % SIDE, row = Math.floor(step / SIDE) % SIDE;
  const coarse = (value) => (value + 31) >> 5, corner = (value) => (value > 0) + (value >= 200);
  return (at) => {
    const left = column ? digits[at - 1] : 0, above = row ? digits[at - SIDE] : 0;
    const aboveLeft = row && column ? digits[at - SIDE - 1] : 0;
    const aboveRight = row && column < SIDE - 1 ? digits[at - SIDE + 1] : 0;
    return ((coarse(left) * 9 + coarse(above)) * 3 + corner(aboveLeft)) * 3 + corner(aboveRight);
  };
}

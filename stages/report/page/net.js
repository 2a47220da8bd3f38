// The net, layer by layer: the layers that a recipe can have, as PyTorch computes them for one image.

// What each layer makes of `pixels` (channels x height x width bytes): [{name, channels, height, width, values}, …], the logits last
function forward(net, pixels) {
  const values = Float32Array.from(pixels, (pixel) => pixel / 255);
  let made = { channels: CHANNELS, height: HIGH, width: WIDE, values };
  return net.map((layer) => {
    made = { ...made, ...LAYERS[layer.kind](made, layer), name: layer.name };
    return made;
  });
}

function softmax(logits) {
  const most = Math.max(...logits), shares = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = shares.reduce((total, share) => total + share);
  return shares.map((share) => share / sum);
}

// `net` with its numbers decoded: weights of 16 bits are in units of their output channel
function decodeNet({ exact, layers }) {
  return layers.map((layer) => {
    const of = { ...layer };
    for (const key of ["bias", "scale", "shift", "units"]) if (key in of) of[key] = numbers(of[key], Float32Array);
    if ("weights" in of) {
      const values = numbers(of.weights, exact ? Float32Array : Int16Array), inputs = values.length / of.bias.length;
      of.weights = exact ? values : Float32Array.from(values, (value, at) => value * of.units[Math.floor(at / inputs)]);
    }
    return of;
  });
}

const LAYERS = {
  normalize: ({ values }, { mean, std }) => ({ values: values.map((pixel) => (pixel - mean) / std) }),
  conv: convolve,
  linear: ({ values }, { weights, bias }) => {
    const inputs = values.length, product = (out) => (sum, value, at) => sum + value * weights[out * inputs + at];
    const outputs = bias.map((sum, out) => values.reduce(product(out), sum));
    return { channels: bias.length, height: 1, width: 1, values: outputs };
  },
  batch_norm: ({ height, width, values }, { scale, shift }) => {
    const channel = (at) => Math.floor(at / (height * width));
    return { values: values.map((value, at) => value * scale[channel(at)] + shift[channel(at)]) };
  },
  relu: ({ values }) => ({ values: values.map((value) => Math.max(0, value)) }),
  max_pool: maxPool,
  dropout: () => ({}), // does something in training only
  dropout_2d: () => ({}),
  logits: () => ({}),
};

function convolve(input, { weights, bias, out_channels: channels, kernel_size: kernel, stride, padding }) {
  const padded = pad(input, padding);
  const [height, width] = [padded.height, padded.width].map((side) => Math.floor((side - kernel) / stride) + 1);
  const values = new Float32Array(channels * height * width);
  for (let out = 0, weight = 0; out < channels; out++) {
    const first = out * height * width;
    values.fill(bias[out], first, first + height * width);
    for (let channel = 0; channel < input.channels; channel++) {
      for (let y = 0; y < kernel; y++) {
        for (let x = 0; x < kernel; x++, weight++) {
          const by = weights[weight];
          for (let row = 0; row < height; row++) {
            let from = (channel * padded.height + row * stride + y) * padded.width + x, to = first + row * width;
            for (const end = to + width; to < end; to++, from += stride) values[to] += by * padded.values[from];
          }
        }
      }
    }
  }
  return { channels, height, width, values };
}

function pad({ channels, height, width, values }, by) {
  const wide = width + 2 * by, high = height + 2 * by, padded = new Float32Array(channels * high * wide);
  for (let row = 0; row < channels * height; row++) {
    const to = (Math.floor(row / height) * high + (row % height) + by) * wide + by;
    padded.set(values.subarray(row * width, (row + 1) * width), to);
  }
  return { height: high, width: wide, values: padded };
}

function maxPool({ channels, height: high, width: wide, values: from }, { kernel_size: kernel }) {
  const height = Math.floor(high / kernel), width = Math.floor(wide / kernel);
  const values = new Float32Array(channels * height * width).fill(-Infinity);
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < height * kernel; y++) {
      for (let x = 0; x < width * kernel; x++) {
        const to = (channel * height + Math.floor(y / kernel)) * width + Math.floor(x / kernel);
        values[to] = Math.max(values[to], from[(channel * high + y) * wide + x]);
      }
    }
  }
  return { height, width, values };
}

"""What the layers compute besides products; cross-entropy; the optimizers. Each value is one fixed chain of operations.

Values are channels last: `rows` pixels of all images, one after the other, each with its `columns`, the channels. A
loop over columns takes as many as a vector has lanes. Sums over pixels are float64 chains in the order of the pixels.
"""

from collections.abc import Iterator
from typing import Any

from stages.net.kernels.code import Code, Pointer, Value
from stages.net.kernels.compiler import kernel
from stages.net.kernels.functions import log_of_sum, power_of_e


@kernel("f32* x, f32* y, i64 a, i64 b, i64 c, i64 d, i64 xa, i64 xb, i64 xc, i64 xd, i64 ya, i64 yb, i64 yc, i64 yd")
def copy(code: Code, x: Pointer, y: Pointer, *sizes: Value) -> None:
    """Copy an array of `a` x `b` x `c` x `d` numbers with the strides xa to xd to one with the strides ya to yd."""
    a, b, c, d, xa, xb, xc, xd, ya, yb, yc, yd = sizes
    with code.loop(a) as i, code.loop(b) as j, code.loop(c) as k, code.loop(d) as m:
        y[i * ya + j * yb + k * yc + m * yd] = x[i * xa + j * xb + k * xc + m * xd]


@kernel("u8* images, i64* places, f32* y, i64 count, i64 height, i64 width, i64 channels, i64 most")
def pixels(code: Code, *arguments: Any) -> None:
    """y (count, height, width, channels) = the images (of this shape, bytes) that the places (count, 3) name / 255.

    A place is the number of an image, and how far its window begins down and to the right in the image with a border of
    `most` pixels, which are 0.
    """
    images, places, y, count, height, width, channels, most = arguments
    line = width * channels
    with code.loop(count) as n:
        image = images + places[n * 3] * height * line
        down, right = places[n * 3 + 1] - most, (places[n * 3 + 2] - most) * channels
        with code.loop(height) as v:
            row = v + down
            there = row.compare(">", -1) & row.compare("<", height)
            with code.loop(line) as u:
                inside = there & (u + right).compare(">", -1) & (u + right).compare("<", line)
                byte = image[inside.choose(row * line + u + right, 0)]
                y[(n * height + v) * line + u] = inside.choose(byte.to("f32") / 255.0, 0.0)


@kernel("f32* x, f32* y, i64 count, f32 mean, f32 std")
def normalize(code: Code, x: Pointer, y: Pointer, count: Value, mean: Value, std: Value) -> None:
    """y = (x - mean) / std."""
    for i, lanes in code.columns(count):
        (y + i).store(((x + i).load(lanes) - mean.spread(lanes)) / std.spread(lanes), lanes)


@kernel("f32* x, f32* y, i64 count")
def relu(code: Code, x: Pointer, y: Pointer, count: Value) -> None:
    """y = x, or 0 where x is negative."""
    for i, lanes in code.columns(count):
        value = (x + i).load(lanes)
        zero = code.number(0.0, "f32", lanes)
        (y + i).store(value.compare("<", 0.0).choose(zero, value), lanes)


@kernel("f32* x, f32* dy, f32* dx, i64 count")
def relu_gradient(code: Code, x: Pointer, dy: Pointer, dx: Pointer, count: Value) -> None:
    """dx = dy where x is above 0, and 0 elsewhere."""
    for i, lanes in code.columns(count):
        (dx + i).store((x + i).load(lanes).compare(">", 0.0).choose((dy + i).load(lanes), 0.0), lanes)


@kernel("f32* x, f32* factors, f32* y, i64 count")
def scale(code: Code, x: Pointer, factors: Pointer, y: Pointer, count: Value) -> None:
    """y = x factors."""
    for i, lanes in code.columns(count):
        (y + i).store((x + i).load(lanes) * (factors + i).load(lanes), lanes)


@kernel("f32* x, f32* y, f32* which, i64 images, i64 height, i64 width, i64 down, i64 across, i64 channels, i64 kernel")
def max_pool(code: Code, *arguments: Any) -> None:
    """y (images, down, across, channels) = the largest of `kernel` x `kernel` values of x (images, height, width,
    channels), and which: the first of equals, counted row by row. NaN counts as the largest."""
    x, y, which, images, height, width, down, across, channels, kernel = arguments
    with code.loop(images) as n, code.loop(down) as v, code.loop(across) as u:
        corner = x + ((n * height + v * kernel) * width + u * kernel) * channels
        at = ((n * down + v) * across + u) * channels

        for c, lanes in code.columns(channels):
            best = code.variable((corner + c).load(lanes))
            place = code.variable(code.number(0.0, "f32", lanes))

            for i, j in square(code, kernel):
                value = (corner + (i * width + j) * channels + c).load(lanes)
                better = value.compare(">", best.load()) | value.is_nan()
                best.store(better.choose(value, best.load()))
                place.store(better.choose((i * kernel + j).to("f32").spread(lanes), place.load()))
            (y + at + c).store(best.load(), lanes)
            (which + at + c).store(place.load(), lanes)


@kernel(
    "f32* dy, f32* which, f32* dx, i64 images, i64 height, i64 width, i64 down, i64 across, i64 channels, i64 kernel"
)
def max_pool_gradient(code: Code, *arguments: Any) -> None:
    """dx = dy where `max_pool` took the value from, and 0 elsewhere; what no window covers is not written."""
    dy, which, dx, images, height, width, down, across, channels, kernel = arguments
    with code.loop(images) as n, code.loop(down) as v, code.loop(across) as u:
        corner = dx + ((n * height + v * kernel) * width + u * kernel) * channels
        at = ((n * down + v) * across + u) * channels

        for c, lanes in code.columns(channels):
            value, place = (dy + at + c).load(lanes), (which + at + c).load(lanes)

            for i, j in square(code, kernel):
                here = place.compare("==", (i * kernel + j).to("f32").spread(lanes))
                (corner + (i * width + j) * channels + c).store(here.choose(value, 0.0), lanes)


def square(code: Code, kernel: Value) -> Iterator[tuple[Value, Value]]:
    """Yield each place of a square of `kernel` x `kernel`; without loops if it is 2 x 2, as most are."""
    with code.when(kernel.compare("==", 2)):
        for place in range(4):
            yield code.number(place // 2, "i64"), code.number(place % 2, "i64")
    with code.when(kernel.compare("!=", 2)), code.loop(kernel) as i, code.loop(kernel) as j:
        yield i, j


@kernel("f32* x, f32* y, i64 rows, i64 columns")
def column_sums(code: Code, x: Pointer, y: Pointer, rows: Value, columns: Value) -> None:
    """y[c] = the sum of x[0, c], x[1, c], … in float64, rounded once."""
    for c, lanes in code.columns(columns):
        total = code.variable(code.number(0.0, "f64", lanes))
        with code.loop(rows) as r:
            total.store(total.load() + (x + r * columns + c).load(lanes).to("f64"))
        (y + c).store(total.load().to("f32"), lanes)


@kernel(
    "f32* x, f32* y, f32* weight, f32* bias, f32* running_mean, f32* running_variance, i64* batches, f64* mean,"
    "f64* inverse, f64 momentum, f64 epsilon, i64 rows, i64 columns"
)
def batch_norm(code: Code, *arguments: Any) -> None:
    """y = x scale + shift, with the mean and variance of each column of x (float64). scale = weight inverse, with
    inverse = 1 / sqrt(variance + epsilon), and shift = bias - mean scale are rounded once. mean and inverse are
    written; the running ones move by `momentum` towards mean and variance, the latter with n - 1 for n rows; and
    batches += 1."""
    x, y, weight, bias, running_mean, running_variance, batches, mean, inverse, momentum, epsilon, rows, columns = (
        arguments
    )

    def move(average: Pointer, value: Value, lanes: int) -> None:
        old = average.load(lanes).to("f64") * (1.0 - momentum).spread(lanes)
        average.store(code.fma(value, momentum.spread(lanes), old).to("f32"), lanes)

    batches[0] = batches[0] + 1
    for c, lanes in code.columns(columns):
        count = rows.to("f64").spread(lanes)
        total, squares = (code.variable(code.number(0.0, "f64", lanes)) for _ in range(2))
        with code.loop(rows) as r:
            total.store(total.load() + (x + r * columns + c).load(lanes).to("f64"))
        center = total.load() / count
        with code.loop(rows) as r:
            distance = (x + r * columns + c).load(lanes).to("f64") - center
            squares.store(code.fma(distance, distance, squares.load()))
        variance = squares.load() / count
        (mean + c).store(center, lanes)
        move(running_mean + c, center, lanes)
        move(running_variance + c, squares.load() / (rows - 1).to("f64").spread(lanes), lanes)
        root = 1.0 / code.call("sqrt", variance + epsilon.spread(lanes))
        scale = (weight + c).load(lanes).to("f64") * root
        shift = ((bias + c).load(lanes).to("f64") - center * scale).to("f32")
        scale = scale.to("f32")
        (inverse + c).store(root, lanes)
        with code.loop(rows) as r:
            at = r * columns + c
            (y + at).store(code.fma((x + at).load(lanes), scale, shift), lanes)


@kernel(
    "f32* x, f32* dy, f32* dx, f32* weight, f64* mean, f64* inverse, f32* dweight, f32* dbias, i64 rows, i64 columns"
)
def batch_norm_gradient(code: Code, *arguments: Any) -> None:
    """The gradients of `batch_norm` (Ioffe and Szegedy 2015), with n rows, s = the sum of dy and t = that of
    dy (x - mean), both float64: dbias = s, dweight = t inverse, and dx = dy scale + (x slope + offset), where
    slope = -scale inverse^2 t / n and offset = -scale s / n - slope mean are rounded once."""
    x, dy, dx, weight, mean, inverse, dweight, dbias, rows, columns = arguments

    for c, lanes in code.columns(columns):
        center, root = (mean + c).load(lanes), (inverse + c).load(lanes)
        sums, products = (code.variable(code.number(0.0, "f64", lanes)) for _ in range(2))
        with code.loop(rows) as r:
            at = r * columns + c
            gradient = (dy + at).load(lanes).to("f64")
            sums.store(sums.load() + gradient)
            products.store(code.fma(gradient, (x + at).load(lanes).to("f64") - center, products.load()))
        s, t, count = sums.load(), products.load(), rows.to("f64").spread(lanes)
        (dbias + c).store(s.to("f32"), lanes)
        (dweight + c).store((t * root).to("f32"), lanes)
        scale = (weight + c).load(lanes).to("f64") * root
        slope = -scale * root * root * t / count
        offset = (-scale * s / count - slope * center).to("f32")
        scale, slope = scale.to("f32"), slope.to("f32")
        with code.loop(rows) as r:
            at = r * columns + c
            inner = code.fma((x + at).load(lanes), slope, offset)
            (dx + at).store(code.fma((dy + at).load(lanes), scale, inner), lanes)


@kernel("f32* x, f32* y, f32* weight, f32* bias, f32* mean, f32* variance, f64 epsilon, i64 rows, i64 columns")
def batch_norm_inference(code: Code, *arguments: Any) -> None:
    """y = x scale + shift as in `batch_norm`, with a mean and a variance that are given."""
    x, y, weight, bias, mean, variance, epsilon, rows, columns = arguments

    for c, lanes in code.columns(columns):
        root = 1.0 / code.call("sqrt", (variance + c).load(lanes).to("f64") + epsilon.spread(lanes))
        scale = (weight + c).load(lanes).to("f64") * root
        shift = ((bias + c).load(lanes).to("f64") - (mean + c).load(lanes).to("f64") * scale).to("f32")
        scale = scale.to("f32")
        with code.loop(rows) as r:
            at = r * columns + c
            (y + at).store(code.fma((x + at).load(lanes), scale, shift), lanes)


@kernel("f32* logits, f64* logs, f64* probabilities, i64 rows, i64 classes")
def softmax(code: Code, *arguments: Any) -> None:
    """logs (float64) = logits - the logarithm of the sum over the classes of e^logits, for each row; probabilities
    (float64) = e^logs."""
    logits, logs, probabilities, rows, classes = arguments
    with code.loop(rows) as r:
        row = logits + r * classes
        level = log_of_sum(code, row, classes)
        with code.loop(classes) as c:
            log, at = row[c].to("f64") - level, r * classes + c
            logs[at] = log
            probabilities[at] = power_of_e(code, log)


@kernel("f32* logits, i64* labels, f64* loss, f32* gradient, i64 rows, i64 classes, f64 smoothing, f64 scale")
def cross_entropy(code: Code, *arguments: Any) -> None:
    """loss = -scale times the sum over the rows and classes of target log_softmax(logits); and its gradient,
    scale (softmax - target), all in float64. The target is smoothing / classes, and 1 - smoothing more for the label
    (Szegedy et al. 2016)."""
    logits, labels, loss, gradient, rows, classes, smoothing, scale = arguments
    share, total = smoothing / classes.to("f64"), code.variable(code.number(0.0, "f64"))
    with code.loop(rows) as r:
        row = logits + r * classes
        level = log_of_sum(code, row, classes)
        with code.loop(classes) as c:
            target = share + c.compare("==", labels[r]).choose(1.0 - smoothing, 0.0)
            surprise = level - row[c].to("f64")
            total.store(code.fma(target, surprise, total.load()))
            probability = power_of_e(code, -surprise)
            gradient[r * classes + c] = (scale * (probability - target)).to("f32")
    loss[0] = scale * total.load()


@kernel(
    "f32* parameters, f32* gradients, f32* averages, f32* squares, i64 count, f32 decay, f32 added, f32 beta1,"
    "f32 beta2, f32 size, f32 root, f32 epsilon"
)
def adam(code: Code, *arguments: Any) -> None:
    """One step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), g the gradient, p a parameter:
    g += added p; p *= decay; average += (1 - beta1) (g - average); square += (1 - beta2) (g g - square);
    p -= size average / (sqrt(square) root + epsilon)."""
    parameters, gradients, averages, squares, count, decay, added, beta1, beta2, size, root, epsilon = arguments

    for i, lanes in code.columns(count):
        p, average, square = ((values + i).load(lanes) for values in (parameters, averages, squares))
        g = code.fma(p, added.spread(lanes), (gradients + i).load(lanes))
        average = code.fma(g - average, (1.0 - beta1).spread(lanes), average)
        square = code.fma(g * g - square, (1.0 - beta2).spread(lanes), square)
        under = code.fma(code.call("sqrt", square), root.spread(lanes), epsilon.spread(lanes))
        (averages + i).store(average, lanes)
        (squares + i).store(square, lanes)
        (parameters + i).store(p * decay.spread(lanes) - size.spread(lanes) * average / under, lanes)


@kernel("f32* parameters, f32* gradients, f32* velocities, i64 count, f32 rate, f32 momentum, f32 decay")
def sgd(code: Code, *arguments: Any) -> None:
    """One step of SGD with momentum (Sutskever et al. 2013): velocity = momentum velocity + (g + decay p);
    p -= rate velocity."""
    parameters, gradients, velocities, count, rate, momentum, decay = arguments

    for i, lanes in code.columns(count):
        p = (parameters + i).load(lanes)
        g = code.fma(p, decay.spread(lanes), (gradients + i).load(lanes))
        velocity = code.fma((velocities + i).load(lanes), momentum.spread(lanes), g)
        (velocities + i).store(velocity, lanes)
        (parameters + i).store(p - rate.spread(lanes) * velocity, lanes)

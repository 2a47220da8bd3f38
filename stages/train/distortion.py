"""Training images, distorted: turned, scaled, mirrored, and bent by an elastic distortion, anew in each epoch.

After Simard, Steinkraus and Platt (2003). Each value is one IEEE operation after the other, so the bytes are the same
on every CPU.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stages.net.workers import Workers
from stages.train.recipe import Recipe

NODES = 5  # of the grid of an elastic distortion, along each side
PIECE = 64  # images that a worker distorts at once; more than this leave the processor's cache


def distort(
    images: Tensor, rows: Tensor, recipe: Recipe, random: torch.Generator, workers: Workers, out: Tensor
) -> None:
    """Write to `out` the images of `rows` from `images` (n, H, W[, 3]; bytes), each distorted as `recipe` says.

    What comes from outside of an image is 0. The CPU computes it, also for a GPU.
    """
    cosine, sine = cosine_and_sine(math.radians(recipe.rotate) * evenly(random, len(rows)))
    size = 1 + recipe.scale * evenly(random, len(rows))
    cosine, sine = cosine / size, sine / size  # an image grows if its pixels come from closer to its middle
    mirror = 1 - 2 * recipe.flip * torch.randint(2, (len(rows),), generator=random)
    moves = recipe.elastic * evenly(random, len(rows), 2, NODES, NODES)

    def piece(start: int) -> None:
        of = slice(start, start + PIECE)
        places = sources(cosine[of], sine[of], mirror[of], moves[of], *images.shape[1:3])
        out[rows[of]] = sampled(images[rows[of]].cpu(), *places).to(out.device)

    workers.map(piece, range(0, len(rows), PIECE))


def evenly(random: torch.Generator, *shape: int) -> Tensor:
    """Return numbers (*shape) from -1 to 1, each as probable as the others."""
    return 2 * torch.rand(shape, generator=random) - 1


def cosine_and_sine(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of `angles`, -pi to pi, by Taylor series: those of libraries differ by CPU."""
    angles = angles.double()
    sums, term = [torch.zeros_like(angles), torch.zeros_like(angles)], torch.ones_like(angles)
    for power in range(28):  # pi to the power of 28, divided by 28!, is 3e-16
        sums[power % 2] += term if power % 4 < 2 else -term
        term = term * angles / (power + 1)
    return sums[0].float(), sums[1].float()


def sources(
    cosine: Tensor, sine: Tensor, mirror: Tensor, moves: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return from which row and column (n, H, W) of its image each pixel comes.

    The place from the middle is turned and scaled by `cosine` and `sine` (n), its column multiplied by `mirror` (n),
    and moved by as much as `moves` (n, 2, NODES, NODES), in pixels, are there, between the nodes of a grid.
    """
    below = torch.arange(height)[:, None] - (height - 1) / 2  # (H, 1)
    right = mirror[:, None, None] * (torch.arange(width) - (width - 1) / 2)  # (n, 1, W)
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    down, across = enlarged(enlarged(moves, height, 2), width, 3).unbind(1)  # (n, H, W)
    rows = cosine * below - sine * right + (height - 1) / 2 + down
    return rows, sine * below + cosine * right + (width - 1) / 2 + across


def enlarged(values: Tensor, size: int, axis: int) -> Tensor:
    """Return `size` values along `axis`, from the first of `values` to the last, by linear interpolation."""
    last = values.shape[axis] - 1
    places = torch.arange(size) * last / max(size - 1, 1)
    first = places.long().clamp(max=last - 1)
    share = (places - first).reshape(-1, *[1] * (values.dim() - 1 - axis))
    before, after = values.index_select(axis, first), values.index_select(axis, first + 1)
    return before + (after - before) * share


def sampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the bytes of `images` at `rows` and `columns` (n, H, W), by bilinear interpolation; 0 outside."""
    height, width = images.shape[1:3]
    colours = images.reshape(*images.shape[:3], -1)
    bordered = functional.pad(colours, (0, 0, 1, 2, 1, 2)).flatten(1, 2)  # (n, pixels, C)
    line = width + 3
    rows, columns = rows.clamp(-1, height) + 1, columns.clamp(-1, width) + 1
    top, left = rows.long(), columns.long()
    below, right = (rows - top).flatten(1)[:, :, None], (columns - left).flatten(1)[:, :, None]
    corner = (top * line + left).flatten(1)[:, :, None].expand(-1, -1, colours.shape[-1])

    def pixels(step: int) -> Tensor:
        return bordered.gather(1, corner + step).float()

    upper = pixels(0) + (pixels(1) - pixels(0)) * right
    lower = pixels(line) + (pixels(line + 1) - pixels(line)) * right
    return (upper + (lower - upper) * below).round().byte().reshape(images.shape)

"""Distorted training images: known results, those of SciPy, and the same bytes whoever computes them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from stages.net import exact
from stages.net.workers import Workers
from stages.train import distortion, guard
from stages.train.recipe import Recipe

ALL = {"rotate": 180, "scale": 0.3, "elastic": 3, "flip": True}


def recipe(**changes: Any) -> Recipe:
    """Return a recipe that distorts as `changes` say."""
    known: dict[str, Any] = {"model": ["linear 10"], "optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant"}
    return Recipe(**known, batch_size=10, shards=2, epochs=2, **changes)


def made_up(*shape: int) -> Tensor:
    """Return random bytes (*shape)."""
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def distorted(images: Tensor, seed: int = 0, threads: int = 1, **changes: Any) -> Tensor:
    """Return all `images`, distorted."""
    out, random = torch.empty_like(images), torch.Generator().manual_seed(seed)
    with Workers(threads) as workers:
        distortion.distort(images, torch.arange(len(images)), recipe(**changes), random, workers, out)
    return out


def placed(images: Tensor, cosine: float = 1, sine: float = 0, mirror: int = 1, moves: Tensor | None = None) -> Tensor:
    """Return `images` with the same distortion for each."""
    count, (height, width) = len(images), images.shape[1:3]
    moves = torch.zeros(2, distortion.NODES, distortion.NODES) if moves is None else moves
    numbers = (torch.full((count,), number) for number in (cosine, sine, mirror))
    places = distortion.sources(*numbers, moves.expand(count, *moves.shape), height, width)
    return distortion.sampled(images, *places)


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 12, 17, 3), (5, 1, 9)], ids=["grey", "colour", "a row"])
def test_known_distortions(shape: tuple[int, ...]) -> None:
    """No distortion, a mirror image, a half turn, half and twice the size, a move by whole pixels: exactly these."""
    images = made_up(*shape)
    assert torch.equal(placed(images), images)
    assert torch.equal(placed(images, mirror=-1), images.flip(2))
    assert torch.equal(placed(images, cosine=-1), images.flip(1, 2))
    moves = torch.zeros(2, distortion.NODES, distortion.NODES)
    moves[0], moves[1] = 2, -3
    moved = torch.zeros_like(images)
    moved[:, :-2, 3:] = images[:, 2:, :-3]
    assert torch.equal(placed(images, moves=moves), moved)
    square = made_up(4, 9, 9)
    assert torch.equal(placed(square, cosine=0, sine=1), square.rot90(-1, (1, 2)))
    small = torch.zeros_like(square)
    small[:, 2:7, 2:7] = square[:, ::2, ::2]
    assert torch.equal(placed(square, cosine=2), small)
    assert torch.equal(placed(square, cosine=0.5)[:, ::2, ::2], square[:, 2:7, 2:7])


@pytest.mark.parametrize("shape", [(40, 28, 28), (40, 20, 13, 3)], ids=["grey", "colour"])
def test_the_bytes_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    """Each value is within one of that of SciPy, in float64, at the same places; nearly all are equal."""
    images = made_up(*shape)
    random = torch.Generator().manual_seed(1)
    turned = distortion.cosine_and_sine(math.pi * distortion.evenly(random, len(images)))
    moves = 3 * distortion.evenly(random, len(images), 2, distortion.NODES, distortion.NODES)
    places = distortion.sources(*turned, torch.ones(len(images)), moves, *shape[1:3])
    ours = distortion.sampled(images, *places).reshape(*shape[:3], -1).numpy().astype(int)
    colours = images.reshape(*shape[:3], -1).double().numpy()
    for at, (rows, columns) in enumerate(zip(*(place.double().numpy() for place in places), strict=True)):
        for colour in range(colours.shape[-1]):
            # SciPy takes what lies less than a pixel outside for far outside
            bordered = np.pad(colours[at, :, :, colour], 1)
            theirs = ndimage.map_coordinates(bordered, [rows + 1, columns + 1], order=1).round()
            assert np.abs(ours[at, :, :, colour] - theirs).max() <= 1
            assert (ours[at, :, :, colour] == theirs).mean() > 0.99


def test_cosine_and_sine_are_those_of_python() -> None:
    """From -180 to 180 degrees."""
    angles = torch.linspace(-math.pi, math.pi, 1001, dtype=torch.float64)
    cosines, sines = distortion.cosine_and_sine(angles)
    assert cosines.tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=4e-8)
    assert sines.tolist() == pytest.approx([math.sin(angle) for angle in angles], abs=4e-8)


def test_each_setting_does_what_it_says() -> None:
    """A point beside the middle goes around it by up to `rotate`, further out by up to `scale`; half are mirrored."""
    images = torch.zeros(1000, 63, 63, dtype=torch.uint8)
    images[:, 30:33, 50:53] = 255  # 20 pixels to the right of the middle

    def angles_and_distances(**changes: Any) -> tuple[np.ndarray, np.ndarray]:
        middles = np.array([ndimage.center_of_mass(image) for image in distorted(images, **changes).numpy()]) - 31
        return np.degrees(np.arctan2(-middles[:, 0], middles[:, 1])), np.hypot(*middles.T)

    angles, distances = angles_and_distances(rotate=30)
    assert (round(angles.min()), round(angles.max())) == (-30, 30)
    assert abs(angles.mean()) < 2
    assert np.abs(distances - 20).max() < 0.1
    angles, distances = angles_and_distances(scale=0.2)
    assert np.abs(angles).max() < 0.1
    assert (round(distances.min(), 1), round(distances.max(), 1)) == (16, 24)
    angles, distances = angles_and_distances(flip=True)
    assert set(np.abs(angles).round()) == {0, 180}
    assert 450 < (np.abs(angles) < 90).sum() < 550
    _, distances = angles_and_distances(elastic=2)
    assert 17 < distances.min() < 19
    assert 21 < distances.max() < 23


def test_the_same_bytes_whoever_computes_them() -> None:
    """One, two and four threads; another seed gives others; other rows than those to distort stay as they are."""
    images = made_up(300, 28, 28)
    assert torch.equal(distorted(images, threads=2, **ALL), distorted(images, **ALL))
    assert torch.equal(distorted(images, threads=4, **ALL), distorted(images, **ALL))
    assert not torch.equal(distorted(images, seed=1, **ALL), distorted(images, **ALL))
    out = torch.zeros_like(images)
    with Workers(1) as workers:
        distortion.distort(images, torch.tensor([7, 3]), recipe(**ALL), torch.Generator(), workers, out)
    assert [row for row in range(300) if out[row].any()] == [3, 7]


def test_each_operation_is_exact() -> None:
    """The guard of a training, which knows the operations that may give other bits on another CPU, finds none."""
    images = made_up(10, 9, 9)
    with guard.Guard() as watched:
        cosine, sine = distortion.cosine_and_sine(distortion.evenly(torch.Generator(), 10))
        moves = distortion.evenly(torch.Generator(), 10, 2, distortion.NODES, distortion.NODES)
        distortion.sampled(images, *distortion.sources(cosine, sine, torch.ones(10), moves, 9, 9))
    assert watched.reason() == ""


def test_a_known_digest() -> None:
    """What is distorted has the same bytes on every CPU."""
    assert exact.digest({"": distorted(made_up(70, 28, 28), **ALL)})[:12] == "3fb90468e87c"

"""What is done to training images: where each pixel goes, and that it follows from the generator."""

import torch

from stages.common import augment, exact


def test_shifted_windows_are_the_image_moved() -> None:
    """The middle window is the image; the first is it moved down and right, black where nothing was."""
    image = torch.arange(28 * 28).reshape(1, 28, 28) % 251
    windows = augment.shifted_windows(image, 2)
    assert windows.shape == (1, 5, 5, 28, 28)
    assert torch.equal(windows[0, 2, 2], image[0])
    assert torch.equal(windows[0, 0, 0][2:, 2:], image[0, :-2, :-2])
    assert not windows[0, 0, 0][:2].any()


def test_an_image_is_bent_smoothly_within_bounds() -> None:
    """Of ramps, the change of a value is how far it moved: up to 2 pixels, a little more between two points."""
    right = torch.arange(28.0).expand(100, 28, 28)
    moves = torch.stack([
        (augment.bent(ramp, 2.0, exact.generator(0)) - ramp)[:, 6:-6, 6:-6] for ramp in (right, right.mT)
    ])  # fmt: skip
    assert 1.8 < moves.abs().max() < 2.5
    assert moves.std(dim=1).min() > 0.5  # other images, other moves, and everywhere
    assert moves.diff(dim=2).abs().max() < 0.5
    assert moves.diff(dim=3).abs().max() < 0.5
    assert not torch.equal(moves[0], moves[1])


def test_what_does_not_bend_stays() -> None:
    """Without a distortion an image is what it was, to the rounding of where its pixels are."""
    images = torch.randint(256, (5, 28, 28), generator=exact.generator(0), dtype=torch.uint8)
    torch.testing.assert_close(augment.bent(images, 0.0, exact.generator(0)), images.float(), atol=0.01, rtol=0)


def test_bending_follows_from_the_generator() -> None:
    """The same draws, the same bits; other draws, others."""
    images = torch.randint(256, (5, 28, 28), generator=exact.generator(0), dtype=torch.uint8)
    first, again, other = (augment.bent(images, 2.0, exact.generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

"""Random changes to training images, as another hand would have made: moved by whole pixels, and bent."""

import torch
from torch import Tensor
from torch.nn import functional


def shifted_windows(images: Tensor, shift: int) -> Tensor:
    """Return a view (n, 2 shift + 1, 2 shift + 1, 28, 28) of all the shifted copies of `images` (n, 28, 28).

    The middle of the two axes is the image as it is.
    """
    padded = functional.pad(images, (shift,) * 4)
    return padded.unfold(1, 28, 1).unfold(2, 28, 1)


def bent(images: Tensor, distortion: float, random: torch.Generator) -> Tensor:
    """Return `images` (B, 28, 28; 0..255), each bent in a way of its own, as floats.

    Nine points, three by three over the image, move by up to `distortion` pixels in each direction, and what lies
    between them follows smoothly: elastic distortion (Simard, Steinkraus and Platt 2003) with a coarse field, which
    turns, shears and stretches, too.
    """
    moves = (torch.rand(len(images), 2, 3, 3, generator=random) * 2 - 1) * distortion
    field = functional.interpolate(moves, size=28, mode="bicubic", align_corners=True)
    line = torch.arange(28.0)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy")) + field  # (B, 2, 28, 28), right and down
    grid = ((2 * places + 1) / 28 - 1).permute(0, 2, 3, 1)  # -1 and 1 are the outer edges of an image
    return functional.grid_sample(images[:, None].float(), grid.to(images.device), align_corners=False)[:, 0]

"""The training images as the first layer of a net: it takes their numbers, and gives their pixels."""

import torch
from torch import Tensor
from torch.nn import functional

from stages.net import inference, operations
from stages.net.calls import Run, now


class Images(operations.Operation):
    """The pixels of `images` (n, H, W[, 3]; bytes) in 0..1, each image moved by up to `most` pixels.

    It takes places (N, 3): the number of an image, and how far its window begins down and to the right in the image
    with a border of `most` pixels, which are 0. It gives (N, C, H, W), channels last in memory.
    """

    def __init__(self, images: Tensor, most: int):
        super().__init__()
        self._images, self._most = images.contiguous(), most

    def __call__(self, places: Tensor) -> Tensor:
        """Return the pixels at `places`."""
        return self.by_pytorch(places) if self._images.is_cuda else self.forward(now, places)

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return the pixels at the places `values`, by a kernel."""
        height, width, channels = (*self._images.shape, 1)[1:4]
        y = operations.empty_images(len(values), channels, height, width)
        run("pixels", self._images, values.contiguous(), y, len(values), height, width, channels, self._most)
        return y

    def by_pytorch(self, places: Tensor) -> Tensor:
        """Return the same by operations of PyTorch, for a GPU."""
        device, (height, width) = self._images.device, self._images.shape[1:3]
        rows, down, right = places.to(device)[:, :, None, None].unbind(1)
        colours = (0, 0) if self._images.dim() == 4 else ()
        bordered = functional.pad(self._images[rows.flatten()], (*colours, *[self._most] * 4))
        y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
        return inference.scaled(bordered[torch.arange(len(places), device=device)[:, None, None], down + y, right + x])

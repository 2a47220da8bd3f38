"""A small residual net (He et al. 2016): an example of a net of one's own, for recipes/residual.yaml."""

import torch
from torch import Tensor, nn

from stages.net import layers


class Block(nn.Module):
    """Two convolutions, whose result is added to what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.change = layers.Sequential(
            layers.Conv2d(channels, channels, 3, padding=1, bias=False),
            layers.BatchNorm2d(channels),
            layers.ReLU(),
            layers.Conv2d(channels, channels, 3, padding=1, bias=False),
            layers.BatchNorm2d(channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) of the same shape."""
        return torch.relu(images + self.change(images))


class ResidualNet(nn.Module):
    """A convolution and a pool, `blocks` residual blocks, a pool, and a linear layer.

    Takes pixels (N, *shape) in 0..1, and returns logits (N, classes).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, channels: int, blocks: int):
        super().__init__()
        self.stem = layers.Sequential(
            layers.Normalize(0.1307, 0.3081),
            layers.Conv2d(shape[0], channels, 5, bias=False),
            layers.MaxPool2d(2),
            layers.BatchNorm2d(channels),
            layers.ReLU(),
        )
        height, width = ((side - 4) // 2 // 4 for side in shape[1:])
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.head = layers.Sequential(
            layers.MaxPool2d(4), layers.Flatten(), layers.Linear(channels * height * width, classes)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.blocks(self.stem(pixels)))

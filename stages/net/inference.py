"""The logits of a trained net for images, their loss and their accuracy."""

import math

import torch
from torch import Tensor, nn

from stages.net.calls import now
from stages.net.operations import dense
from stages.net.workers import Workers

BATCH_SIZE = 64  # for memory alone: it changes no bit, and stands in no params file


def scaled(images: Tensor) -> Tensor:
    """Return bytes (B, H, W[, 3]) as pixels (B, C, H, W) in 0..1, channels last in memory, as convolutions want it."""
    pixels = images.float().div_(255)
    return (pixels if images.dim() == 4 else pixels.unsqueeze(-1)).permute(0, 3, 1, 2)


def predict(net: nn.Module, images: Tensor, workers: Workers) -> Tensor:
    """Return the logits (n, classes), on the CPU, of `images` (n, H, W[, 3]; bytes), the net in evaluation mode."""
    net.eval()

    def logits(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(scaled(batch)).cpu()

    return torch.cat(workers.map(logits, images.split(BATCH_SIZE)))


def loss_and_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the accuracy of `logits` (n, classes) for `labels` (n)."""
    surprise = -softmax(logits)[0][torch.arange(len(labels)), labels]
    hits = int((logits.argmax(1) == labels).sum())
    return math.fsum(surprise.tolist()) / len(labels), hits / len(labels)


def probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities (n, classes; float64) that `logits` (n, classes; float32) mean: their softmax."""
    return softmax(logits)[1]


def softmax(logits: Tensor) -> Tensor:
    """Return the logarithms of the probabilities, and the probabilities: (2, n, classes), float64."""
    both = torch.empty(2, *logits.shape, dtype=torch.float64)
    now("softmax", dense(logits), *both, *logits.shape)
    return both

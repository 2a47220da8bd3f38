"""The way MNIST is trained elsewhere: torchvision's images through a DataLoader, plain autograd, PyTorch's threads."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

# The nets of well-read tutorials, as the modules that those write: recipes of the same names are ours
NETS: dict[str, Callable[[], nn.Module]] = {
    "lenet5_linear": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10),
    ),
    "convnet_4_8": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(392, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10),
    ),
    "lenet5_relu": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ),
    "cnn_10_20": lambda: nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(320, 50), nn.Linear(50, 10),
    ),
    "cnn_10_20_dropout": lambda: nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2),
        nn.ReLU(), nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10),
    ),
}  # fmt: skip
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "lenet5_linear": partial(torch.optim.SGD, lr=0.01),
    "convnet_4_8": partial(torch.optim.SGD, lr=0.001, momentum=0.9),
    "lenet5_relu": partial(torch.optim.Adam, lr=0.001),
    "cnn_10_20": partial(torch.optim.SGD, lr=0.01, momentum=0.5),
    "cnn_10_20_dropout": partial(torch.optim.SGD, lr=0.01, momentum=0.5),
}
TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


class ExamplesNet(nn.Module):
    """The net of pytorch/examples' `mnist`: two convolutions, two linear layers, two dropouts (1.2 M parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (B, 10) of `pixels` (B, 1, 28, 28)."""
        return functional.log_softmax(self.classifier(self.features(pixels)), dim=1)


def examples(root: Path, seed: int, epochs: int) -> list[tuple[float, float]]:
    """Return seconds so far and test accuracy after each epoch of pytorch/examples' `mnist` with its defaults.

    Batch 64 in the order of the files, Adadelta with learning rate 1.0, times 0.7 after each epoch.
    """
    start = time.perf_counter()
    results = []
    torch.manual_seed(seed)
    training = DataLoader(MNIST(root, train=True, transform=TO_TENSOR), batch_size=64)
    test = DataLoader(MNIST(root, train=False, transform=TO_TENSOR), batch_size=1000)
    net = ExamplesNet()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for _ in range(epochs):
        net.train()
        for pixels, labels in training:
            optimizer.zero_grad()
            functional.nll_loss(net(pixels), labels).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            right = sum(int((net(pixels).argmax(1) == labels).sum()) for pixels, labels in test)
        scheduler.step()
        results.append((time.perf_counter() - start, right / 10_000))
    return results


def images_a_second(root: Path, name: str, batch_size: int, steps: int) -> float:
    """Return how many images a second `steps` steps of the net `name` take, fed by torchvision and a DataLoader."""
    net = NETS[name]()
    optimizer = OPTIMIZERS[name](net.parameters())
    loader = iter(DataLoader(MNIST(root, train=True, transform=TO_TENSOR), batch_size=batch_size, shuffle=True))
    start = 0.0
    for step in range(-5, steps):  # five to warm up
        if step == 0:
            start = time.perf_counter()
        pixels, labels = next(loader)
        optimizer.zero_grad()
        functional.cross_entropy(net(pixels), labels).backward()
        optimizer.step()
    return steps * batch_size / (time.perf_counter() - start)

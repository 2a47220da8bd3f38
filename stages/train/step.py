"""What a thread computes in a step of training: the gradient of a shard's loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.net import autograd, layers, operations
from stages.net.calls import Program
from stages.train.images import Images

Draws = Callable[[], torch.Generator]  # for dropout


class Step:
    """The gradient by PyTorch's autograd: of any net, on any device."""

    def __init__(self, net: nn.Module, images: Images, label_smoothing: float, count: int):
        self._net, self._images, self._loss_arguments = net, images, (label_smoothing, count)
        self._parameters = list(net.parameters())
        self._has_dropout = any(isinstance(layer, layers.Dropout) for layer in net.modules())

    def __call__(self, places: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return the gradient of all parameters, and behind it the loss, as one vector.

        The loss is the sum over the images at `places` (N, 3) of the cross-entropy with `labels` (N), over `count`. The
        next call may use the vector's memory again.
        """
        if self._has_dropout:
            layers.draw_from(self._net, draws())
        return self._computed(places, labels)

    def _computed(self, places: Tensor, labels: Tensor) -> Tensor:
        loss = layers.cross_entropy(self._net(self._images(places)), labels, *self._loss_arguments)
        gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)  # 0 if not used
        return torch.cat([values.detach().flatten() for values in (*gradients, loss)])


class RecordedStep(Step):
    """The gradient of a list of layers on a CPU, as one program, which is recorded in the first step.

    It needs Python only to start it, so threads hardly wait for each other.
    """

    _program: Program | None = None

    def _computed(self, places: Tensor, labels: Tensor) -> Tensor:
        if self._program is None:
            self._record(places, labels)
        else:
            self._places.copy_(places)
            self._labels.copy_(labels)
            self._program.again()
        self._rounded_loss.copy_(self._loss)
        return torch.cat(self._parts, out=self._result)

    def _record(self, places: Tensor, labels: Tensor) -> None:
        self._program, self._places, self._labels = Program(), places.clone(), labels.clone()
        used = [self._images, *(layer.operation() for layer in self._net)]  # type: ignore[attr-defined]
        logits = autograd.forward(self._program, used, self._places)
        self._loss, gradient = operations.cross_entropy(self._program, logits, self._labels, *self._loss_arguments)
        _, gradients = autograd.backward(self._program, used, gradient, needed=False)
        self._rounded_loss = torch.empty(1)  # to float32
        self._parts = [*(values.flatten() for values in gradients), self._rounded_loss]
        self._result = torch.cat(self._parts)


def step_of(net: nn.Module, images: Images, label_smoothing: float, count: int) -> Step:
    """Return the step of `net`, in training, by the way that is fastest for it."""
    recorded = type(net) is layers.Sequential and net.is_chain(next(net.parameters()))
    return (RecordedStep if recorded else Step)(net, images, label_smoothing, count)

"""A check while a net computes: which of PyTorch's operations may give other bits on another CPU."""

import traceback
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from stages.net import description

# Operations that move or choose values, or are one IEEE operation for each value. All others may sum in an order that
# depends on the CPU, or call a library's function. The names are those of torch.ops.aten.
STABLE = {
    "_local_scalar_dense", "_reshape_alias", "_to_copy", "_unsafe_view", "abs", "alias", "amax", "amin", "argmax",
    "argmin", "as_strided", "bitwise_and", "bitwise_not", "bitwise_or", "cat", "ceil", "chunk", "clamp", "clamp_max",
    "clamp_min", "clone", "constant_pad_nd", "copy_", "detach", "detach_", "div", "div_", "empty", "empty_like",
    "empty_strided", "eq", "equal", "expand", "fill_", "flip", "floor", "full", "full_like", "gather", "ge", "gt",
    "index", "index_select", "isfinite", "isnan", "le", "leaky_relu", "leaky_relu_", "leaky_relu_backward",
    "lift_fresh", "logical_and", "logical_and_", "logical_not", "logical_or", "lt", "masked_fill", "max", "maximum",
    "min", "minimum", "mul", "mul_", "ne", "neg", "neg_", "new_empty", "new_empty_strided", "new_zeros", "ones",
    "ones_like", "permute", "pixel_shuffle", "pixel_unshuffle", "rand", "relu", "relu_", "repeat", "resize_", "roll",
    "round", "scalar_tensor", "select", "select_backward", "sgn", "sign", "slice", "slice_backward", "split",
    "split_with_sizes", "squeeze", "stack", "t", "threshold_backward", "transpose", "unbind", "unsqueeze", "view",
    "where", "zero_", "zeros", "zeros_like",
}  # fmt: skip
REDRAWN = ("torch/nn/modules/conv.py", "torch/nn/modules/linear.py")
WITHOUT_ALPHA = {"add", "add_", "rsub", "sub", "sub_"}  # with another alpha they are two operations


class Guard(TorchDispatchMode):
    """Notes, in a `with` statement, each operation of this thread that is not stable, and where it was called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, str] = {}  # by operation: the place of its first call

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler, which takes two seconds, to keep it away from this class

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note `operation`, and run it."""
        name = operation.overloadpacket.__name__
        named = kwargs or {}
        stable = name in STABLE
        if name in WITHOUT_ALPHA:
            stable = all(alpha == 1 for alpha in (*args[2:], named.get("alpha", 1)))  # a number's stands in args
        elif name == "rand":  # PyTorch's own generator is shared by all threads
            stable = named.get("generator") is not None
        elif name == "uniform_":  # in PyTorch's layers, whose weights description.draw_weights draws anew
            stable = any(frame.filename.endswith(REDRAWN) for frame in traceback.extract_stack())
        elif name in ("pow", "pow_"):  # x ** 2 is x * x; other powers are several operations, or a library's
            stable = isinstance(args[1], int | float) and args[1] in (0, 1, 2)
        elif name == "arange":  # a vector of fractions is computed from its first one
            stable = all(isinstance(number, int) for number in args)
        if not stable:
            with self:  # in inference mode, PyTorch hands over what is made of other operations
                made = operation.decompose(*args, **named)
            if made is not NotImplemented:
                return made
            if name not in self.found:
                self.found[name] = description.line_of()  # nothing for a gradient
        return operation(*args, **named)

    def reason(self) -> str:
        """Return which operations were not stable, and where they were called; empty if there were none."""
        return ", ".join(f"torch.ops.aten.{name}{place}" for name, place in sorted(self.found.items()))

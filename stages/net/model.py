"""The trained model as a file: recipe, layers, environment and weights, with the digest of the weights."""

import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.common import files
from stages.common.errors import StageError
from stages.net import description, exact

MODEL = Path("models/model.pt")
OF_ZIP = (zipfile.BadZipFile, zlib.error)


def write(origin: dict[str, Any], net: nn.Module) -> str:
    """Write `net` and its `origin`; return the digest of its weights.

    The origin has `recipe` (a name), the recipe's `model` and `options`, the `data` and the `environment`.
    """
    # A copy of each tensor: they are parts of one vector, which would be saved as a whole.
    weights = {name: values.cpu().clone() for name, values in net.state_dict().items()}
    digest = exact.digest(weights)
    content = io.BytesIO()
    torch.save({**origin, "weights": weights, "weights_sha256": digest}, content)
    files.write_whole(MODEL, content.getvalue())
    return digest


def read() -> dict[str, Any]:
    """Return the model that the stage train wrote. Raises StageError if there is none, or for what `parse` refuses."""
    if not MODEL.is_file():
        raise StageError(f"{MODEL}: not found; run `dvc repro` or `dvc pull` first")
    model = parse(MODEL.read_bytes(), str(MODEL))
    if "options" not in model:
        raise StageError(f"{MODEL}: written by an older version of this project; run `dvc repro`")
    return model


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the model that `content`, that of a file called `name`, holds.

    Raises StageError if it is damaged, or if a weight is NaN or infinite.
    """
    try:
        if zipfile.ZipFile(io.BytesIO(content)).testzip():  # PyTorch writes checksums, and checks none of them
            raise RuntimeError("a wrong checksum")
        model: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        if exact.digest(model["weights"]) != model["weights_sha256"]:
            raise RuntimeError("not the weights that were trained")
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError, *OF_ZIP) as error:
        reason = str(error).partition("\n")[0] or "empty"
        raise StageError(
            f"{name}: damaged ({reason}); delete it and its object in .dvc/cache, as docs/remotes.md says, and run "
            "`dvc repro`"
        ) from None
    for key, values in model["weights"].items():
        if not values.isfinite().all():
            raise StageError(
                f"{name}: {key} has values that are NaN or infinite, expected finite weights: the training diverged; "
                "lower the recipe's learning_rate, and run `dvc repro`"
            )
    return model


def trained(model: dict[str, Any]) -> nn.Module:
    """Return the net that `model` holds, as the stage train wrote it, in evaluation mode.

    Raises StageError if it is of a class of the folder nets/ that is not there, or has changed.
    """
    data = model["data"]
    try:
        net = description.build(model["model"], model["options"], tuple(data["shape"]), len(data["classes"]))
        net.load_state_dict(model["weights"])
    except (ValueError, RuntimeError) as error:
        raise StageError(
            f"the model of recipe {model['recipe']} cannot be made of {model['model']} as it is here "
            f"({' '.join(str(error).split())}); restore the folder nets/ of its training, or run `dvc repro`"
        ) from None
    return net.eval()

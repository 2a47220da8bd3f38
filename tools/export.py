"""Write the trained net as one ONNX file with its preprocessing: it takes the data set's bytes, and returns logits.

    python -m tools.export [FILE]

The default FILE is model.onnx. The input `images` is uint8 (batch, height, width), or (batch, height, width, 3)
in colour; the output `logits` is float32 (batch, classes); a batch may have any size. The names of the classes are in
the file's metadata. Needs models/model.pt (`dvc repro`) and the extra `onnx`.
"""

import argparse
from pathlib import Path

from stages.common import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("file", nargs="?", type=Path, default=Path("model.onnx"), metavar="FILE")


if __name__ == "__main__":
    command.run_tool("export", __doc__, add_arguments)

import json
import warnings
from typing import Any

import onnx
import onnxscript  # noqa: F401 - what PyTorch's exporter is written with
import torch
from torch import Tensor, nn

from stages.common import errors, files, raw
from stages.net import exact, inference, model


def main(arguments: argparse.Namespace) -> None:
    """Write the file that the command line names, and say how it is run."""
    file: Path = arguments.file
    if file.suffix != ".onnx":  # such as models/model.pt, which would be lost
        raise errors.StageError(f"{file}: expected a name that ends with .onnx")
    exact.pin()
    trained = model.read()
    content = as_onnx(trained)
    files.write_whole(file, content)
    ink = ", paper 0 and ink 255" if trained["data"]["drawing"] != "none" else ""
    shape = ", ".join(map(str, raw.array_shape(trained["data"]["shape"])))
    print(f"{file}: {len(content):,} bytes. With uint8 `images` (batch, {shape}){ink}, run")
    print(f"  onnxruntime.InferenceSession({str(file)!r}).run(['logits'], {{'images': images}})[0]")


class Reader(nn.Module):
    """A net with its preprocessing."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, classes) of `images` (B, H, W[, 3]; bytes)."""
        return self.net(inference.scaled(images))


def as_onnx(trained: dict[str, Any]) -> bytes:
    """Return `trained`, a model as the stage train wrote it, as the content of an ONNX file: always the same bytes.

    The file's metadata say the recipe, `weights_sha256` and the names of the classes (a list as JSON).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.11 warns of its own code
        program: Any = torch.onnx.export(
            Reader(model.trained(trained)).eval(),
            (torch.zeros(2, *raw.array_shape(trained["data"]["shape"]), dtype=torch.uint8),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    exported: onnx.ModelProto = program.model_proto
    graph = exported.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")  # PyTorch's notes for debugging, with paths of this machine
    known = {"recipe": trained["recipe"], "weights_sha256": trained["weights_sha256"]}
    known["classes"] = json.dumps(trained["data"]["classes"])
    onnx.helper.set_model_props(exported, known)
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString(deterministic=True)

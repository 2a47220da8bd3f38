"""Write the trained net as one ONNX file, preprocessing inside: bytes as MNIST has them go in, logits come out.

    python -m tools.export [FILE]

FILE is model.onnx unless it is given. Its input `images` is uint8 (batch, 28, 28), paper 0 and ink 255; its output
`logits` is float32 (batch, 10); a batch may have any size. Needs models/model.pt (`dvc repro`) and the extra `onnx`.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.common import command, errors, files
from stages.net import description, exact, inference, model

INSTALL = "uv pip install -r pyproject.toml --extra onnx -c requirements-dev.lock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("file", nargs="?", type=Path, default=Path("model.onnx"), metavar="FILE")


def main(arguments: argparse.Namespace) -> None:
    """Write the file that the command line names, and say how it is run."""
    file: Path = arguments.file
    exact.pin()
    content = as_onnx(model.read())
    files.write_whole(file, content)
    print(f"{file}: {len(content):,} bytes. With uint8 `images` (batch, 28, 28), paper 0 and ink 255, run")
    print(f"  onnxruntime.InferenceSession({str(file)!r}).run(['logits'], {{'images': images}})[0]")


class Reader(nn.Module):
    """A net with its preprocessing."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 10) of `images` (B, 28, 28; bytes)."""
        return self.net(inference.scaled(images))


def as_onnx(trained: dict[str, Any]) -> bytes:
    """Return `trained`, a model as the stage train wrote it, as the content of an ONNX file: always the same bytes.

    The file's metadata say the recipe and `weights_sha256`. Raises StageError if the extra `onnx` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - what PyTorch's exporter is written with
    except ImportError as error:
        raise errors.StageError(f"{error}; the extra `onnx` is needed: run `{INSTALL}`") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.11 warns of its own code
        program: Any = torch.onnx.export(
            Reader(model.trained(trained)).eval(),
            (torch.zeros(2, *description.PIXELS[1:], dtype=torch.uint8),),
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
    onnx.helper.set_model_props(exported, known)
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString(deterministic=True)


if __name__ == "__main__":
    command.run_tool("export", main, __doc__, add_arguments)

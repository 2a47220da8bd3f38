"""Experiments made without a run: commits with other params and metrics, as many as a test wants, in a second."""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from tests.conftest import Clone


class Made(NamedTuple):
    """What is not the baseline's in an experiment."""

    name: str
    seed: int
    learning_rate: float
    validation_accuracy: float


def make(clone: Clone, experiments: Iterable[Made]) -> None:
    """Put `experiments` of the recipe fast into `clone`, all of HEAD, as DVC stores them."""
    head = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    files = {name: (clone.path / name).read_text() for name in ("params.yaml", "recipes/fast.yaml")}
    trained = json.loads((clone.path / "metrics/train.json").read_text())
    stream = ""
    for place, of in enumerate(experiments):
        measured = {"validation_accuracy": of.validation_accuracy, "weights_sha256": f"{place:012x}"}
        changed = {
            "params.yaml": re.sub("seed: 0 # random seed of weights", f"seed: {of.seed} #", files["params.yaml"]),
            "recipes/fast.yaml": re.sub(
                "learning_rate: .* #", f"learning_rate: {of.learning_rate} #", files["recipes/fast.yaml"]
            ),
            "metrics/train.json": json.dumps({**trained, **measured}),
        }
        stream += f"commit refs/exps/{head[:2]}/{head[2:]}/{of.name}\ncommitter tests <tests@example.org> 0 +0000\n"
        stream += f"data {len(of.name)}\n{of.name}\nfrom {head}\n"
        for name, content in changed.items():
            stream += f"M 100644 inline {name}\ndata {len(content.encode())}\n{content}\n"
    clone.run("git", "fast-import", "--quiet", stdin=stream)

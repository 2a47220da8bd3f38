"""What a run is, in words for people: its facts as a table, and where its net fails."""

from typing import Any

import numpy as np

from stages.report.runs import Run, wilson

SURE = 0.9  # a probability


def table(run: Run, model: dict[str, Any] | None) -> dict[str, str]:
    """Return the facts on `run` and its `model` (None: not at hand) by their names, those first that people ask for."""
    validation, test = int(run.classes["validation"].sum()), len(run.predictions)
    right = round(run.validation_accuracy * validation)
    lower, upper = wilson(right, validation)
    facts = {
        "data set": f"{run.dataset}, {test:,} test images",
        "split": f"{run.params['split.method']}, {100 * run.params['split.validation_fraction']:.6g}% to validate, "
        f"seed {run.params['split.seed']}",
        "recipe": run.recipe,
        "seed": str(run.seed),
        "epochs": f"{np.nanmax(run.training['epoch']):.0f}, of {run.classes['train'].sum():,.0f} images",
        **run.shown(),
        "validation accuracy": f"{run.validation_accuracy:.2%} ({lower:.2%} to {upper:.2%})",
        "weights (SHA-256)": run.weights,
        "parameters": f"{run.parameters:,}",
    }
    if model is None:
        return facts | {"trained on": "unknown, as neither DVC's cache nor its remote has the model"}
    of = model["environment"]
    if of["exact"]:
        return facts | {"trained on": f"{of['device']}, exact to the bit"}
    versions = f"Python {of['python']}, PyTorch {of['torch']}, NumPy {of['numpy']}"
    return facts | {"trained on": f"{of['device']}, not exact to the bit; {versions}"}


def failures(run: Run) -> dict[str, Any]:
    """Return the worst class of `run`, the most frequent confusion, and how sure the net is, right and wrong."""
    actual, predicted = (run.predictions[name].astype(int) for name in ("actual", "predicted"))
    confusions = np.zeros((len(run.names),) * 2, dtype=int)
    np.add.at(confusions, (actual[~run.right], predicted[~run.right]), 1)
    one, other = np.unravel_index(confusions.argmax(), confusions.shape)
    worst = run.per_class[run.per_class["recall"].argmin()]
    return {
        "worst": {name: float(worst[name]) for name in ("errors", "count", "recall")},
        "worst_class": run.names[int(worst["class"])],
        "confusion": (run.names[one], run.names[other], int(confusions.max())),
        "sure": int((~run.right & (run.predictions["probability"] >= SURE)).sum()),
        "probability": float(run.predictions["probability"].mean()),
    }

"""Put all results on one page: draw a digit and the trained net classifies it, click an error, read the numbers.

    python -m stages.report [--against REVISION]

Reads what the other stages wrote; writes report/index.html, which needs neither other files nor a network, and pictures
for `dvc plots`. With --against, writes report/against.html alone: this run beside that of a revision.
"""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from stages.common import files, raw, settings
from stages.net import exact, model
from stages.report import comparison, embed, facts, pictures, runs, studies
from stages.report.rans import embedded
from stages.report.render import render
from stages.report.runs import Run

FOLDER = Path("report")
# In the order in which they run
SCRIPTS = ("elements", "data", "net", "digit", "draw", "digits", "charts", "figures", "main", "study")
ERRORS = 24  # images in the picture of errors


def main(against: str | None = None) -> None:
    """Draw the pictures and the page; or, `against` a revision, the page that shows both."""
    exact.pin()
    exact.warn_of_other_versions("matplotlib", "pillow")
    run, trained = runs.load(None), model.read()
    if against is None:
        matplotlib.rcdefaults()  # whatever a matplotlibrc in this folder says
        for name, figure in drawn(run, raw.images("t10k"), raw.describe().drawing != "none").items():
            files.write_whole(FOLDER / f"{name}.png", pictures.png(figure))
        target = FOLDER / "index.html"
        files.write_whole(target, page([run], [trained]))
        print(f"{target}: accuracy {run.metrics['accuracy']:.2%}, {run.metrics['errors']} errors")
        return
    other = runs.load(against)
    compared = comparison.compare(other, run)
    target = FOLDER / "against.html"
    files.write_whole(target, page([other, run], [model_of(against), trained], compared))
    print(f"{target}: {compared['verdict']}")


def model_of(revision: str) -> dict[str, Any] | None:
    """Return the model of `revision` from DVC's cache or remote; None if neither has it."""
    import dvc.api  # here, as it takes a second that a stage need not wait for
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    try:
        content = dvc.api.read(str(model.MODEL), rev=runs.resolve(revision), mode="rb")
    except (DvcException, DataIndexError, OSError):
        return None
    found = model.parse(content, f"{revision}: {model.MODEL}")
    return found if "options" in found else None  # one of an older version of this project


def drawn(run: Run, test: np.ndarray, ink: bool) -> dict[str, Figure]:
    """Return the pictures of `run` on the `test` images (n, H, W[, 3]), `ink` on black paper or not, by name."""
    counts = np.zeros((len(run.names),) * 2, dtype=np.int64)
    np.add.at(counts, (run.predictions["actual"].astype(int), run.predictions["predicted"].astype(int)), 1)
    rows = surest_errors(run)[:ERRORS]
    names = pictures.shortened(run.names)
    form = "no. {}\nlabel {}\nnet {}, {:.0%}" if max(map(len, names)) <= 2 else "no. {}\n{}\ntaken for\n{}\n{:.0%}"
    captions = [
        form.format(row, names[int(actual)], names[int(predicted)], probability)
        for row, (actual, predicted, probability) in zip(rows, run.predictions[rows], strict=True)
    ]
    return {
        "confusion": pictures.confusion(counts, names),
        "training": pictures.training(run.training),
        "errors": pictures.grid(test[rows], captions, ink),
    }


def surest_errors(run: Run) -> np.ndarray:
    """Return the rows of the test images that `run` misclassifies, first those that the net is surest of."""
    wrong = np.flatnonzero(~run.right)
    return wrong[np.argsort(-run.predictions["probability"][wrong], kind="stable")]


def page(shown: list[Run], models: list[dict[str, Any] | None], compared: dict[str, Any] | None = None) -> bytes:
    """Return the page of the runs `shown` and their `models` (None: not at hand), two of them `compared`."""
    known = [facts.table(run, of) for run, of in zip(shown, models, strict=True)]
    return render(
        "page",
        SCRIPTS,
        content(shown, models, compared),
        runs=shown,
        table={name: [of.get(name, "") for of in known] for of in known for name in of},
        facts=known[-1],
        failures=facts.failures(shown[-1]),
        of=raw.describe(),
        entry=settings.read(Path("datasets", shown[-1].dataset, "dataset.yaml")),
        models=models,
        compared=compared,
        counts=json.loads(Path("metrics/data.json").read_text(encoding="utf-8")),
        again=again(shown[-1]),
    )


def again(run: Run) -> str:
    """Return the commands that give `run` again: its params, all of them, and `dvc repro`."""
    yaml, lines = YAML(typ="safe"), io.StringIO()
    yaml.default_flow_style = False
    for path, values in run.files.items():
        lines.write(f"cat > {shlex.quote(path.as_posix())} <<'END'\n")
        yaml.dump(values, lines)
        lines.write("END\n")
    return f"{lines.getvalue()}dvc repro"


def content(shown: list[Run], models: list[dict[str, Any] | None], compared: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the scripts of the page draw from."""
    test, data = torch.from_numpy(raw.images("t10k")), raw.describe()
    described, nets = [], []
    for run, of in zip(shown, models, strict=True):
        predicted = run.predictions["predicted"].astype(int)
        net = None
        if of and not isinstance(of["model"], str):  # the page cannot run a class of Python
            net, used = embed.net(model.trained(of), test, predicted)
            nets.append(used)
        tables = {name: records(getattr(run, name)) for name in ("per_class", "reliability", "training")}
        name = run.name if len(shown) > 1 else ""
        described.append({"name": name, "net": net, "predicted": embedded(predicted, "u1"), **tables})
    wrong = np.any([~run.right for run in shown], axis=0)
    return {
        "runs": described,
        "names": data.classes,
        "shape": data.shape,
        "drawing": data.drawing,
        "noun": data.noun,
        "a_noun": f"{'an' if data.noun[0] in 'aeiou' else 'a'} {data.noun}",
        "labels": embedded(shown[-1].predictions["actual"], "u1"),
        "groups": groups(shown[-1], compared),
        "studies": [] if compared else studies.load(),
        "classes": records(shown[-1].classes),
        "images": embed.images(test, wrong, nets),
    }


def groups(run: Run, compared: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the titles and rows of the test images that one wants to see first."""
    if compared is None:
        return [{"title": "All misclassified, the surest first", "rows": surest_errors(run).tolist()}]
    return [{"title": f"Only {of['name']} is right", "rows": of["only_right"]} for of in compared["runs"]]


def records(table: np.ndarray) -> list[dict[str, float | None]]:
    """Return the rows of `table` for JSON, without NaN, which it does not have."""
    names = table.dtype.names or ()
    return [{name: None if np.isnan(row[name]) else float(row[name]) for name in names} for row in table]

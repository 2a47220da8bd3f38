"""Time this project and its peers in turn, on one machine and the same files; print ratios with their spread.

    python -m tests.benchmark [--rounds 3] [--seeds 10] [SECTION ...]

Run `dvc repro` first: all read MNIST in data/. Sections: fast, nets, workers, pipeline, page (needs Chromium); recipes
(ten minutes a seed) and examples (half an hour).
"""

import argparse
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from math import prod
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch

from stages.common import settings
from stages.net.workers import available
from stages.train import recipe as recipes
from tests import picture
from tests.benchmark import ours, peers

RAW = Path("data/raw")
PUBLISHED = {"lenet5_linear": "98.39 %", "lenet5_relu": "about 99 %", "cnn_10_20_dropout": "97 %"}
# Linux counts the memory that the parent had when it started a process as the child's
SMALL_PARENT = """
import os, sys
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def load(name: str) -> recipes.Recipe:
    """Return a recipe."""
    return settings.load(recipes.Recipe, path=recipes.path(name))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function` returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def spread(values: list[float], unit: str = "") -> str:
    """Return the median of `values` and their least and greatest."""
    return f"{median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def row(what: str, value: str) -> None:
    """Print a row of the table."""
    print(f"| {what} | {value} |", flush=True)


def time_fast(rounds: int, seeds: int) -> None:
    """Accuracy over the seeds, seconds of training, memory, and arithmetic against the machine's peak."""
    runs, shares = [], []
    for seed in range(seeds):
        peak = apart(ours.fma_peak, available())
        run = apart(ours.trained, "fast", seed, available(), {})
        runs.append(run)
        shares.append(run["flop"] / run["seconds"] / peak)
    accuracies = [100 * run["accuracy"] for run in runs]
    deviation = f", standard deviation {stdev(accuracies):.3f}" if seeds > 1 else ""
    row(f"`fast`: test accuracy, mean of {seeds} seeds", f"{mean(accuracies):.3f} %{deviation}")
    row("`fast`: training", spread([run["seconds"] for run in runs], " s"))
    row("`fast`: share of the multiply-adds in registers alone", spread([100 * share for share in shares], " %"))
    memory = [stage_train("fast", seed)[1] / 1e9 for seed in range(rounds)]
    row("`fast`: peak memory of the stage train", spread(memory, " GB"))
    row("the first compilation of the kernels, CPU", spread([apart(ours.compilation) for _ in range(rounds)], " s"))


def time_nets(rounds: int, seeds: int) -> None:
    """Images a second against the same net fed by torchvision and a DataLoader, in turn."""
    medians = []
    for name in peers.NETS:
        ratios = [
            apart(ours.images_a_second, load(name), available(), 300)
            / apart(peers.images_a_second, RAW, name, load(name).batch_size, 300)
            for _ in range(rounds)
        ]
        medians.append(median(ratios))
        row(f"{name}: images a second, times the DataLoader's", spread(ratios))
    row("geometric mean of these", f"{prod(medians) ** (1 / len(medians)):.2f}")


def table_of_recipes(rounds: int, seeds: int) -> None:
    """Each recipe's test accuracy over the seeds, parameters and seconds, beside what its tutorial publishes."""
    print(
        "\n| recipe | published | test accuracy | seeds | parameters | seconds of training |\n|---|---|---|---|---|---|"
    )
    for name in sorted(path.stem for path in Path("recipes").glob("*.yaml")):
        runs = [apart(ours.trained, name, seed, available(), {}) for seed in range(seeds)]
        accuracy, seconds = mean(100 * run["accuracy"] for run in runs), median(run["seconds"] for run in runs)
        cells = (f"`{name}`", PUBLISHED.get(name, ""), f"{accuracy:.2f} %", seeds, f"{runs[0]['parameters']:,}")
        print("|", *(f"{cell} |" for cell in cells), f"{seconds:.0f} |", flush=True)


def time_workers(rounds: int, seeds: int) -> None:
    """Two workers against one, and what two cores make of operations in registers, which share nothing."""

    def seconds(workers: int) -> float:
        return float(apart(ours.trained, "fast", 0, workers, {})["seconds"])

    ratios, machine = [], []
    for _ in range(rounds):
        ratios.append(seconds(1) / seconds(2))
        machine += [apart(ours.fma_peak, 2) / apart(ours.fma_peak, 1) for _ in range(3)]
    row("`fast`: speed-up from one worker to two", spread(ratios))
    row("arithmetic in registers: speed-up from one core to two", spread(machine))


def time_pipeline(rounds: int, seeds: int) -> None:
    """`dvc repro` in a fresh clone, the data in the user's cache, and where its seconds go."""
    runs = [seconds_of_parts() for _ in range(rounds)]
    row("`dvc repro` from nothing to the page", spread([sum(parts.values()) for parts in runs], " s"))
    for part in runs[0]:
        row(f"of these, {part}", spread([parts[part] for parts in runs], " s"))


def time_page(rounds: int, seeds: int) -> None:
    """In the report: from the end of a stroke to the bars on the screen, for 21 strokes."""
    times = []
    with picture.report() as tab:
        for number in range(21):
            tab.evaluate(
                """() => { window.answered = new Promise((resolve) => addEventListener("pointerup", () => {
                const end = performance.now();
                requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - end)));
                }, {capture: true, once: true})); }"""
            )
            picture.draw(tab, [(0.3, 0.3), (0.6, 0.3 + number / 100), (0.5, 0.8)])
            times.append(tab.evaluate("window.answered"))
            tab.locator("#clear").click()
    row("the report: from the end of a stroke to the bars on the screen", spread(times, " ms"))


def seconds_of_parts() -> dict[str, float]:
    """Return the seconds of `dvc repro` until its first stage, of each stage with what DVC does for it, and after."""
    with tempfile.TemporaryDirectory() as folder:
        git, dvc = shutil.which("git") or "git", shutil.which("dvc") or "dvc"
        subprocess.run([git, "clone", "--quiet", ".", folder], check=True)
        Path(folder, "dvc.lock").unlink()  # so that evaluate runs, too
        part, start, parts = "DVC's start", time.perf_counter(), {}
        with subprocess.Popen([dvc, "repro"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("Running stage"):
                    now = time.perf_counter()
                    parts[part] = now - start
                    part, start = line.split("'")[1], now
        parts[part] = time.perf_counter() - start
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "dvc repro")
        return parts


def stage_train(recipe: str, seed: int) -> tuple[float, int]:
    """Return the seconds of `python -m stages.train`, from the start of the process to its end, and its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nets", "stages", "recipes", "dvc.yaml", "params.yaml", "requirements.lock"):
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            copy(name, Path(folder, name))
        Path(folder, "data").symlink_to(Path("data").resolve())
        params = Path(folder, "params.yaml")
        chosen = params.read_text().replace("recipe: fast", f"recipe: {recipe}", 1)
        params.write_text(
            chosen.replace("seed: 0 # random seed of weights", f"seed: {seed} # random seed of weights", 1)
        )
        start = time.perf_counter()
        command = [sys.executable, "-c", SMALL_PARENT, sys.executable, "-m", "stages.train"]
        said = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
        return time.perf_counter() - start, int(said.split()[-1]) * 1024


def time_examples(rounds: int, seeds: int) -> None:
    """Until the mean test accuracy passes 99.0 %: `quick` and pytorch/examples' `mnist` as published, in turn."""
    theirs, starts, runs, walls = [], [], [], []
    for seed in range(min(seeds, 5)):
        start = time.perf_counter()
        epochs = apart(peers.examples, RAW, seed, 6)
        starts.append(time.perf_counter() - start - epochs[-1][0])  # of the process
        theirs.append(epochs)
        reached = ", ".join(f"{100 * accuracy:.2f} % after {seconds:.0f} s" for seconds, accuracy in epochs)
        row(f"pytorch/examples, seed {seed}", reached)
        runs.append(apart(ours.trained, "quick", seed, available(), {}))
        walls.append(stage_train("quick", seed)[0])
    means = [mean(accuracy for _, accuracy in results) for results in zip(*theirs, strict=True)]
    for epoch, accuracy in enumerate(means):
        seconds = median(epochs[epoch][0] for epochs in theirs)
        row(f"pytorch/examples after {epoch + 1} epochs", f"{100 * accuracy:.2f} %, {seconds:.0f} s")
    row(f"`quick`: test accuracy, mean of {len(runs)} seeds", f"{mean(100 * run['accuracy'] for run in runs):.2f} %")
    row("`quick`: the whole stage, as a process", spread(walls, " s"))
    row("`quick`: training", spread([run["seconds"] for run in runs], " s"))
    passed = next(epoch for epoch, accuracy in enumerate(means) if accuracy > 0.99)
    until = [epochs[passed][0] for epochs in theirs]
    whole = [(start + seconds) / wall for start, seconds, wall in zip(starts, until, walls, strict=True)]
    row("pytorch/examples' time to 99.0 %, times ours", spread(whole))
    row(
        "the same, training alone", spread([seconds / run["seconds"] for seconds, run in zip(until, runs, strict=True)])
    )


SECTIONS = {
    "fast": time_fast,
    "recipes": table_of_recipes,
    "nets": time_nets,
    "workers": time_workers,
    "pipeline": time_pipeline,
    "page": time_page,
    "examples": time_examples,
}
LONG = ("recipes", "examples")


def main() -> None:
    """Measure the sections that are named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all but recipes and examples")
    parser.add_argument("--rounds", type=int, default=3, help="of each pair")
    parser.add_argument("--seeds", type=int, default=10, help="of each recipe")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if not (RAW / "MNIST/raw/train-images-idx3-ubyte").is_file():
        sys.exit("error: no MNIST in data/; run `dvc repro` first")
    print(f"| PyTorch {torch.__version__}, {available()} cores | median (least to greatest) |\n|---|---|")
    for section in arguments.sections or [name for name in SECTIONS if name not in LONG]:
        SECTIONS[section](arguments.rounds, arguments.seeds)


if __name__ == "__main__":
    main()

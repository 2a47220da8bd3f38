"""What a study found: a table, a picture, a page, and the rows that `dvc plots` draws."""

import textwrap
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from stages.report.pictures import QUIET, WIDTH, quiet_axes
from stages.report.render import render
from stages.report.runs import CONFIDENCE, Run, in_words
from tools.seeds import MEASURES, compare_seeds, difference, groups_of, holm, spread

COLUMNS = ("group", "seed", "epoch", "examples", "train_loss", "validation_loss", "validation_accuracy")
# Okabe and Ito's palette for all kinds of colour vision
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
Groups = dict[str, list[Run]]


def summarise(runs: Sequence[Run]) -> tuple[Groups, dict[str, Any]]:
    """Return the groups of `runs` that differ in the seed alone, by their params, and what is known of them.

    The groups are sorted by their mean validation accuracy, the best first, and those of one seed last. Each pair of
    the others is tested, and the p-values are corrected for the number of pairs. Raises StageError if no group has two
    seeds.
    """
    groups, found = groups_of(runs), compare_seeds([runs])["groups"]
    order = sorted(range(len(groups)), key=lambda place: (len(groups[place]) < 2, -found[place]["validation"]["mean"]))
    groups, found = [groups[place] for place in order], [found[place] for place in order]
    accuracies = [{run.seed: MEASURES["validation"](run) for run in group} for group in groups]
    pairs = [pair for pair in combinations(range(len(groups)), 2) if min(len(accuracies[of]) for of in pair) > 1]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    tested = {pair: difference(accuracies[pair[0]], accuracies[pair[1]], confidence) for pair in pairs}
    for of, p in zip(tested.values(), holm([of.get("p", 1.0) for of in tested.values()]), strict=True):
        if "p" in of:  # without a spread there is none
            of["p_corrected"] = p
    named = {label(of["params"]): group for group, of in zip(groups, found, strict=True)}
    against_best = {other: of for (best, other), of in tested.items() if best == 0}
    return named, {"groups": found, "pairs": len(pairs), "against_best": against_best}


def label(params: dict[str, Any]) -> str:
    """Return `params`, those in which groups differ, in few words."""
    return ", ".join(f"{key.rpartition(':')[2]}={in_words(value)}" for key, value in params.items()) or "all runs"


def table(groups: Groups, found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row for each group, the best first."""
    header = ["params", "n", "validation, %", "below the best, %", "p", "seeds more", "test, %"]
    rows = []
    for place, (name, of) in enumerate(zip(groups, found["groups"], strict=True)):
        tested, count = found["against_best"].get(place), len(of["seeds"])
        fewest = min(count, len(found["groups"][0]["seeds"]))
        cells = ["" if place or len(groups) == 1 else "the best", "", ""]
        if tested:
            cells = [f"{100 * tested['difference']:.3f}", "", ""]
            if "p" in tested:
                lower, upper = (100 * end for end in tested["interval"])
                more = tested["seeds_to_tell"]
                told = tested["p_corrected"] <= 1 - CONFIDENCE
                more = "0" if told else "" if more is None else str(max(1, more - fewest))
                cells = [f"{cells[0]} ({lower:.3f} to {upper:.3f})", f"{tested['p_corrected']:.2g}", more]
        validation, test = (spread(of[measure]).replace("%", "") for measure in MEASURES)
        rows.append([name, str(count), validation, *cells, test])
    return header, rows


def verdict(groups: Groups, found: dict[str, Any]) -> list[str]:
    """Return what the table says, in sentences."""
    names, tested = list(groups), found["against_best"]
    sure = {place: of for place, of in tested.items() if of.get("p_corrected", 1.0) <= 1 - CONFIDENCE}
    said = {
        # paired, the seeds in common may say something else than the means of all
        "It is better than": [place for place, of in sure.items() if of["difference"] > 0],
        "On the seeds in common it is worse than": [place for place, of in sure.items() if of["difference"] < 0],
        "No evidence of a difference from": [place for place, of in tested.items() if "p" in of and place not in sure],
        "Not tested, as one seed or no spread allows no test": [
            place for place in range(1, len(names)) if "p" not in tested.get(place, {})
        ],
    }
    lines = [f"Best by the mean validation accuracy: {names[0]}."] if len(names) > 1 else []
    return lines + [f"{what}: {'; '.join(names[of] for of in places)}." for what, places in said.items() if places]


def legend(found: dict[str, Any]) -> list[str]:
    """Return what the columns of the table mean, in paragraphs."""
    decides = "The validation accuracy decides. The test accuracy decides nothing."
    lines = [f"Mean ± standard deviation over n seeds. {decides}"]
    if tested := found["against_best"]:
        tests = {
            "paired t-tests of the seeds in common" if "paired" in of["test"] else "Welch's t-tests"
            for of in tested.values()
        }
        number = f"all {found['pairs']} pairs of groups" if found["pairs"] > 1 else "one pair of groups"
        lines.append(
            f"p: {' or '.join(sorted(tests))}, corrected for {number} by Holm's method. The intervals hold together at "
            f"{CONFIDENCE:.0%} (Bonferroni). Seeds more: how many more each group needs to detect a difference of this "
            "size in 80% of cases."
        )
    return lines


def rows(groups: Groups) -> list[list[Any]]:
    """Return a row of COLUMNS for each epoch of each run, for `dvc plots`."""
    measured = [(name, run, of) for name, group in groups.items() for run in group for of in epochs(run)]
    return [[name, run.seed, *(float(of[column]) for column in COLUMNS[2:])] for name, run, of in measured]


def epochs(run: Run) -> np.ndarray:
    """Return the rows of the training curve that end an epoch."""
    return run.training[run.training["epoch"] > 0]


def curve(group: Sequence[Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each epoch of `group` the images seen, and the validation loss: mean and standard deviation."""
    losses = np.array([epochs(run)["validation_loss"] for run in group])
    deviation = losses.std(0, ddof=1) if len(group) > 1 else np.zeros(losses.shape[1])
    return epochs(group[0])["examples"], losses.mean(0), deviation


def content(name: str, groups: Groups, found: dict[str, Any], missing: Sequence[str]) -> dict[str, Any]:
    """Return what a page shows of the study `name`, of which the experiments `missing` have not run."""
    shown = []
    for (group, members), of in zip(groups.items(), found["groups"], strict=True):
        columns = ("examples", "mean", "deviation")
        measured = [
            {"name": run.name, "seed": run.seed, **{measure: value(run) for measure, value in MEASURES.items()}}
            for run in members
        ]
        curves = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*curve(members), strict=True)]
        shown.append({"name": group, "curve": curves, "runs": measured, **of["validation"]})
    header, cells = table(groups, found)
    return {
        "name": name,
        "dataset": next(iter(groups.values()))[0].dataset,
        "groups": shown,
        "header": header,
        "cells": cells,
        "verdict": verdict(groups, found),
        "legend": legend(found),
        "missing": missing,
    }


def page(study: dict[str, Any]) -> bytes:
    """Return the page of a study's `content`."""
    return render("study", ["elements", "charts", "study"], {"studies": [study]})


def picture(groups: Groups) -> Figure:
    """Draw the learning curve of each group, and the final accuracies: mean with a band of one standard deviation."""
    matplotlib.rcdefaults()  # whatever a matplotlibrc in this folder says
    figure = Figure(figsize=(2 * WIDTH, max(3.2, 0.5 * len(groups) + 1.5)), layout="constrained")
    curves, final = figure.subplots(1, 2)
    for place, group in enumerate(groups.values()):
        color = PALETTE[place] if len(groups) <= len(PALETTE) else matplotlib.colormaps["viridis"](place / len(groups))
        seen, mean, deviation = curve(group)
        curves.plot(seen, mean, color=color, marker="o", markersize=3, linewidth=1.2)
        curves.fill_between(seen, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
        accuracies = np.array([MEASURES["validation"](run) for run in group])
        middle, half = accuracies.mean(), accuracies.std(ddof=1) if len(group) > 1 else 0
        final.barh(place, 2 * half, 0.5, left=middle - half, color=color, alpha=0.2)
        final.plot(accuracies, np.full(len(group), place), "|", color=color, markersize=9)
        final.plot(middle, place, "o", color=color, markersize=6)
    curves.set(xlabel="training images seen", ylabel="validation loss (nats)")
    curves.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    names = [textwrap.fill(f"{name} (n = {len(group)})", 26) for name, group in groups.items()]
    final.set_yticks(range(len(groups)), names, fontsize=8)
    final.set(xlabel="validation accuracy", ylim=(len(groups) - 0.5, -0.5))
    final.use_sticky_edges = False  # a band does not end at the frame
    final.autoscale(axis="x")
    final.xaxis.set_major_formatter(PercentFormatter(1))
    for axes in (curves, final):
        axes.xaxis.set_major_locator(MaxNLocator(4))
        quiet_axes(axes)
    figure.supxlabel("Mean, with a band of one standard deviation over the seeds", fontsize=8, color=QUIET)
    return figure

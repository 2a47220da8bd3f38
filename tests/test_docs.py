"""Every command in the Markdown is run, page by page, in a clone of its own; what cannot run there is listed here."""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import PROJECT, SECONDS, Clone

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md"))]
FENCE = re.compile(r"(?:<!-- (?P<mark>[^>]+) -->\n)?^```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.M | re.S)
# How many fences of each page are marked `not run`, and why
NOT_RUN = {
    "README.md": ["needs a network", "needs MNIST", "runs the tests"],
    "CONTRIBUTING.md": ["needs a network", "runs the tests", "needs a network"],
    "docs/cluster.md": [
        "needs a cluster; tests/test_slurm.py runs it",
        "takes five minutes",
        "needs a cluster; tests/test_slurm.py runs it",
    ],
    "docs/data.md": ["needs MNIST", "needs MNIST", "needs MNIST and QMNIST's labels"],
    "docs/exact.md": ["takes minutes on an emulated CPU", "needs two machines"],
    "docs/experiments.md": ["the clone is not shallow", "needs the extra `search`; tests/test_search.py runs it"],
    "docs/predict.md": [*3 * ["needs MNIST"], "needs a network", "needs a remote, and a git server"],
    "docs/remotes.md": ["needs a network and a server; tests/test_remotes.py runs ssh and S3"],
    "docs/speed.md": ["takes minutes, and needs MNIST"],
}


class Fence(NamedTuple):
    """A block of commands."""

    language: str
    code: str
    mark: str  # of the comment above it: why it is not run, or which exit status it has

    @property
    def status(self) -> int:
        """The exit status that the page announces."""
        announced = re.match(r"exit status (\d+):", self.mark)
        return int(announced[1]) if announced else 0


def fences(page: str) -> list[Fence]:
    """Return the blocks of commands of a page, in their order."""
    text = (PROJECT / page).read_text()
    found = [Fence(m["language"], m["code"], m["mark"] or "") for m in FENCE.finditer(text)]
    assert len(found) == len(re.findall(r"^```(?:sh|python)$", text, re.M)), "a fence that is not recognised"
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
@pytest.mark.slow
def test_the_commands_of_a_page(finished: Clone, tmp_path: Path, page: str) -> None:
    """From the first to the last, in one clone that has run on scikit-learn's digits; the exit status is as said."""
    run_page(finished.copy(tmp_path / "clone"), page)


def test_the_commands_of_the_readme(finished: Clone, tmp_path: Path) -> None:
    """Those of the README are in the fast suite; each of its comparisons is of one change; it ends where it began."""
    clone = finished.copy(tmp_path / "clone")
    run_page(clone, "README.md")
    changed = json.loads(clone.run("dvc", "params", "diff", "main", "wider", "--json").stdout)
    assert {file: list(keys) for file, keys in changed.items()} == {"recipes/fast.yaml": ["model"]}
    assert clone.run("git", "branch", "--show-current").stdout == "main\n"
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert clone.repro() == []


def run_page(clone: Clone, page: str) -> None:
    """Run the fences of `page` in `clone`."""
    for fence in fences(page):
        if not fence.mark.startswith("not run"):
            shell = ["bash", "-e", "-o", "pipefail", "-c"] if fence.language == "sh" else [sys.executable, "-c"]
            clone.run(*shell, fence.code, status=fence.status, seconds=3 * SECONDS)  # several runs in a block


def test_what_is_not_run() -> None:
    """The marks in the Markdown are those of the list above: a command cannot be left out unnoticed."""
    skipped = {page: [of.mark for of in fences(page) if of.mark.startswith("not run")] for page in PAGES}
    marks = {page: [mark.removeprefix("not run: ") for mark in of_page] for page, of_page in skipped.items()}
    assert {page: reasons for page, reasons in marks.items() if reasons} == NOT_RUN


def test_links_lead_somewhere() -> None:
    """Each relative link of each page names a file, and each anchor a heading of it."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (PROJECT / page).read_text()):
            name, _, anchor = target.partition("#")
            file = (PROJECT / page).parent / name if name else PROJECT / page
            assert file.exists(), f"{page}: {target}"
            headings = [
                re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in (file.read_text().splitlines() if anchor else [])
                if line.startswith("#")
            ]
            assert not anchor or anchor in headings, f"{page}: {target}"

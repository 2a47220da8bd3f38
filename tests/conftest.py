"""What the tests share: real clones of this project, and the real `dvc` run in them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from stages.net import exact

PROJECT = Path(__file__).parent.parent
SECONDS = 280  # until a command or a wait of a test has failed
T = TypeVar("T")


def pytest_configure() -> None:
    """Let what the tests start hear Ctrl-C: a shell that starts pytest in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a gzip file has the second of its making, and pytest-xdist needs the same ids."""
    return argname if isinstance(val, bytes) else None


class Clone:
    """A clone of the project, and the commands that a user types in it."""

    def __init__(self, path: Path, cache: Path):
        self.path = path
        self._environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(cache),
            "OMP_NUM_THREADS": "1",  # the suite itself runs on all cores
            "LC_ALL": "C.UTF-8",  # git's messages are compared
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{
                f"GIT_{who}_{what}": "tests@example.org"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        self._environment.pop("MNIST_MIRROR", None)

    def run(
        self, *command: str, status: int | None = 0, stdin: str = "", seconds: float = SECONDS, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in the clone and check its exit status (None: any). After `seconds`, it is killed and fails."""
        process = self.start(*command, stdin=subprocess.PIPE, seconds=seconds, **environment)
        try:
            output, errors = process.communicate(stdin, timeout=seconds + 10)  # what it left running may hold the pipes
        except BaseException:
            kill(process)
            raise
        said = f"{command}: {process.returncode}\n{output}\n{errors}"
        assert process.returncode != -signal.SIGKILL, f"not ended after {seconds} seconds: {said}"
        assert status is None or process.returncode == status, said
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def start(
        self, *command: str, stdin: int | None = None, seconds: float = SECONDS, **environment: str
    ) -> subprocess.Popen[str]:
        """Start `command` in the clone as a process group of its own, which is killed after `seconds`."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env={**self._environment, **environment},
            stdin=stdin,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=end, args=[process, seconds], daemon=True).start()
        return process

    def repro(self) -> list[str]:
        """Run `dvc repro` and return the stages that it ran."""
        lines = self.run("dvc", "repro").stdout.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def experiments(self, study: str) -> list[str]:
        """Return the full names in git of the experiments of `study`."""
        return self.run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{study}-*").stdout.split()

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the one place where `file` has `old`."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
        (self.path / file).write_text(text.replace(old, new))

    def clone(self, path: Path) -> "Clone":
        """Return a fresh clone of what is committed here: no data, no DVC cache."""
        self.run("git", "clone", "--quiet", "--no-local", str(self.path), str(path))
        return Clone(path, Path(self._environment["XDG_CACHE_HOME"]))

    def copy(self, path: Path) -> "Clone":
        """Return a copy with all that is here, the data and DVC's cache included."""
        shutil.copytree(self.path, path, symlinks=True)
        return Clone(path, Path(self._environment["XDG_CACHE_HOME"]))


Shared = Callable[[str, Callable[[Path], None]], Clone]


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill the group of `process`, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def end(process: "subprocess.Popen[str]", seconds: float) -> None:
    """Wait for the end of `process`, and kill its group after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)


def wait_until(reached: Callable[[], T], what: str, shown: Callable[[], object] = str, seconds: float = SECONDS) -> T:
    """Wait until `reached` returns something true, and return it. After `seconds`, fail with `what` and `shown()`."""
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline, f"waited {seconds} seconds until {what}\n{shown()}"
        time.sleep(0.1)
    return found


def wait_for_runs(
    process: "subprocess.Popen[str]", clone: Clone, study: str, count: int, shown: Callable[[], object] = str
) -> str:
    """Wait until `process` has run `count` experiments of `study`, one after the other, and return what it printed."""
    for least in range(1, count + 1):

        def reached(least: int = least) -> bool:
            return len(clone.experiments(study)) >= least or process.poll() is not None

        wait_until(reached, f"{least} of {count} runs have ended", shown)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output + errors
    return output


def line_with(process: "subprocess.Popen[str]", text: str, stream: str = "stdout") -> str:
    """Return the first line of what `process` writes that has `text` in it."""
    said = []
    for line in getattr(process, stream):
        if text in line:
            return str(line)
        said.append(line)
    raise AssertionError(f"{process.args!r} ended with {process.wait()}, and without {text!r}:\n{''.join(said[-50:])}")


@pytest.fixture(scope="session", autouse=True)
def _pinned() -> None:
    """What the tests compute themselves, they compute as the stages do."""
    exact.pin()


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all workers of xdist. Its `cache` is the one of all clones: the kernels are compiled once."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def origin(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository whose commit is this working tree: what git tracks and what it would."""
    origin = Clone(tmp_path_factory.mktemp("origin") / "project", common / "cache")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).exists():
            (origin.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, origin.path / name)
    origin.run("git", "init", "--quiet", "--initial-branch", "main")
    origin.run("git", "add", "--all")
    origin.run("git", "commit", "--quiet", "--message", "the working tree")
    return origin


@pytest.fixture(scope="session")
def shared(common: Path) -> Shared:
    """A function that returns the clone called `name`, which `build` makes once for all workers of xdist."""

    def clone(name: str, build: Callable[[Path], None]) -> Clone:
        place = common / name
        with FileLock(f"{place}.lock"):
            if not (place / "done").exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                build(place)
                (place / "done").touch()
        return Clone(place / "project", common / "cache")

    return clone


@pytest.fixture(scope="session")
def finished(origin: Clone, shared: Shared) -> Clone:
    """A clone in which the pipeline has run on `digits` and all is committed: to be copied, not changed.

    Its recipes have no `min_steps`: a training takes a second.
    """

    def build(place: Path) -> None:
        clone = origin.clone(place / "project")
        for recipe in clone.path.glob("recipes/*.yaml"):
            recipe.write_text(re.sub(r"min_steps: \d+", "min_steps: 0", recipe.read_text()))
        clone.run("dvc", "exp", "run", "-S", "download.dataset=digits")
        clone.run("git", "commit", "--quiet", "--all", "--message", "digits")

    return shared("finished", build)


@pytest.fixture(scope="session")
def measured(finished: Clone, shared: Shared) -> Clone:
    """The same, but its pipeline ends with evaluate, for tests of other things: a report takes 3 seconds of CPU."""

    def build(place: Path) -> None:
        clone = finished.copy(place / "project")
        text = (clone.path / "dvc.yaml").read_text()
        (clone.path / "dvc.yaml").write_text(re.sub("\n  report:.*(?=\nartifacts:)", "", text, flags=re.DOTALL))
        clone.run("git", "commit", "--quiet", "--all", "--message", "no report")

    return shared("measured", build)


@pytest.fixture(scope="session")
def on_mnist(mirror: Path, origin: Clone, shared: Shared) -> Clone:
    """A fresh clone in which the pipeline has run on the real MNIST: to be copied, not changed."""

    def build(place: Path) -> None:
        clone = origin.clone(place / "project")
        longest = 3 * SECONDS  # of all the tests, the longest run
        clone.run("dvc", "repro", seconds=longest, MNIST_MIRROR=str(mirror), OMP_NUM_THREADS="2")

    return shared("mnist", build)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the four files of MNIST; skips the test where it is not named."""
    if "MNIST_MIRROR" not in os.environ:
        pytest.skip("needs the real MNIST: name a folder that has it in MNIST_MIRROR")
    return Path(os.environ["MNIST_MIRROR"]).absolute()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium, as Debian has it; skips the test where there is none."""
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs Chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()

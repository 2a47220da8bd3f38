"""What a job of a cluster does with its result: pushed until it is there, also to a server that refuses most."""

from __future__ import annotations

import getpass
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages.common.errors import StageError
from tests.conftest import SECONDS, Clone
from tests.made import Made, make
from tools import job

if TYPE_CHECKING:
    from tests.servers import Sshd

pytest_plugins = ["tests.servers"]
pytestmark = pytest.mark.slow
JOBS = 50


def there(repository: Path) -> list[str]:
    """Return the experiments that `repository` has."""
    listed = ["git", "-C", str(repository), "for-each-ref", "--format=%(refname)", "refs/exps/*/*/job-*"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()


def test_fifty_jobs_push_at_once(finished: Clone, tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sshd drops connections beyond ten that have not logged in. Pushed once, results are lost; by `push`, none."""
    clone, folders = finished.copy(tmp_path / "clone"), [tmp_path / "once.git", tmp_path / "until.git"]
    make(clone, (Made(f"job-{seed}", seed, 0.01, 0.9) for seed in range(JOBS)))
    for folder in folders:
        clone.run("git", "init", "--quiet", "--bare", str(folder))
    user = f"{sshd.home}/.ssh"
    ssh = f"ssh -F none -i {user}/id_ed25519 -o UserKnownHostsFile={user}/known_hosts -o BatchMode=yes"
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh)
    monkeypatch.setattr(job, "LONGEST", 8)  # so that pushes that fail for good end within two minutes
    once, until = (f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}{folder}" for folder in folders)
    refs = there(clone.path)
    assert len(refs) == JOBS
    plain = [["git", "-C", str(clone.path), "push", "--quiet", once, ref] for ref in refs]
    with ThreadPoolExecutor(JOBS) as pool:
        done = list(pool.map(lambda of: subprocess.run(of, capture_output=True, text=True, timeout=SECONDS), plain))
        statuses = [of.returncode for of in done]
        assert 0 in statuses, done[0].stderr
        list(pool.map(lambda ref: job.push(clone.path, until, ref), refs))
    print(f"pushed once, {JOBS - len(there(folders[0]))} of {JOBS} are lost")
    assert len(there(folders[0])) == statuses.count(0) < JOBS
    assert there(folders[1]) == refs


def test_a_result_that_is_there_is_not_pushed_again(
    finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that ran twice leaves the first result; a repository that is not there is named in the end.

    A hook of the user's that refuses each push, of a branch as it thinks, refuses no result.
    """
    clone, other, bare = (tmp_path / name for name in ("clone", "other", "bare"))
    clones = [finished.copy(clone), finished.copy(other)]
    for of, accuracy in zip(clones, (0.9, 0.8), strict=True):
        make(of, [Made("job-1", 1, 0.01, accuracy)])
    clones[0].run("git", "init", "--quiet", "--bare", str(bare))
    (ref,) = there(clone)
    for place in (clone, other):
        (place / ".git/hooks/pre-push").write_text("#!/bin/sh\nexit 1\n")
        (place / ".git/hooks/pre-push").chmod(0o755)
        job.push(place, bare, ref)
    first, kept = (of.run("git", "rev-parse", ref).stdout for of in (clones[0], Clone(bare, tmp_path)))
    assert kept == first
    monkeypatch.setattr(job, "ATTEMPTS", 2)
    with pytest.raises(StageError, match=r"not pushed after 2 attempts; git .*nowhere.*run the job again"):
        job.push(clone, tmp_path / "nowhere", ref)


def test_a_cache_of_any_name(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clone of a job has the cache of this one, also in a folder with signs that mean something to DVC's config."""
    clone = finished.copy(tmp_path / "a, b # c")
    monkeypatch.chdir(clone.path)
    with job.clone(clone.run("git", "rev-parse", "HEAD").stdout.strip()) as place:
        found = Clone(place, tmp_path).run("dvc", "cache", "dir").stdout.strip()
    assert Path(found) == clone.path / ".dvc/cache"

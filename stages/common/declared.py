"""What dvc.yaml declares that a stage depends on, and whether it changed while the stage ran."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.common import settings
from stages.common.errors import StageError

Fingerprint = dict[str, str]
IGNORED = re.compile(r"__pycache__/|\.tmp$")  # as .dvcignore has it


def fingerprint(stage: str) -> Fingerprint:
    """Return what each dependency of `stage` in dvc.yaml is: a file by its SHA-256, a param by its value as JSON."""
    declared = settings.read(Path("dvc.yaml"))["stages"][stage]
    found: Fingerprint = {}
    for dep in map(Path, map(_filled, declared["deps"])):
        for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
            if file.is_file() and not IGNORED.search(file.as_posix()):
                with file.open("rb") as content:
                    found[file.as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    for param in declared.get("params", []):
        if isinstance(param, dict):  # a params file as a whole
            (name,) = map(_filled, param)
            found[name] = json.dumps(settings.read(Path(name)), sort_keys=True)
        else:
            found[f"{settings.PARAMS}: {param}"] = json.dumps(settings.value(param), sort_keys=True)
    return found


def _filled(name: str) -> str:
    """Return `name` with the params in it that DVC fills in, such as `${train.recipe}`."""
    return re.sub(r"\$\{([^}]+)\}", lambda key: str(settings.value(key[1])), name)


@contextmanager
def unchanged(stage: str) -> Iterator[None]:
    """Raise StageError at the end if a dependency of `stage` has changed since the beginning.

    DVC records what the dependencies are after the command (treeverse/dvc#11058): an edit in the meantime would be
    recorded as if the outputs came from it.
    """
    before = fingerprint(stage)
    yield
    if changed := sorted({name for name, _ in before.items() ^ fingerprint(stage).items()}):
        raise StageError(f"changed while the stage {stage} ran: {', '.join(changed)}; run `dvc repro` again")

"""What dvc.yaml declares that a stage depends on, and whether it changed while the stage ran."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common import settings
from stages.common.errors import StageError

Fingerprint = dict[str, str]


def fingerprint(stage: str) -> Fingerprint:
    """Return what each dependency of `stage` in dvc.yaml is: a file by its SHA-256, a param by its value as JSON."""
    params = settings.read(settings.PARAMS)
    declared = settings.read(Path("dvc.yaml"))["stages"][stage]
    found: Fingerprint = {}
    for dep in map(Path, declared["deps"]):
        for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
            if file.is_file():
                with file.open("rb") as content:
                    found[file.as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    for param in declared["params"]:
        # `recipes.${train.recipe}`, as DVC fills it in
        key = re.sub(r"\$\{([^}]+)\}", lambda match: str(_look_up(params, match[1])), param)
        found[f"{settings.PARAMS}: {key}"] = json.dumps(_look_up(params, key), sort_keys=True)
    return found


def _look_up(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


@contextmanager
def held(stage: str) -> Iterator[Fingerprint]:
    """Yield the fingerprint of `stage`, and raise StageError if it is another one at the end.

    DVC records what the dependencies are after the command (treeverse/dvc#11058): an edit in the meantime would be
    recorded as if the outputs came from it.
    """
    before = fingerprint(stage)
    yield before
    after = fingerprint(stage)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise StageError(f"changed while the stage {stage} ran: {', '.join(changed)}; run `dvc repro` again")

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
IGNORED = re.compile(r"__pycache__/|\.tmp$")  # as .dvcignore has it


def fingerprint(stage: str) -> Fingerprint:
    """Return what each dependency of `stage` in dvc.yaml is: a file by its SHA-256, a param by its value as JSON."""
    params = settings.read(settings.PARAMS)
    declared = settings.read(Path("dvc.yaml"))["stages"][stage]
    found: Fingerprint = {}
    for dep in (Path(_filled(params, dep)) for dep in declared["deps"]):
        for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
            if file.is_file() and not IGNORED.search(file.as_posix()):
                with file.open("rb") as content:
                    found[file.as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    for param in declared.get("params", []):
        if isinstance(param, dict):  # a params file as a whole
            (name,) = (_filled(params, name) for name in param)
            found[name] = json.dumps(settings.read(Path(name)), sort_keys=True)
        else:
            found[f"{settings.PARAMS}: {param}"] = json.dumps(_param(params, param), sort_keys=True)
    return found


def _filled(params: Any, name: str) -> str:
    """Return `name` with the params in it that DVC fills in, such as `${train.recipe}`."""
    return re.sub(r"\$\{([^}]+)\}", lambda key: str(_param(params, key[1])), name)


def _param(params: Any, key: str) -> Any:
    return settings.look_up(params, key, str(settings.PARAMS))


@contextmanager
def unchanged(stage: str) -> Iterator[None]:
    """Raise StageError at the end if a dependency of `stage` has changed since the beginning.

    DVC records what the dependencies are after the command (treeverse/dvc#11058): an edit in the meantime would be
    recorded as if the outputs came from it.
    """
    before = fingerprint(stage)
    yield
    after = fingerprint(stage)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise StageError(f"changed while the stage {stage} ran: {', '.join(changed)}; run `dvc repro` again")

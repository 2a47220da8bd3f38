"""Settings: a section of params.yaml, or a recipe's file, checked as a whole before any work."""

import functools
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import StageError

PARAMS = Path("params.yaml")


class Settings(BaseModel):
    """Settings of a file: every key required unless it has a default, none unknown, no type bent to fit."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def read(path: Path) -> Any:
    """Return what the YAML file at `path` says. Raises StageError if it is not there or not YAML."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        there = ", ".join(sorted(other.name for other in path.parent.glob("*.yaml"))) or "no such files"
        raise StageError(
            f"{path}: not found; run from the project's root, or `git restore {path}`; {path.parent} has {there}"
        ) from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Any:
    """Return what `content`, that of a YAML file called `name`, says. Raises StageError if it is not YAML.

    The parser is DVC's own (YAML 1.2), so that `1e-05` is a number here as it is there.
    """
    try:
        return _parse(content)
    except (YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, or a date such as 2024-13-45
        raise StageError(f"{name}: not YAML: {' '.join(str(error).split())}; see `git diff {name}`") from None


@functools.cache  # a stage asks for the same content up to eight times, 40 ms each; nobody changes what it is given
def _parse(content: bytes) -> Any:
    return YAML(typ="safe").load(content.decode())


def value(key: str, path: Path = PARAMS) -> Any:
    """Return what the file at `path` has at `key` (dotted: `split.method`). Raises StageError if there is none."""
    return look_up(read(path), key, str(path))


def look_up(values: Any, key: str, name: str) -> Any:
    """Return what `values`, those of a file called `name`, have at `key`. Raises StageError if there is nothing."""
    parts = key.split(".")
    for place, part in enumerate(parts):
        if not isinstance(values, dict) or part not in values:
            there = ", ".join(map(str, values)) if isinstance(values, dict) else "no section"
            where = ".".join(parts[:place]) or "the top level"
            raise StageError(f"{name}: {key}: missing; expected `{part}` at {where}, got {there}")
        values = values[part]
    return values


Checked = TypeVar("Checked", bound=Settings)


def load(kind: type[Checked], section: str | None = None, path: Path = PARAMS) -> Checked:
    """Return `section` of the file at `path`, and nothing else of it; the whole file if no section is named.

    Raises StageError naming each key that is missing, unknown, of the wrong type or out of range.
    """
    values = read(path) if section is None else value(section, path)
    if not isinstance(values, dict):
        where = f"{path}: {section}" if section else str(path)
        raise StageError(f"{where}: got {values!r}, expected a section of keys; see `git diff {path}`")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise StageError(_explain(error, section, kind, path)) from None


def _explain(error: ValidationError, section: str | None, kind: type[Settings], path: Path) -> str:
    lines = []
    for problem in error.errors():
        match problem["type"]:
            case "extra_forbidden":
                fault = f"unknown key; expected one of {', '.join(kind.model_fields)}"
            case "missing":
                fault = "missing; add it"
            case "value_error":
                fault = f"expected {problem['msg'].removeprefix('Value error, ')}"
            case _:
                fault = f"got {problem['input']!r}, expected {problem['msg'].removeprefix('Input should be ')}"
        key = ".".join(map(str, [section, *problem["loc"]] if section else problem["loc"]))
        lines.append(f"{key}: {fault}" if key else fault)  # a check of the whole file has no key
    return "\n  ".join([f"{path}: fix this, or see `git diff {path}`", *lines])

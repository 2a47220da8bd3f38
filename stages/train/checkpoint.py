"""Going on after an interruption: the state at the end of an epoch, for exactly one configuration."""

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch

from stages.common import files
from stages.common.declared import Fingerprint
from stages.net import exact

FOLDER = Path(".checkpoints")  # no output of DVC, which deletes those before a stage runs
DIGEST_SIZE = hashlib.sha256().digest_size  # bytes at the beginning of a file, of the SHA-256 of the rest


def configuration(fingerprint: Fingerprint, device: torch.device) -> str:
    """Return the SHA-256 of all that decides the bits: params, data, code, versions and the kind of device."""
    return hashlib.sha256(json.dumps([fingerprint, exact.environment(device)], sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """The file of one configuration: no other run ever reads it."""

    def __init__(self, configuration: str):
        self._path = FOLDER / f"{configuration}.pt"

    def save(self, state: Any) -> None:
        """Put `state` (tensors and plain values) in the place of the one before."""
        content = io.BytesIO()
        torch.save(state, content)
        files.write_whole(self._path, hashlib.sha256(content.getvalue()).digest() + content.getvalue())

    def read(self) -> bytes:
        """Return the state that `save` wrote, for `decode`; nothing if there is none.

        A damaged file is named on stderr; the next `save` replaces it.
        """
        files.remove_stale(FOLDER)
        if not self._path.is_file():
            return b""
        content = self._path.read_bytes()
        digest, state = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
        if hashlib.sha256(state).digest() != digest:
            print(f"warning: {self._path}: damaged; the training begins anew", file=sys.stderr)
            return b""
        return state

    def delete(self) -> None:
        """Remove the file: the run has ended well."""
        self._path.unlink(missing_ok=True)


def decode(content: bytes) -> Any:
    """Return the state that `save` was given, from what `read` returns."""
    return torch.load(io.BytesIO(content), weights_only=True)

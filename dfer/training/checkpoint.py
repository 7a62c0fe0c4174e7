"""The state of a training that is under way: `checkpoint.pt`.

It holds tensors, numbers, strings, lists and dicts alone, so that reading it runs no code. No random state is in it:
every epoch derives its own from the seed (`dfer.system.randomness`).
"""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dfer.storage.file_names import CHECKPOINT
from dfer.storage.files import replacing

_log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint cannot be read, or belongs to another training."""


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state; the checkpoint before it stays until this one is complete on disk."""
    content = io.BytesIO()  # torch's own writing of files does not say that a disk is full
    torch.save(dict(state), content)
    with replacing(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state in a training's folder (tensors on the CPU), None if there is none.

    Raises CheckpointError for a damaged file.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        # torch reads without comparing the archive's checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it to train again from the first epoch, or put a copy of it back"
        ) from error
    return dict(state)


def remove_damaged(folder: Path) -> None:
    """Remove a training's checkpoint if it cannot be read, and say so: the training begins anew then."""
    try:
        read_checkpoint(folder)
    except CheckpointError as error:
        _log.warning("%s. It is removed: the training begins with its first epoch again", error)
        (folder / CHECKPOINT).unlink()


def read_extra(folder: Path) -> dict[str, Any] | None:
    """What the caller of `train` had stored in the checkpoint as `extra`; None if there is no checkpoint."""
    state = read_checkpoint(folder)
    return None if state is None else state["extra"]


def check_fingerprint(folder: Path, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise CheckpointError, naming what differs, unless a checkpoint was written by this very training."""
    differing = [
        f"{key} was {stored.get(key)}, is {current.get(key)}"
        for key in sorted(stored.keys() | current.keys())
        if stored.get(key) != current.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{folder / CHECKPOINT} was written by a training with other settings or clips: {'; '.join(differing)}. "
            "Go back to those, or delete the file to train from the first epoch."
        )

"""The state of a training that is under way: `checkpoint.pt`, and what tells whose it is.

It holds tensors, numbers, strings, lists and dicts alone, so that reading it runs no code. No random state is in it:
every epoch derives it from the seed (`dfer.system.randomness`).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from dfer.config.catalogue import IMAGENET_MEAN
from dfer.config.settings import LabelSettings
from dfer.storage.file_names import CHECKPOINT
from dfer.storage.files import replacing
from dfer.training.plan import Plan
from dfer.training.split import Splits
from dfer.training.targets import shares_of, single_labels

if TYPE_CHECKING:
    from dfer.training.run import EpochRow

# These decide how fast a training is and how much of it a crash can cost, not what it computes. Except micro_batches:
# BatchNorm sees them, but they may become more when memory runs out; the summary says how many they were.
_FREE_TO_CHANGE = {"threads", "loader_workers", "cache", "checkpoint_every", "micro_batches", "cuda_graph"}

_log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint cannot be read, or belongs to another training."""


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state; the checkpoint before it stays until this one is complete on disk."""
    content = io.BytesIO()  # torch.save to a file does not report a full disk
    torch.save(dict(state), content)
    with replacing(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state in a training's folder (tensors on the CPU), None if there is none.

    Raises CheckpointError for a damaged file.
    """
    path = folder / CHECKPOINT
    return _read(path) if path.exists() else None


def _read(path: Path) -> dict[str, Any]:
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
    """Remove a training's checkpoint if it cannot be read, and log it: the training then begins anew."""
    try:
        read_checkpoint(folder)
    except CheckpointError as error:
        _log.warning("%s. It is removed: the training begins with its first epoch again", error)
        (folder / CHECKPOINT).unlink()


def begin_with(shorter: Path, folder: Path, epochs: int) -> list[EpochRow]:
    """Let the training in `folder`, of `epochs` epochs, go on where a shorter one of the same settings has ended.

    `shorter` is the last checkpoint of that training. Only the schedule `step` can be gone on with: the learning rates
    of the others depend on the number of epochs. Returns the history so far. Raises ValueError for another schedule or
    a training that is not shorter, CheckpointError for a damaged file. That all other settings and the clips are the
    same is checked when the training begins (`check_fingerprint`).
    """
    state = _read(shorter)
    identity, before = state["fingerprint"], len(state["history"])
    if identity["train.schedule"] != "step" or before >= epochs:
        raise ValueError(
            f"{shorter} is of {before} epochs with the schedule {identity['train.schedule']}: expected a training with "
            f"the schedule step and fewer than {epochs} epochs"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, {**state, "fingerprint": {**identity, "train.epochs": str(epochs)}})
    return list(state["history"])


def fingerprint(plan: Plan, splits: Splits, device: str, *, tf32: bool) -> dict[str, str]:
    """Everything that decides what a training computes, as text by name, so that an error can name what differs."""
    values = {
        f"{section}.{key}": str(value)
        for section, keys in plan.as_dict().items()
        for key, value in keys.items()
        if key not in _FREE_TO_CHANGE
    }
    # unknown to earlier checkpoints
    if plan.labels == LabelSettings():
        del values["labels.classes"], values["labels.merge"]
    if plan.train.processes == 1:
        del values["train.processes"]
    if not plan.model.freeze:
        del values["model.freeze"]
    if not plan.train.deterministic:
        del values["train.deterministic"]
    if plan.network.mean != IMAGENET_MEAN:
        values["pixels"] = f"minus {plan.network.mean}, divided by {plan.network.std}"
    values["train.device"] = device
    if device == "cuda":
        values["TF32"] = str(tf32)
    for name in ("training", "validation", "monitor"):
        source = getattr(splits, name)
        values[f"{name} clips"] = "none" if source is None else _digest(source.clips)
    return values


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


def _digest(clips: pd.DataFrame) -> str:
    known = clips["votes"].notna()
    votes = [[int(count) for count in row] if has else None for row, has in zip(clips["votes"], known, strict=True)]
    facts = [clips["clip_id"].tolist(), single_labels(clips).tolist(), votes]
    shares = shares_of(clips)
    if (known := shares.notna()).any():  # unknown to earlier checkpoints
        facts.append([list(row) if has else None for row, has in zip(shares, known, strict=True)])
    text = json.dumps(facts)
    return f"{len(clips)} ({hashlib.sha256(text.encode()).hexdigest()[:12]})"

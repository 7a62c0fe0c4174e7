"""What one training is made of: its settings and its clips."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dfer.config.settings import (
    ArmSettings,
    GroupSettings,
    MixingSettings,
    ModelSettings,
    SamplingSettings,
    TrainSettings,
)
from dfer.datasets.groups import expression_group
from dfer.storage.remote import Location
from dfer.training.data import ClipSource
from dfer.training.split import validation_rows
from dfer.training.targets import has_target, single_labels

# They decide how fast a training runs and how much of it a crash can cost, not what it computes; but for the
# micro-batches, which may become more when memory runs out, and which BatchNorm sees: the summary says how many.
_FREE_TO_CHANGE = {"threads", "loader_workers", "cache", "checkpoint_every", "micro_batches"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The sections of the configuration that a training sees."""

    arm: ArmSettings
    mixing: MixingSettings
    model: ModelSettings
    sampling: SamplingSettings
    groups: GroupSettings
    train: TrainSettings

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """All settings as JSON data, by section."""
        return {name: getattr(self, name).model_dump(mode="json") for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Parts:
    """The clips of a training.

    Attributes:
        training: what the weights are fitted to.
        validation: the inner part that chooses the epoch; None if the last one is taken.
        monitor: the test fold, only looked at; None if it is not.
        left_out: clips of the training part that cannot be used, by reason.
    """

    training: ClipSource
    validation: ClipSource | None
    monitor: ClipSource | None
    left_out: dict[str, int]

    @property
    def sources(self) -> dict[str, ClipSource]:
        """Those that there are, by name."""
        every = {"training": self.training, "monitor": self.monitor, "validation": self.validation}
        return {name: source for name, source in every.items() if source is not None}


def divide(clips: pd.DataFrame, monitor: pd.DataFrame | None, index: pd.DataFrame, root: Location, plan: Plan) -> Parts:
    """The parts of a training; what cannot be used is counted and logged.

    Raises ValueError when a clip is listed twice, when a part that is needed has no usable clip, or when a class of the
    training clips has no clear one though a group of clear or mixed expressions is asked for.
    """
    twice = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(twice):
        raise ValueError(f"the clip table lists {len(twice)} clips twice, the first is {twice.iloc[0]}")
    clips = clips.reset_index(drop=True)
    every = pd.Series(True, index=clips.index)
    aligned = clips["clip_id"].isin(index["clip_id"][index["status"] == "ok"])
    # Without votes there is no soft label of any clip: that is an error later on, not a clip to leave out.
    labelled = has_target(clips, plan.arm) if plan.arm.labels == "hard" else every
    left_out = {
        "without aligned face": int((~aligned).sum()),
        "without single label": int((aligned & ~labelled).sum()),
    }
    for reason, count in left_out.items():
        if count:
            _log.warning("%d of %d training clips are left out: %s", count, len(clips), reason)
    inner = ~every
    if plan.train.selection == "validation":
        usable = clips[aligned & labelled]
        inner[usable.index] = validation_rows(usable, plan.train.validation_share, plan.train.seed)

    training = clips[labelled & ~inner]
    if plan.arm.clips != "all":
        candidates = training[aligned]
        training = expression_group(
            candidates,
            plan.arm.clips,
            clear_above=plan.groups.clear_above,
            size=plan.groups.size,
            seed=plan.train.seed,
        )
        drawn = training["clip_id"].nunique()
        left_out[f"not drawn into the {plan.arm.clips} group"] = len(candidates) - drawn
        left_out["there again, over-sampled"] = len(training) - drawn

    def source(table: pd.DataFrame) -> ClipSource:
        return ClipSource(
            table,
            index,
            root,
            num_segments=plan.sampling.num_segments,
            input_size=plan.model.input_size,
            augment=plan.train.augment,
            seed=plan.train.seed,
        )

    return Parts(
        training=source(training),
        validation=source(clips[inner & clips["label"].notna()]) if inner.any() else None,
        monitor=source(monitor[monitor["label"].notna()]) if monitor is not None and plan.train.monitor_every else None,
        left_out=left_out,
    )


def fingerprint(plan: Plan, parts: Parts, device: str, *, tf32: bool) -> dict[str, str]:
    """All that decides what a training computes, as text by name, so that a difference can be named."""
    values = {
        f"{section}.{key}": str(value)
        for section, keys in plan.as_dict().items()
        for key, value in keys.items()
        if key not in _FREE_TO_CHANGE
    }
    if plan.train.processes == 1:
        del values["train.processes"]  # unknown to earlier checkpoints
    values["train.device"] = device
    if device == "cuda":
        values["TF32"] = str(tf32)
    for name in ("training", "validation", "monitor"):
        source = getattr(parts, name)
        values[f"{name} clips"] = "none" if source is None else _digest(source.clips)
    return values


def _digest(clips: pd.DataFrame) -> str:
    known = clips["votes"].notna()
    votes = [[int(count) for count in row] if has else None for row, has in zip(clips["votes"], known, strict=True)]
    text = json.dumps([clips["clip_id"].tolist(), single_labels(clips).tolist(), votes])
    return f"{len(clips)} ({hashlib.sha256(text.encode()).hexdigest()[:12]})"

"""Which clips a training is fitted to, which choose its epoch, and which are only evaluated."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pandas as pd

from dfer.datasets.groups import expression_group
from dfer.datasets.inner_part import validation_rows
from dfer.datasets.trainable import can_be_trained_on
from dfer.training.data import ClipSource
from dfer.training.plan import Plan, TrainingData

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The clips of a training."""

    training: ClipSource  # what the weights are fitted to
    validation: ClipSource | None  # the inner part that chooses the epoch; None if the last one is taken
    monitor: ClipSource | None  # the test fold, only evaluated; None if it is not
    left_out: dict[str, int]  # clips of the training part that cannot be used, by reason

    @property
    def sources(self) -> dict[str, ClipSource]:
        """Those that are not None, by name."""
        every = {"training": self.training, "monitor": self.monitor, "validation": self.validation}
        return {name: source for name, source in every.items() if source is not None}


def split_clips(plan: Plan, data: TrainingData) -> Splits:
    """The clips that a training uses, and for what; those that it cannot use are counted and logged.

    Raises ValueError when a clip is listed twice, when a part that is needed has no usable clip, or when a class of the
    training clips has no clear one though a group of clear or mixed expressions is asked for.
    """
    clips, index = data.clips, data.index
    twice = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(twice):
        raise ValueError(f"the clip table lists {len(twice)} clips twice, the first is {twice.iloc[0]}")
    clips = clips.reset_index(drop=True)
    every = pd.Series(True, index=clips.index)
    aligned = clips["clip_id"].isin(index["clip_id"][index["status"] == "ok"])
    labelled = can_be_trained_on(clips, plan.arm)
    hard, lacking = plan.arm.labels == "hard", int((aligned & ~labelled).sum())
    left_out = {"without aligned face": int((~aligned).sum()), "without single label": lacking if hard else 0}
    if lacking and not hard:
        left_out["without votes"] = lacking
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
            data.root,
            num_segments=plan.sampling.num_segments,
            consecutive=plan.sampling.consecutive,
            input_size=plan.model.input_size,
            augment=plan.train.augment,
            seed=plan.train.seed,
        )

    monitor = data.monitor if plan.train.monitor_every else None
    return Splits(
        training=source(training),
        validation=source(clips[inner & clips["label"].notna()]) if inner.any() else None,
        monitor=None if monitor is None else source(monitor[monitor["label"].notna()]),
        left_out=left_out,
    )

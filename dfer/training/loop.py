"""One training: an arm on the training clips of a fold, from the first epoch to a saved model."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision

from dfer import __version__
from dfer.config.settings import (
    ArmSettings,
    GroupSettings,
    MixingSettings,
    ModelSettings,
    SamplingSettings,
    Section,
    TrainSettings,
)
from dfer.labels import EMOTIONS
from dfer.models.saved import save_model
from dfer.storage.file_names import HISTORY
from dfer.storage.files import remove_unfinished, write_atomically
from dfer.storage.remote import Location
from dfer.system.memory import keep_freed_memory
from dfer.training.checkpoint import CheckpointError, check_fingerprint, read_checkpoint, write_checkpoint
from dfer.training.job import write_job
from dfer.training.optimization import choose_device, choose_precision, torch_state
from dfer.training.plan import Plan, divide, fingerprint
from dfer.training.run import Row, Run
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD
from dfer.training.world import ALONE, World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training has left behind.

    Attributes:
        folder: where the model, its history and its checkpoint are.
        epoch: the epoch whose weights were saved, from 1.
        history: one row per epoch, see `train`.
        summary: `epoch`, `chosen_by`, `best_on_test_fold` (`epoch`, `war`, `uar`, chosen on the test fold and therefore
            never the result; None if it was not looked at), `clips` and `left_out` (counts), `seconds`, `precision`
            that was used, `cache`: where decoded frames were kept, their GiB, and why there, and `processes` and
            `micro_batches`: how many trained together, and in how many parts each share of a batch was computed in the
            last epoch.
    """

    folder: Path
    epoch: int
    history: list[Row]
    summary: dict[str, Any]


def train(
    *,
    clips: pd.DataFrame,
    monitor: pd.DataFrame | None,
    index: pd.DataFrame,
    root: Location,
    arm: ArmSettings,
    mixing: MixingSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    settings: TrainSettings,
    folder: Path,
    card: Mapping[str, Any],
    threads: int = 0,
    groups: GroupSettings = GroupSettings(),  # noqa: B008 - frozen
    side_by_side: int = 1,
    on_its_gpu: int | None = None,
    world: World | None = None,
    extra: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> TrainResult:
    """Train one arm (section 4.3), or go on with it where the checkpoint in `folder` ends.

    The folder gets `checkpoint.pt`, `history.json` (`epochs` and `summary`), `model.safetensors` and `model.json`, and
    with `monitor` also the weights of the best epoch on it, for comparisons with code that reports those. A training
    that was killed and goes on ends with the same numbers as one that was not. On a CPU the same seed and number of
    threads give the same numbers; arms with the same seed and clips start from the same weights and see the same
    batches, whatever their labels and mixing.

    A row of the history has `epoch` (from 1), `loss` (mean over clips, against the arm's own targets), `learning_rate`
    (at the start of the epoch), `train_accuracy` (against the single label of the clip that was not mixed in, in
    training mode; None without labels), `seconds` (training only), `clips_per_second`, `data_seconds` (waiting for
    clips; filling the cache is part of the first epoch's), `data_wait` (their share of `seconds`), and where they were
    looked at `monitor_war`, `_uar`, `_nll` and `validation_war`, `_uar`, `_nll`.

    The process keeps memory that it frees (`keep_freed_memory`).

    With `settings.processes` above 1 that many are started here, one a GPU (`dfer.training.distributed`). They compute
    the mean over the whole batch, with its batch normalisation; each mixes within its own share, and drops out by its
    own stream.

    With `settings.micro_batches` above 1 (or that of the checkpoint, where that is more) each share of a batch is
    computed in so many parts: the gradient stays that of the mean over the batch, but BatchNorm sees the parts.

    Args:
        clips: the training part of the clip table. Clips without aligned faces, and in an arm with hard labels those
            without a single label, are left out and counted in the summary.
        monitor: the test fold, looked at every `settings.monitor_every` epochs and never used to choose anything.
        index: the align index; its shard folders are relative to `root`.
        root: see `index`.
        arm, mixing, model, sampling, groups, settings: sections of the configuration; instead of `settings.threads`,
            `threads` counts.
        folder: made if it is not there.
        card: goes into the model's card beside the keys that every card has, for example how the faces were aligned.
        threads: CPU threads; 0 leaves torch's number.
        side_by_side: how many trainings run on this machine at a time, and share its memory.
        on_its_gpu: how many of them share a GPU; None: all.
        world: for a process that was started for a part of a training; every one of them makes the same call.
        extra: plain values kept in the checkpoint for the caller, see `read_extra`.
        on_epoch: called with each row before that epoch's checkpoint is written: after a crash in between a row comes a
            second time, but none is ever missing. With several processes all rows come again whenever a training goes
            on: they may have been trained elsewhere.

    Raises:
        ValueError: no labels, votes or faces, too few clips, a device or precision that is not there, or a cache that
            was asked for by name and does not fit.
        CheckpointError: the checkpoint is damaged, or another training's.
        TrainingError: the loss became infinite or nan, or one of several processes died.
        WeightsError: pretrained weights cannot be had.
    """
    if settings.processes > 1 and world is None:
        from dfer.training.distributed import train_together

        sections: dict[str, Section] = {
            "arm": arm,
            "mixing": mixing,
            "model": model,
            "sampling": sampling,
            "groups": groups,
            "settings": settings,
        }
        tables = {"clips": clips, "monitor": monitor, "index": index}
        how = {"threads": threads, "side_by_side": side_by_side, "on_its_gpu": on_its_gpu}
        job = write_job(folder, sections=sections, tables=tables, root=root, card=card, extra=extra, how=how)
        return train_together(job, on_epoch)

    world = world or ALONE
    device = choose_device(settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(folder)
    parts_before = checkpoint.get("micro_batches", 1) if checkpoint is not None else 1
    # From here on, and in the card, precision and micro-batches are those that are used.
    used = settings.model_copy(
        update={
            "precision": choose_precision(settings.precision, device),
            "micro_batches": max(settings.micro_batches, parts_before),
        }
    )
    plan = Plan(arm, mixing, model, sampling, groups, used)
    if clash := _card(plan, {"epoch": 0, "chosen_by": ""}).keys() & card.keys():
        raise ValueError(f"every card has {', '.join(sorted(clash))}: name the caller's entries otherwise")
    parts = divide(clips, monitor, index, root, plan)
    tf32 = settings.precision == "auto"
    identity = fingerprint(plan, parts, device.type, tf32=tf32)
    if checkpoint is not None:
        check_fingerprint(folder, checkpoint["fingerprint"], identity)
    if world.rank == 0:
        remove_unfinished(folder)
    keep_freed_memory()
    with torch_state(threads, device, tf32=tf32):
        run = Run(plan, parts, device, world=world, side_by_side=side_by_side, on_its_gpu=on_its_gpu)
        if checkpoint is not None:
            run.restore(checkpoint)
            _log.info("%s: going on after epoch %d of %d", folder, len(run.history), settings.epochs)
        if not world.agrees(json.dumps([identity, len(run.history)], sort_keys=True), device):
            raise CheckpointError(
                f"the processes of a training do not find the same clips and checkpoint in {folder}, of which this one "
                f"has {len(run.history)} epochs: is it one folder, that all machines share?"
            )
        if world.size > 1 and world.rank == 0 and on_epoch is not None:
            for row in run.history:
                on_epoch(row)
        for epoch in range(len(run.history) + 1, settings.epochs + 1):
            row = run.train_epoch(epoch)
            if world.rank == 0 and on_epoch is not None:
                on_epoch(row)
            if world.rank == 0 and (epoch % settings.checkpoint_every == 0 or epoch == settings.epochs):
                write_checkpoint(folder, {**run.state(), "fingerprint": identity, "extra": dict(extra or {})})
                _write_history(folder, run)
        summary = run.summary()
        if world.rank == 0:
            _write_history(folder, run)
            save_model(folder, run.final_weights(), {**_card(plan, summary), **card}, run.best_on_test_fold)
    return TrainResult(folder, summary["epoch"], run.history, summary)


def _card(plan: Plan, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": plan.model.name,
        "width": plan.model.width,
        "dropout": plan.model.dropout,
        "classes": list(EMOTIONS),
        "num_segments": plan.sampling.num_segments,
        "input_size": plan.model.input_size,
        "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "settings": plan.as_dict(),
        "epoch": summary["epoch"],
        "chosen_by": summary["chosen_by"],
        "versions": {
            "dfer": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    }


def _write_history(folder: Path, run: Run) -> None:
    text = json.dumps({"summary": run.summary(), "epochs": run.history}, indent=2, allow_nan=False)
    write_atomically(folder / HISTORY, text.encode())

"""Fit a network in this process: from the first epoch, or the checkpoint, to a saved model."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from dfer import __version__
from dfer.models.saved import save_model
from dfer.storage.file_names import HISTORY
from dfer.storage.files import remove_unfinished, write_atomically
from dfer.system.memory import keep_freed_memory
from dfer.training.checkpoint import CheckpointError, check_fingerprint, fingerprint, read_checkpoint, write_checkpoint
from dfer.training.optimization import choose_device, choose_precision, torch_state
from dfer.training.plan import Plan, Resources, TrainingData
from dfer.training.run import EpochRow, Run
from dfer.training.split import split_clips
from dfer.training.world import ALONE, World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A finished training."""

    folder: Path  # where the model, its history and its checkpoint are
    epoch: int  # the epoch whose weights were saved, from 1
    history: list[EpochRow]  # one row per epoch
    # `epoch`, `chosen_by`, `best_on_test_fold` (`epoch`, `war`, `uar`, chosen on the test fold and therefore never the
    # result; None if it was not evaluated), `clips` and `left_out` (counts), `seconds`, the `precision` that was used,
    # `cache` (`where` decoded frames were kept, their `gib`, and `why`), `processes` (how many trained together) and
    # `micro_batches` (in how many parts each of them computed its share of a batch in the last epoch)
    summary: dict[str, Any]


def fit(
    plan: Plan,
    data: TrainingData,
    folder: Path,
    *,
    card: Mapping[str, Any],
    resources: Resources = Resources(),  # noqa: B008 - frozen
    world: World = ALONE,
    on_epoch: Callable[[EpochRow], None] | None = None,
) -> TrainResult:
    """`dfer.training.train`, with its arguments and errors, in this process, which keeps memory that it frees.

    It may be one of several that make the same call together: `world`. The first one writes the files and calls
    `on_epoch`.
    """
    device = choose_device(plan.train.device)
    tf32 = plan.train.precision == "auto"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(folder)
    plan = _as_used(plan, device, checkpoint)
    if clash := _card(plan, {"epoch": 0, "chosen_by": ""}).keys() & card.keys():
        raise ValueError(f"every card has {', '.join(sorted(clash))}: name the caller's entries otherwise")
    splits = split_clips(plan, data)
    identity = fingerprint(plan, splits, device.type, tf32=tf32)
    if checkpoint is not None:
        check_fingerprint(folder, checkpoint["fingerprint"], identity)
    if world.rank == 0:
        remove_unfinished(folder)
    report = on_epoch if on_epoch is not None and world.rank == 0 else lambda _: None
    keep_freed_memory()
    with torch_state(resources.threads, device, tf32=tf32, deterministic=plan.train.deterministic):
        run = Run(plan, splits, device, world=world, resources=resources)
        if checkpoint is not None:
            run.restore(checkpoint)
            _log.info("%s: going on after epoch %d of %d", folder, len(run.history), plan.train.epochs)
        if not world.agrees(json.dumps([identity, len(run.history)], sort_keys=True), device):
            raise CheckpointError(
                f"the processes of a training do not find the same clips and checkpoint in {folder}, of which this one "
                f"has {len(run.history)} epochs: is it one folder, that all machines share?"
            )
        if world.size > 1:
            for row in run.history:
                report(row)
        for epoch in range(len(run.history) + 1, plan.train.epochs + 1):
            report(run.train_epoch(epoch))
            if world.rank == 0 and (epoch % plan.train.checkpoint_every == 0 or epoch == plan.train.epochs):
                write_checkpoint(folder, {**run.state(), "fingerprint": identity})
                _write_history(folder, run)
        summary, read_out = run.summary(), run.read_out()
        own = _card(plan, summary) | ({"tf32": tf32} if device.type == "cuda" else {})
        if read_out is not None:
            own["read_out"] = read_out
        if (certainty := run.certainty(own)) is not None:
            own["certainty"] = certainty
        if world.rank == 0:
            _write_history(folder, run)
            save_model(folder, run.final_weights(), {**own, **card}, run.best_on_test_fold)
    return TrainResult(folder, summary["epoch"], run.history, summary)


def _as_used(plan: Plan, device: torch.device, checkpoint: Mapping[str, Any] | None) -> Plan:
    """The plan with the precision and the number of micro-batches that are used, never fewer than before."""
    before = 1 if checkpoint is None else checkpoint.get("micro_batches", 1)
    used = {
        "precision": choose_precision(plan.train.precision, device),
        "micro_batches": max(plan.train.micro_batches, before),
    }
    return replace(plan, train=plan.train.model_copy(update=used))


def _card(plan: Plan, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": plan.model.name,
        "width": plan.model.width,
        "dropout": plan.model.dropout,
        "classes": list(plan.classes),
        "num_segments": plan.sampling.num_segments,
        "consecutive": plan.sampling.consecutive,
        "input_size": plan.model.input_size,
        "normalization": {"mean": list(plan.network.mean), "std": list(plan.network.std)},
        "settings": plan.as_dict(),
        "epoch": summary["epoch"],
        "chosen_by": summary["chosen_by"],
        **({} if plan.arm.method == "none" else {"method": plan.arm.method}),
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

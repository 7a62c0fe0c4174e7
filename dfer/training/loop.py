"""One training: an arm on the training clips of a fold, from the first epoch to a saved model."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from scipy.special import softmax
from torch import Tensor
from torch.nn.functional import cross_entropy

from dfer import __version__, metrics
from dfer.files import write_atomically
from dfer.labels import EMOTIONS
from dfer.mixing import midas, normalize_targets
from dfer.models import build
from dfer.models.saved import save_model
from dfer.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training.checkpoint import check_fingerprint, read_checkpoint, write_checkpoint
from dfer.training.data import ClipSource, TrainingBatches, evaluation_loader, training_loader
from dfer.training.inference import predict_logits
from dfer.training.optimization import PRECISIONS, check_precision, choose_device, make_optimizer, make_schedule
from dfer.training.randomness import torch_seed
from dfer.training.split import validation_rows
from dfer.training.targets import has_target, label_distributions, single_labels
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD, to_float

HISTORY = "history.json"
EVALUATION_BATCH = 16

# Settings that may change when a training goes on: they decide how fast it runs, not what it computes.
_SPEED_SETTINGS = {"threads", "loader_workers", "checkpoint_every"}

_log = logging.getLogger(__name__)

Row = dict[str, Any]


class TrainingError(Exception):
    """The training cannot go on, for example because the loss is no number any more."""


@dataclass(frozen=True)
class TrainResult:
    """What a training has left behind.

    Attributes:
        folder: where the model, its history and its checkpoint are.
        epoch: the epoch whose weights were saved, from 1.
        history: one row per epoch, see `train`.
        summary: how the epoch was chosen, the best epoch on the test fold, clips used and left out.
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
    root: Path,
    arm: ArmSettings,
    mixing: MixingSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    settings: TrainSettings,
    folder: Path,
    card: Mapping[str, Any],
    threads: int = 0,
    extra: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> TrainResult:
    """Train one arm (section 4.3), or go on with it where a checkpoint in `folder` ends.

    The folder gets `checkpoint.pt`, `history.json` (`epochs` and `summary`), `model.safetensors` and `model.json`. A
    training that was killed and goes on ends with the same numbers as one that was not. On one CPU the same seed gives the
    same numbers, and arms with the same seed and clips start from the same weights and see the same batches.

    A row of the history has `epoch` (from 1), `loss` (mean over clips, against the arm's own targets), `learning_rate` (at
    the start of the epoch), `train_accuracy` (against the unmixed clip's single label, in training mode; None without
    labels), `seconds`, `clips_per_second`, `data_seconds` (waiting for clips), and where they were looked at
    `monitor_war`, `monitor_uar`, `monitor_nll` and `validation_war`, `validation_uar`, `validation_nll`.

    Args:
        clips: the training part of the clip table. Clips without aligned faces, and in an arm with hard labels those
            without a single label, are left out and counted in the summary.
        monitor: the test fold, looked at every `settings.monitor_every` epochs and never used to choose anything.
        index: the align index; its shard folders are relative to `root`.
        root: see `index`.
        arm, mixing, model, sampling, settings: sections of the configuration. `settings.threads` is not read.
        folder: made if it is not there.
        card: written into the model's card beside its own keys, for example how the faces were aligned.
        threads: CPU threads; 0 leaves torch's number.
        extra: plain values kept in the checkpoint for the caller, see `read_extra`.
        on_epoch: called with each row, before the epoch's checkpoint is written: a row may come twice if the training is
            killed in between, but none is lost.

    Raises:
        ValueError: labels, votes or faces are missing, too few clips, or a device or precision that is not there.
        CheckpointError: the checkpoint is damaged or another training's.
        TrainingError: the loss became infinite or nan.
        WeightsError: pretrained weights cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(settings.device)
    check_precision(settings.precision, device)
    data = _prepare(clips, monitor, index, root, arm, model, sampling, settings)
    fingerprint = _fingerprint(data, arm, mixing, model, sampling, settings, device)
    with _torch_settings(threads, device):
        run = _Run(data, arm, mixing, model, sampling, settings, device)
        checkpoint = read_checkpoint(folder)
        if checkpoint is not None:
            check_fingerprint(folder, checkpoint["fingerprint"], fingerprint)
            run.restore(checkpoint)
            _log.info("%s: going on after epoch %d of %d", folder, len(run.history), settings.epochs)
        for epoch in range(len(run.history) + 1, settings.epochs + 1):
            row = run.epoch(epoch)
            if on_epoch is not None:
                on_epoch(row)
            if epoch % settings.checkpoint_every == 0 or epoch == settings.epochs:
                state = {"fingerprint": fingerprint, "extra": dict(extra or {}), **run.state()}
                write_checkpoint(folder, state)
                _write_history(folder, run.history, run.summary())
        summary = run.summary()
        weights = run.best_weights if settings.selection == "validation" else run.model.state_dict()
    own = _card(arm, mixing, model, sampling, settings, summary)
    if clash := own.keys() & card.keys():
        raise ValueError(f"the card has keys of its own called {', '.join(sorted(clash))}: name the caller's otherwise")
    save_model(folder, weights, {**own, **card})
    _write_history(folder, run.history, summary)
    return TrainResult(folder, summary["epoch"], run.history, summary)


@dataclass(frozen=True)
class _Data:
    training: ClipSource
    validation: ClipSource | None
    monitor: ClipSource | None
    left_out: dict[str, int]


def _prepare(
    clips: pd.DataFrame,
    monitor: pd.DataFrame | None,
    index: pd.DataFrame,
    root: Path,
    arm: ArmSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    settings: TrainSettings,
) -> _Data:
    def source(table: pd.DataFrame) -> ClipSource:
        return ClipSource(
            table,
            index,
            root,
            num_segments=sampling.num_segments,
            input_size=model.input_size,
            augment=settings.augment,
            seed=settings.seed,
        )

    unlabelled = 0
    if arm.labels == "hard":
        labelled = has_target(clips, arm)
        clips, unlabelled = clips[labelled], int((~labelled).sum())
    validation = None
    if settings.selection == "validation":
        aligned = clips["clip_id"].isin(index["clip_id"][index["status"] == "ok"])
        inner = validation_rows(clips[aligned], settings.validation_share, settings.seed)
        validation_clips = clips[aligned][inner]
        validation = source(validation_clips[validation_clips["label"].notna()])
        clips = clips.drop(index=validation_clips.index)
    training = source(clips)
    watched = None
    if monitor is not None and settings.monitor_every:
        watched = source(monitor[monitor["label"].notna()])
    left_out = {"without_face": training.left_out, "without_single_label": unlabelled}
    for reason, count in left_out.items():
        if count:
            _log.warning("%d of %d training clips are left out: %s", count, len(clips), reason.replace("_", " "))
    return _Data(training, validation, watched, left_out)


class _Run:
    """Model, optimiser and history of a training, epoch by epoch."""

    def __init__(
        self,
        data: _Data,
        arm: ArmSettings,
        mixing: MixingSettings,
        model: ModelSettings,
        sampling: SamplingSettings,
        settings: TrainSettings,
        device: torch.device,
    ) -> None:
        self.data, self.arm, self.mixing, self.settings, self.device = data, arm, mixing, settings, device
        torch.manual_seed(torch_seed(settings.seed, "weights"))
        network = build(
            model.name,
            num_classes=len(EMOTIONS),
            num_segments=sampling.num_segments,
            pretrained=model.pretrained,
            width=model.width,
            dropout=model.dropout,
        )
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = network.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.batches = TrainingBatches(len(data.training), settings.batch_size, settings.seed)
        self.loader = training_loader(
            data.training, self.batches, workers=settings.loader_workers, pin_memory=device.type == "cuda"
        )
        self.optimizer = make_optimizer(self.model, settings)
        self.schedule = make_schedule(self.optimizer, settings, settings.epochs * len(self.batches))
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        # On the CPU until after mixing: the checks on them there do not wait for a GPU.
        self.distributions = label_distributions(data.training.clips, arm)
        self.labels = single_labels(data.training.clips)
        self.history: list[Row] = []
        self.best_weights: dict[str, Tensor] = {}

    def epoch(self, epoch: int) -> Row:
        started = time.perf_counter()
        rate = self.schedule.get_last_lr()[0]
        loss, accuracy, data_seconds = self._pass(epoch)
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss of epoch {epoch} is {loss}: the training has diverged; try a lower train.learning_rate "
                f"(now {self.settings.learning_rate}) or precision float32"
            )
        row: Row = {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": rate,
            "train_accuracy": accuracy,
            "seconds": seconds,
            "clips_per_second": len(self.data.training) / seconds,
            "data_seconds": data_seconds,
        }
        last = epoch == self.settings.epochs
        if self.data.monitor is not None and (epoch % self.settings.monitor_every == 0 or last):
            row.update(self._look_at(self.data.monitor, "monitor"))
        if self.data.validation is not None:
            row.update(self._look_at(self.data.validation, "validation"))
            if row["validation_uar"] > max((past["validation_uar"] for past in self.history), default=-1.0):
                self.best_weights = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}
        self.history.append(row)
        return row

    def _pass(self, epoch: int) -> tuple[float, float | None, float]:
        """One pass over the training clips: mean loss, accuracy on the labelled ones, seconds waited for data."""
        torch.manual_seed(torch_seed(self.settings.seed, "network", epoch))
        generator = torch.Generator().manual_seed(torch_seed(self.settings.seed, "mixing", epoch))
        self.batches.epoch = epoch
        self.model.train()
        # Summed on the device: reading a number back at every step would make the GPU wait.
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), device=self.device, dtype=torch.int64)
        waited = 0.0
        batches = iter(self.loader)
        for _ in range(len(self.batches)):
            asked = time.perf_counter()
            frames, rows = next(batches)
            waited += time.perf_counter() - asked
            loss, logits = self._step(frames, self.distributions[rows], generator)
            loss_sum += loss * len(rows)
            correct += (logits.argmax(dim=1) == self.labels[rows].to(self.device, non_blocking=True)).sum()
        labelled = int((self.labels >= 0).sum())
        accuracy = int(correct) / labelled if labelled else None
        return float(loss_sum) / len(self.data.training), accuracy, waited

    def _step(self, frames: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; the loss and the logits, detached."""
        inputs = to_float(frames.to(self.device, non_blocking=True), IMAGENET_MEAN, IMAGENET_STD)
        if self.arm.mixing == "midas":
            inputs, targets = midas(
                inputs, targets, alpha=self.mixing.alpha, normalize=self.arm.normalize, generator=generator
            )
        else:
            targets = normalize_targets(targets, self.arm.normalize)
        half = self.settings.precision != "float32"
        with torch.autocast(self.device.type, PRECISIONS[self.settings.precision], enabled=half):
            logits = self.model(inputs)
            loss = cross_entropy(logits, targets.to(self.device, non_blocking=True))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.detach(), logits.detach()

    def _look_at(self, source: ClipSource, name: str) -> Row:
        loader = evaluation_loader(source, batch_size=EVALUATION_BATCH)
        logits = predict_logits(self.model, loader, mean=IMAGENET_MEAN, std=IMAGENET_STD, device=self.device)
        labels = source.clips["label"].to_numpy("int64")
        return {
            f"{name}_war": metrics.war(labels, logits.argmax(axis=1)),
            f"{name}_uar": metrics.uar(labels, logits.argmax(axis=1), len(EMOTIONS)),
            f"{name}_nll": metrics.nll(softmax(logits, axis=1), labels),
        }

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "best_weights": self.best_weights,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.best_weights = list(state["history"]), dict(state["best_weights"])

    def summary(self) -> dict[str, Any]:
        chosen, how = self.history[-1], "last epoch"
        if self.data.validation is not None:
            chosen = max(self.history, key=lambda row: row["validation_uar"])
            how = "best UAR on an inner validation part of the training clips"
        watched = [row for row in self.history if "monitor_uar" in row]
        best = max(watched, key=lambda row: row["monitor_uar"], default=None)
        return {
            "epoch": chosen["epoch"],
            "chosen_by": how,
            "best_on_test_fold": best
            and {"epoch": best["epoch"], "war": best["monitor_war"], "uar": best["monitor_uar"]},
            "training_clips": len(self.data.training),
            "validation_clips": len(self.data.validation) if self.data.validation is not None else 0,
            "left_out": self.data.left_out,
            "seconds": sum(row["seconds"] for row in self.history),
        }


@contextmanager
def _torch_settings(threads: int, device: torch.device) -> Iterator[None]:
    """Thread count, random state and cuDNN's search for the fastest kernels, for the time of one training."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(benchmark=True):
            yield
    finally:
        torch.set_num_threads(before)


def _fingerprint(
    data: _Data,
    arm: ArmSettings,
    mixing: MixingSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    settings: TrainSettings,
    device: torch.device,
) -> dict[str, str]:
    """Everything that decides what a training computes, as text, so that a difference can be named."""
    sections = {"arm": arm, "mixing": mixing, "model": model, "sampling": sampling, "train": settings}
    fingerprint = {
        f"{name}.{key}": str(value)
        for name, section in sections.items()
        for key, value in section.model_dump(mode="json").items()
        if key not in _SPEED_SETTINGS
    }
    fingerprint["train.device"] = device.type
    for name, source in (("training", data.training), ("validation", data.validation), ("monitor", data.monitor)):
        fingerprint[f"{name} clips"] = "none" if source is None else _digest(source.clips)
    return fingerprint


def _digest(clips: pd.DataFrame) -> str:
    labels = single_labels(clips).tolist()
    votes = [
        [int(count) for count in row] if known else None
        for row, known in zip(clips["votes"], clips["votes"].notna(), strict=True)
    ]
    text = json.dumps([clips["clip_id"].tolist(), labels, votes])
    return f"{len(clips)} clips, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _card(
    arm: ArmSettings,
    mixing: MixingSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    settings: TrainSettings,
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "model": model.name,
        "width": model.width,
        "dropout": model.dropout,
        "classes": list(EMOTIONS),
        "num_segments": sampling.num_segments,
        "input_size": model.input_size,
        "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "arm": arm.model_dump(mode="json"),
        "mixing": mixing.model_dump(mode="json"),
        "pretrained": model.pretrained,
        "train": settings.model_dump(mode="json"),
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


def _write_history(folder: Path, history: list[Row], summary: Mapping[str, Any]) -> None:
    text = json.dumps({"summary": summary, "epochs": history}, indent=2, allow_nan=False)
    write_atomically(folder / HISTORY, text.encode())

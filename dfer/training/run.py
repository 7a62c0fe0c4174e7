"""Model, optimiser and history of a training, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor

from dfer import metrics
from dfer.labels import EMOTIONS
from dfer.system.randomness import torch_seed
from dfer.training.cache import CacheChoice, FrameCache, choose_cache
from dfer.training.data import (
    ClipSource,
    Loader,
    TrainingBatches,
    evaluation_loader,
    fill_cache,
    stored_frames,
    training_loader,
)
from dfer.training.inference import predict_logits
from dfer.training.plan import Parts, Plan
from dfer.training.step import Step, make_network
from dfer.training.targets import label_distributions, single_labels
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD
from dfer.training.whole_batch_norm import with_whole_batch_norm
from dfer.training.world import ALONE, World

EVALUATION_BATCH = 16

Row = dict[str, Any]


class TrainingError(Exception):
    """The training cannot go on: it has diverged."""


@dataclass(frozen=True)
class _Watched:
    """Clips that are looked at after an epoch, and those of their rows that this process looks at."""

    source: ClipSource
    rows: range
    loader: Loader


class Run:
    """A training that can be stopped after any epoch and restored.

    Attributes:
        model: the network, on its device.
        history: one row per epoch that is done.
        best_weights: of the epoch with the best UAR on the validation part; empty without one.
        best_on_test_fold: of the epoch with the best UAR on the monitored clips; empty if they are not looked at.
    """

    def __init__(
        self,
        plan: Plan,
        parts: Parts,
        device: torch.device,
        *,
        world: World = ALONE,
        side_by_side: int = 1,
        on_its_gpu: int | None = None,
    ) -> None:
        """Initial weights, drawn from the seed or pretrained; uses torch's global generator.

        `side_by_side` processes that train share the RAM that a cache may take, `on_its_gpu` of them (None: all) the
        GPU's memory. Raises ValueError if a cache that was asked for by name does not fit.
        """
        self._plan, self._parts, self._device, self._world = plan, parts, device, world
        # On the CPU until after mixing: checking them there does not wait for a GPU.
        self._distributions = label_distributions(parts.training.clips, plan.arm, plan.train.seed)
        self._labels = single_labels(parts.training.clips)
        torch.manual_seed(torch_seed(plan.train.seed, "weights"))
        self.model = make_network(plan.model, plan.sampling, plan.train).to(device)
        if world.size > 1:
            self.model = with_whole_batch_norm(self.model, device)
        workers = plan.train.loader_workers
        self._batches = TrainingBatches(len(parts.training), plan.train.batch_size, plan.train.seed, world)
        self._loader = training_loader(parts.training, self._batches, workers=workers, device=device)
        # A GPU on which a batch has no room whole has none for many clips at a look either.
        at_a_time = max(1, EVALUATION_BATCH // plan.train.micro_batches)
        self._watched = {
            name: _Watched(
                source,
                rows := range(world.rank, len(source), world.size),
                evaluation_loader(source, rows=rows, batch_size=at_a_time, workers=workers, device=device),
            )
            for name, source in parts.sources.items()
            if name != "training"
        }
        steps = plan.train.epochs * len(self._batches)
        self._step = Step(self.model, plan.arm, plan.mixing, plan.train, steps=steps, world=world)
        self._choose_cache(side_by_side, on_its_gpu)
        self.history: list[Row] = []
        self.best_weights: dict[str, Tensor] = {}
        self.best_on_test_fold: dict[str, Tensor] = {}

    def train_epoch(self, epoch: int) -> Row:
        """Train for one epoch, look at the monitored clips, and add a row to the history.

        Raises TrainingError when the loss is infinite or nan.
        """
        started = time.perf_counter()
        self._fill_cache()
        filling = time.perf_counter() - started
        rate = self._step.learning_rate
        loss, accuracy, waited = self._pass(epoch)
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise self._diverged(f"the loss of epoch {epoch} is {loss}")
        row: Row = {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": rate,
            "train_accuracy": accuracy,
            "seconds": seconds,
            "clips_per_second": len(self._parts.training) / seconds,
            "data_seconds": filling + waited,
            "data_wait": (filling + waited) / seconds,
        }
        every = {"monitor": self._plan.train.monitor_every, "validation": 1}
        for name in self._watched:
            if epoch % every[name] == 0 or epoch == self._plan.train.epochs:
                row.update(self._look_at(name))
        if self._is_best(row, "validation_uar"):
            self.best_weights = self._weights()
        if self._is_best(row, "monitor_uar"):
            self.best_on_test_fold = self._weights()
        self.history.append(row)
        return row

    def _is_best(self, row: Row, measure: str) -> bool:
        return measure in row and row[measure] > max((past.get(measure, -1.0) for past in self.history), default=-1.0)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def _choose_cache(self, side_by_side: int, on_its_gpu: int | None) -> None:
        self._cache: FrameCache | None = None
        self._cache_choice = CacheChoice("none", 0, "asked for")
        asked = self._plan.train.cache
        if asked == "none":
            return
        lengths, size = stored_frames(list(self._parts.sources.values()))
        num_bytes = FrameCache.num_bytes(lengths, size)
        self._cache_choice = choose_cache(
            asked, num_bytes, self._device, side_by_side=side_by_side, on_its_gpu=on_its_gpu
        )
        if self._cache_choice.where != "none":
            device = self._device if self._cache_choice.where == "device" else torch.device("cpu")
            self._cache = FrameCache(lengths, size, device=device, pinned=self._device.type == "cuda")

    def _fill_cache(self) -> None:
        """At first use: a training that has nothing left to do decodes nothing."""
        if self._cache is not None and not self._cache.filled:
            sources = list(self._parts.sources.values())
            fill_cache(self._cache, sources, workers=self._plan.train.loader_workers)

    def _pass(self, epoch: int) -> tuple[float, float | None, float]:
        """One pass over the training clips: mean loss, accuracy on the labelled ones, seconds waited for clips."""
        seed, rank = self._plan.train.seed, self._world.rank
        torch.manual_seed(torch_seed(seed, "network", epoch, rank))
        generator = torch.Generator().manual_seed(torch_seed(seed, "mixing", epoch, rank))
        self._batches.epoch = epoch
        self.model.train()
        # Summed on the device: reading a number back at every step would make the GPU wait.
        loss_sum = torch.zeros((), device=self._device)
        correct = torch.zeros((), device=self._device, dtype=torch.int64)
        for (frames, rows), count in zip(self._loader, self._batches.sizes, strict=True):
            loss, logits = self._step(frames, self._distributions[rows], generator, count=count)
            loss_sum += loss * count
            correct += (logits.argmax(dim=1) == self._labels[rows].to(self._device, non_blocking=True)).sum()
        loss_sum, correct = self._world.sum(loss_sum), self._world.sum(correct)
        labelled = int((self._labels >= 0).sum())
        accuracy = int(correct) / labelled if labelled else None
        return float(loss_sum) / len(self._labels), accuracy, self._loader.waited

    def _look_at(self, name: str) -> Row:
        source = self._watched[name].source
        logits = self._logits(self._watched[name])
        if not np.isfinite(logits).all():
            raise self._diverged("the network's output is infinite or nan")
        labels, predicted = source.clips["label"].to_numpy("int64"), logits.argmax(axis=1)
        return {
            f"{name}_war": metrics.war(labels, predicted),
            f"{name}_uar": metrics.uar(labels, predicted, len(EMOTIONS)),
            f"{name}_nll": metrics.nll(softmax(logits, axis=1), labels),
        }

    def _logits(self, watched: _Watched) -> npt.NDArray[np.float64]:
        """Of all clips, float64[N, K]; each process looks at its rows."""
        logits = np.zeros((len(watched.source), len(EMOTIONS)))
        if watched.rows:
            logits[watched.rows] = predict_logits(
                self.model, watched.loader, mean=IMAGENET_MEAN, std=IMAGENET_STD, device=self._device
            )
        return self._world.sum(torch.from_numpy(logits).to(self._device)).cpu().numpy()

    def _diverged(self, sign: str) -> TrainingError:
        rate = self._plan.train.learning_rate
        return TrainingError(
            f"{sign}: the training has diverged; try a lower train.learning_rate (now {rate}), or precision float32"
        )

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, for `torch.save`."""
        return {
            "model": self.model.state_dict(),
            **self._step.state(),
            "micro_batches": self._plan.train.micro_batches,
            "history": self.history,
            "best_weights": self.best_weights,
            "best_on_test_fold": self.best_on_test_fold,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a run of the same plan."""
        self.model.load_state_dict(state["model"])
        self._step.restore(state)
        self.history, self.best_weights = list(state["history"]), dict(state["best_weights"])
        self.best_on_test_fold = dict(state["best_on_test_fold"])

    def final_weights(self) -> dict[str, Tensor]:
        """The weights of the epoch that `summary` names."""
        return self.best_weights or self.model.state_dict()

    def summary(self) -> dict[str, Any]:
        """Which epoch is taken and how it was chosen, the best epoch on the test fold, and the clips used."""
        chosen, how = self.history[-1], "last epoch"
        if self._parts.validation is not None:
            chosen = max(self.history, key=lambda row: row["validation_uar"])
            how = "best UAR on an inner validation part of the training clips"
        watched = [row for row in self.history if "monitor_uar" in row]
        best = max(watched, key=lambda row: row["monitor_uar"], default=None)
        return {
            "epoch": chosen["epoch"],
            "chosen_by": how,
            "best_on_test_fold": best
            and {"epoch": best["epoch"], "war": best["monitor_war"], "uar": best["monitor_uar"]},
            "clips": {name: len(source) for name, source in self._parts.sources.items()},
            "left_out": self._parts.left_out,
            "seconds": sum(row["seconds"] for row in self.history),
            "precision": self._plan.train.precision,
            "cache": self._cache_choice.as_dict(),
            "processes": self._world.size,
            "micro_batches": self._plan.train.micro_batches,
        }

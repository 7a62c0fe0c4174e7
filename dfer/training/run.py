"""Model, optimiser and history of a training, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Required, TypedDict, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn.functional import one_hot

from dfer import metrics, read_out
from dfer.certainty import answers_of, measure
from dfer.config.catalogue import loss
from dfer.models import count_gflops
from dfer.models.freezing import freeze_trunk
from dfer.system.memory import peak_memory
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
from dfer.training.gpu_memory import noting_what_could_go
from dfer.training.inference import predict_logits
from dfer.training.objective import SCN_FROM_EPOCH
from dfer.training.plan import Plan, Resources
from dfer.training.split import Splits
from dfer.training.step import Step, make_network
from dfer.training.targets import (
    balancing_chances,
    draw_votes,
    label_distributions,
    shares_of,
    single_labels,
    vote_counts,
)
from dfer.training.whole_batch_norm import with_whole_batch_norm
from dfer.training.world import ALONE, World

EVALUATION_BATCH = 16


class EpochRow(TypedDict, total=False):
    """One epoch in the history of a training. JSON data."""

    epoch: Required[int]  # its number, from 1
    loss: Required[float]  # mean over clips, against the arm's own targets
    learning_rate: Required[float]  # at the start of the epoch
    # share of clips whose logits are largest at the single label of the clip that they hold the larger share of, in
    # training mode; None if no clip has a label
    train_accuracy: Required[float | None]
    # the mean entropy of the targets, which is the least loss that they allow; missing for a loss that is no
    # cross-entropy
    target_entropy: float
    seconds: Required[float]  # of training only; filling the cache is part of the first epoch's
    clips_per_second: Required[float]  # clips trained on in these seconds
    data_seconds: Required[float]  # waiting for clips
    data_wait: Required[float]  # their share of `seconds`
    monitor_war: float  # monitor_war, monitor_uar, monitor_nll: on the test fold, in epochs that evaluate it
    monitor_uar: float
    monitor_nll: float
    # validation_war, validation_uar, validation_nll: on the inner validation part, if there is one
    validation_war: float
    validation_uar: float
    validation_nll: float
    # training_war, training_uar, training_nll: on the labelled training clips as an evaluation sees them (unmixed, the
    # centres of the segments, evaluation mode), in the last epoch: whether the network has learnt them
    training_war: float
    training_uar: float
    training_nll: float


class TrainingError(Exception):
    """The training cannot go on: it has diverged, or a process of it died."""


@dataclass(frozen=True)
class _Evaluated:
    """Clips that are evaluated after an epoch, and those of their rows that this process takes."""

    source: ClipSource
    rows: range
    loader: Loader


class Run:
    """A training that can be stopped after any epoch and restored.

    Attributes:
        model: the network, on its device.
        history: one row per finished epoch.
        best_weights: of the epoch with the best UAR on the validation part; empty without one.
        best_on_test_fold: of the epoch with the best UAR on the monitored clips; empty if they are not evaluated.
    """

    def __init__(
        self,
        plan: Plan,
        splits: Splits,
        device: torch.device,
        *,
        world: World = ALONE,
        resources: Resources = Resources(),  # noqa: B008 - frozen
    ) -> None:
        """Initial weights, drawn from the seed or pretrained; uses torch's global generator.

        Raises ValueError if a cache that was asked for by name does not fit.
        """
        self._plan, self._splits, self._device, self._world = plan, splits, device, world
        # On the CPU until after mixing, where checking them does not wait for a GPU.
        self._distributions = label_distributions(splits.training.clips, plan.arm, plan.train.seed)
        self._labels = single_labels(splits.training.clips)
        self._votes = vote_counts(splits.training.clips) if loss(plan.arm.loss).counts else None
        self._relabelled = torch.full((len(self._labels),), -1)
        torch.manual_seed(torch_seed(plan.train.seed, "weights"))
        self.model = make_network(plan).to(device)
        if world.size > 1:
            self.model = with_whole_batch_norm(self.model, device)
        workers = plan.train.loader_workers
        chances = balancing_chances(self._distributions) if plan.arm.sampler == "balanced" else None
        self._batches = TrainingBatches(len(splits.training), plan.train.batch_size, plan.train.seed, world, chances)
        self._loader = training_loader(splits.training, self._batches, workers=workers, device=device)
        # A GPU without memory for a whole batch has none for as many clips in an evaluation either.
        at_a_time = max(1, EVALUATION_BATCH // plan.train.micro_batches)
        self._evaluated = {
            name: _Evaluated(
                source,
                rows := range(world.rank, len(source), world.size),
                evaluation_loader(source, rows=rows, batch_size=at_a_time, workers=workers, device=device),
            )
            for name, source in splits.sources.items()
        }
        steps = plan.train.epochs * len(self._batches)
        counts = self._class_counts()
        self._step = Step(self.model, plan, steps=steps, world=world, class_counts=counts)
        self._choose_cache(resources)
        clip = torch.zeros(
            (1, plan.sampling.num_segments, 3, plan.model.input_size, plan.model.input_size), device=device
        )
        self._gflops = count_gflops(self.model, clip)
        self.history: list[EpochRow] = []
        self.best_weights: dict[str, Tensor] = {}
        self.best_on_test_fold: dict[str, Tensor] = {}

    def train_epoch(self, epoch: int) -> EpochRow:
        """Train for one epoch, evaluate, and add a row to the history.

        Raises TrainingError if the loss is infinite or nan; an error for want of memory on the GPU has a note of
        what could do without.
        """
        on_gpu, recorded = self._cache_choice.where == "device", self._step.is_recorded
        with noting_what_could_go(frames_on_gpu=on_gpu, recorded=recorded):
            return self._train_epoch(epoch)

    def _train_epoch(self, epoch: int) -> EpochRow:
        started = time.perf_counter()
        self._fill_cache()
        filling = time.perf_counter() - started
        rate = self._step.learning_rate
        loss, accuracy, entropy, waited = self._pass(epoch)
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise self._diverged(f"the loss of epoch {epoch} is {loss}")
        row: EpochRow = {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": rate,
            "train_accuracy": accuracy,
            "seconds": seconds,
            "clips_per_second": len(self._splits.training) / seconds,
            "data_seconds": filling + waited,
            "data_wait": (filling + waited) / seconds,
        }
        if entropy is not None:
            row["target_entropy"] = entropy
        every = {"monitor": self._plan.train.monitor_every, "validation": 1, "training": self._plan.train.epochs}
        for name in self._evaluated:
            if epoch % every[name] == 0 or epoch == self._plan.train.epochs:
                row.update(self._evaluate(name))
        if self._is_best(row, "validation_uar"):
            self.best_weights = self._weights()
        if self._is_best(row, "monitor_uar"):
            self.best_on_test_fold = self._weights()
        self.history.append(row)
        return row

    def _is_best(self, row: EpochRow, measure: Literal["validation_uar", "monitor_uar"]) -> bool:
        return measure in row and row[measure] > max((past.get(measure, -1.0) for past in self.history), default=-1.0)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def _choose_cache(self, resources: Resources) -> None:
        self._cache: FrameCache | None = None
        self._cache_choice = CacheChoice("none", 0, "asked for")
        asked = self._plan.train.cache
        if asked == "none":
            return
        lengths, size = stored_frames(list(self._splits.sources.values()))
        num_bytes = FrameCache.num_bytes(lengths, size)
        self._cache_choice = choose_cache(asked, num_bytes, self._device, resources)
        if self._cache_choice.where != "none":
            device = self._device if self._cache_choice.where == "device" else torch.device("cpu")
            self._cache = FrameCache(lengths, size, device=device, pinned=self._device.type == "cuda")

    def _fill_cache(self) -> None:
        """Fill it when an epoch begins: a training that has nothing left to do decodes nothing."""
        if self._cache is not None and not self._cache.filled:
            sources = list(self._splits.sources.values())
            fill_cache(self._cache, sources, threads=torch.get_num_threads())

    def _class_counts(self) -> Tensor | None:
        """How many training clips each class has, float32[K], for a loss that weighs classes."""
        if not loss(self._plan.arm.loss).weighs_classes:
            return None
        counts = self._distributions.sum(dim=0)
        if self._plan.arm.loss == "logit_adjusted" and not (counts > 0).all():
            missing = [name for name, clips in zip(self._plan.classes, counts.tolist(), strict=True) if not clips]
            raise ValueError(
                f"the loss logit_adjusted needs training clips of every class, and there are none of "
                f"{', '.join(missing)}: use another loss, or take them out of labels.classes"
            )
        return counts

    def _pass(self, epoch: int) -> tuple[float, float | None, float | None, float]:
        """One pass over the training clips: mean loss, accuracy on the labelled ones, the targets' mean entropy,
        seconds waited for clips."""
        seed, rank = self._plan.train.seed, self._world.rank
        torch.manual_seed(torch_seed(seed, "network", epoch, rank))
        generator = torch.Generator().manual_seed(torch_seed(seed, "mixing", epoch, rank))
        self._batches.epoch = epoch
        self.model.train()
        if self._plan.model.freeze:
            freeze_trunk(self.model, self._plan.model.name)
        # Summed on the device: reading a number back at every step would make the GPU wait.
        loss_sum = torch.zeros((), device=self._device)
        correct = torch.zeros((), device=self._device, dtype=torch.int64)
        entropy_sum, labelled = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
        targets = self._targets(epoch)
        relabelled = self._relabelled.to(self._device)
        for (frames, rows), count in zip(self._loader, self._batches.sizes, strict=True):
            votes = None if self._votes is None else self._votes[rows]
            loss, logits = self._step(frames, targets[rows], generator, count=count, votes=votes)
            loss_sum += loss * count
            shown = self._labels[rows]
            shown = shown if self._step.main is None else shown[self._step.main.cpu()]
            correct += (logits.argmax(dim=1) == shown.to(self._device, non_blocking=True)).sum()
            labelled += (shown >= 0).sum()
            entropy_sum += self._step.target_entropy * len(rows) if len(rows) else 0.0
            if self._step.relabelled is not None and epoch >= SCN_FROM_EPOCH and len(rows):
                relabelled[rows.to(self._device)] = self._step.relabelled
        loss_sum, correct = self._world.sum(loss_sum), self._world.sum(correct)
        labelled, entropy_sum = (self._world.sum(one.to(self._device)) for one in (labelled, entropy_sum))
        self._relabelled = self._together(relabelled)
        accuracy = int(correct) / int(labelled) if labelled else None
        clips, entropy = len(self._labels), float(entropy_sum)
        mean_entropy = entropy / clips if np.isfinite(entropy) else None
        return float(loss_sum) / clips, accuracy, mean_entropy, self._loader.waited

    def _targets(self, epoch: int) -> Tensor:
        """The label distribution of every clip in an epoch, float32[N, K]."""
        if self._plan.arm.labels == "vote":
            return draw_votes(self._distributions, self._plan.train.seed, epoch)
        if self._plan.arm.labels == "soft" or (self._relabelled < 0).all():
            return self._distributions  # SCN relabels clips of a single label alone
        own = self._distributions.argmax(dim=1)
        return one_hot(torch.where(self._relabelled < 0, own, self._relabelled), len(self._plan.classes)).float()

    def _together(self, relabelled: Tensor) -> Tensor:
        """The new labels that all processes found, each for the clips that it saw last; on the CPU."""
        if self._world.size == 1:
            return relabelled.cpu()
        before = self._relabelled.to(self._device)
        return (before + self._world.sum(relabelled - before)).cpu()

    def read_out(self) -> dict[str, Any] | None:
        """How the final weights' logits are read out, chosen on the inner validation part: see `dfer.read_out.choose`.

        None without such a part, and where nothing is to be chosen. The network has the final weights afterwards.
        """
        arm, calibrate = self._plan.arm, self._plan.train.calibrate == "temperature"
        if self._splits.validation is None or not (calibrate or arm.normalize == "softmax"):
            return None
        self.model.load_state_dict(self.final_weights())
        targets = label_distributions(self._splits.validation.clips, arm, self._plan.train.seed)
        logits = self._logits(self._evaluated["validation"])
        return read_out.choose(
            logits, targets.numpy(), normalize=arm.normalize, temperature=arm.temperature, calibrate=calibrate
        )

    def certainty(self, card: Mapping[str, Any]) -> dict[str, Any] | None:
        """How sure the final weights may be, measured on the inner validation part: see `dfer.certainty`.

        None without such a part. `card` says how logits are read out. The network has the final weights afterwards.
        """
        if self._splits.validation is None:
            return None
        self.model.load_state_dict(self.final_weights())
        clips = self._splits.validation.clips
        measured = measure(
            read_out.probabilities(self._logits(self._evaluated["validation"]), card),
            single_labels(clips).numpy(),
            answers_of(clips["votes"], shares_of(clips), len(self._plan.classes)),
            measured_on="an inner validation part of the training clips",
        )
        return None if measured is None else measured.as_dict()

    def _evaluate(self, name: str) -> EpochRow:
        """The columns of one part of the clips."""
        source = self._evaluated[name].source
        logits = self._logits(self._evaluated[name])
        if not np.isfinite(logits).all():
            raise self._diverged("the network's output is infinite or nan")
        labels = single_labels(source.clips).numpy()
        if not (labelled := labels >= 0).any():
            return cast(EpochRow, {})
        labels, logits = labels[labelled], logits[labelled]
        predicted = logits.argmax(axis=1)
        columns = {
            f"{name}_war": metrics.war(labels, predicted),
            f"{name}_uar": metrics.uar(labels, predicted, len(self._plan.classes)),
            f"{name}_nll": metrics.nll(softmax(logits, axis=1), labels),
        }
        return cast(EpochRow, columns)

    def _logits(self, part: _Evaluated) -> npt.NDArray[np.float64]:
        """The logits of all its clips, float64[N, K]; each process computes those of its rows."""
        logits = np.zeros((len(part.source), len(self._plan.classes)))
        if part.rows:
            network = self._plan.network
            logits[part.rows] = predict_logits(
                self.model, part.loader, mean=network.mean, std=network.std, device=self._device
            )
        return self._world.sum(torch.from_numpy(logits).to(self._device)).cpu().numpy()

    def _network(self) -> dict[str, float]:
        """Size and work of the network, and the most memory that this process has held: of its GPU, or RAM."""
        on_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if on_gpu else peak_memory()
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return {"parameters": parameters, "gflops": self._gflops, "peak_gib": peak / 2**30}

    def _diverged(self, sign: str) -> TrainingError:
        rate = self._plan.train.learning_rate
        return TrainingError(
            f"{sign}: the training has diverged; try a lower train.learning_rate (now {rate}), or precision float32"
        )

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, for `torch.save`."""
        return {
            "model": self.model.state_dict(),
            **self._step.state(),
            "micro_batches": self._plan.train.micro_batches,
            "history": self.history,
            **({"relabelled": self._relabelled} if self._plan.arm.method == "scn" else {}),
            "best_weights": self.best_weights,
            "best_on_test_fold": self.best_on_test_fold,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a run of the same plan."""
        self.model.load_state_dict(state["model"])
        self._step.restore(state)
        self._relabelled = state.get("relabelled", self._relabelled)
        self.history, self.best_weights = list(state["history"]), dict(state["best_weights"])
        self.best_on_test_fold = dict(state["best_on_test_fold"])

    def final_weights(self) -> dict[str, Tensor]:
        """The weights of the epoch that `summary` names."""
        return self.best_weights or self.model.state_dict()

    def summary(self) -> dict[str, Any]:
        """Which epoch is taken and how it was chosen, the best epoch on the test fold, and the clips used."""
        chosen, how = self.history[-1], "last epoch"
        if self._splits.validation is not None:
            chosen = max(self.history, key=lambda row: row["validation_uar"])
            how = "best UAR on an inner validation part of the training clips"
        monitored = [row for row in self.history if "monitor_uar" in row]
        best = max(monitored, key=lambda row: row["monitor_uar"], default=None)
        return {
            "epoch": chosen["epoch"],
            "chosen_by": how,
            "best_on_test_fold": best
            and {"epoch": best["epoch"], "war": best["monitor_war"], "uar": best["monitor_uar"]},
            "clips": {name: len(source) for name, source in self._splits.sources.items()},
            "left_out": self._splits.left_out,
            "seconds": sum(row["seconds"] for row in self.history),
            "precision": self._plan.train.precision,
            "cache": self._cache_choice.as_dict(),
            "network": self._network(),
            "processes": self._world.size,
            "micro_batches": self._plan.train.micro_batches,
        }

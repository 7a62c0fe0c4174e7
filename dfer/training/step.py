"""One step of the optimiser, from uint8 frames to new weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dfer.config.catalogue import MIXINGS, loss, mixing
from dfer.losses import loss_of
from dfer.mixing import mixing_of, normalization_of
from dfer.mixing.attention import TransMix, attention_of
from dfer.mixing.hidden import HiddenMixing, mixing_inside
from dfer.models import build, channels_last
from dfer.models.freezing import freeze_trunk
from dfer.training.cuda_graph import Function, Replayed, record_cuda_graph
from dfer.training.objective import Objective, SelfCuring, objective_of
from dfer.training.optimization import PRECISIONS, make_optimizer, make_schedule, uses_cuda_graph
from dfer.training.plan import Plan
from dfer.training.transforms import to_float
from dfer.training.world import ALONE, World


def make_network(plan: Plan) -> nn.Module:
    """The network that a training fits, on the CPU, with weights from torch's global generator or pretrained ones."""
    network = build(
        plan.model.name,
        num_classes=len(plan.classes),
        num_segments=plan.sampling.num_segments,
        pretrained=plan.model.pretrained,
        width=plan.model.width,
        dropout=plan.model.dropout,
        classes=plan.classes,
        method=plan.arm.method,
    )
    if plan.model.freeze:
        freeze_trunk(network, plan.model.name)
    return channels_last(network) if plan.train.channels_last else network


class Step:
    """Mixing, normalising, forward, backward and the optimiser's update.

    Nothing in it waits for the GPU: all numbers that decide anything (lambdas, partners, checks of the labels) are on
    the CPU, and the results stay on the device. On a GPU all but the mixing of a full batch is a CUDA graph
    (`train.cuda_graph`).

    A network may hand out auxiliary logits while it trains: one that has `auxiliary_weights` returns (logits, tuple of
    others), and the cross-entropy of each of these, times its weight, is added to the loss. What an arm's method adds
    is in `dfer.training.objective`.

    A batch may be shared between processes, and every share cut into `train.micro_batches` parts after it was mixed.
    The gradient stays that of the mean over the whole batch, but BatchNorm sees the parts, and hidden states are mixed
    within them.

    Attributes:
        main: int64[B], of the latest call: the clip that each of its clips holds the largest share of. None if a mixing
            of one's own does not say.
        target_entropy: of the latest call, float: the mean entropy of its targets in nats, which is the least loss
            that they allow; nan for a loss that is no cross-entropy.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        *,
        steps: int,
        world: World = ALONE,
        class_counts: Tensor | None = None,
    ) -> None:
        """The network is on its device and in training mode; `steps` is the length of the learning-rate schedule.
        `class_counts` float[K]: training clips of each class, for losses that weigh classes.

        Raises ValueError for an unknown mixing, normalisation or loss, for an arm that the network lacks something for,
        and for the precision "auto": which one is used has to be chosen before (`choose_precision`).
        """
        train = plan.train
        if train.precision == "auto":
            raise ValueError("a step computes in one precision: choose it for the device first")
        self._network = network
        if problem := plan.network.problem_with_arm(plan.arm.mixing, plan.arm.method):
            raise ValueError(f"{plan.model.name}: {problem}")
        self._mix = mixing_of(plan.arm, plan.mixing)
        self._says_shares = plan.arm.mixing in MIXINGS
        needs = mixing(plan.arm.mixing).needs
        self._stages: Sequence[str] = ()
        if needs == "stages":
            self._stages = plan.network.stages
            self._mix_inside = cast(Callable[..., HiddenMixing], self._mix)
        self._feature_map = plan.network.feature_map if needs == "feature_map" else ""
        self._class_token = plan.network.class_token if needs == "class_token" else ""
        self._normalize = normalization_of(plan.arm)
        self._device = next(network.parameters()).device
        counts = None if class_counts is None else class_counts.to(self._device)
        known = loss(plan.arm.loss)
        self._counts_votes = known.counts
        self._is_cross_entropy = plan.arm.loss == "cross_entropy" and plan.arm.method == "none"
        self._objective: Objective = objective_of(
            plan.arm.method,
            network,
            loss_of(plan.arm, counts),
            feature_map=plan.network.feature_map,
            classifier=plan.network.new_layers[-1],
        )
        self._mean, self._std = plan.network.mean, plan.network.std
        self._world, self._micro_batches = world, train.micro_batches
        self.main: Tensor | None = None
        self.target_entropy = float("nan")
        self._shared: DistributedDataParallel | None = None
        if world.size > 1:
            # Buffers are left alone: the statistics of the whole batch are the same in every process.
            self._shared = DistributedDataParallel(network, forward_sync_buffers=False)
        self._precision = PRECISIONS[train.precision]
        self._optimizer = make_optimizer(network, train)
        self._schedule = make_schedule(self._optimizer, train, steps)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=train.precision == "float16")
        self._full_batch = train.batch_size
        self._graph: Replayed | None = None
        looks_inside = bool(needs) or plan.arm.method != "none"
        if uses_cuda_graph(train, self._device, world, needs_network=looks_inside, recordable=plan.network.recordable):
            # A graph has its numbers built in, but reads tensors: one that every step fills with its learning rate.
            self._rate = torch.zeros((), device=self._device)
            self._graph = Replayed(self._update, required=train.cuda_graph == "on", record=self._record)

    def __call__(
        self,
        frames: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        *,
        count: int | None = None,
        votes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one step. Returns these clips' part of the batch's mean loss and their logits float32[B, K], detached;
        the next step may overwrite both.

        Args:
            frames: uint8[B, T, 3, S, S], on the device.
            targets: float32[B, K], label distributions before mixing and normalising, on the CPU.
            generator: of the mixing, on the CPU.
            count: clips of the whole batch, of which these are this process's share; None: these are all.
            votes: float32[B, K], counts, on the CPU, for a loss that takes them instead of `targets`.
        """
        count = len(frames) if count is None else count
        if self._counts_votes:
            if votes is None:
                raise ValueError("this loss is of the counts of votes, and none were given")
            targets = votes
        if not (self._stages or self._class_token):
            frames, targets = self._mixed(frames, targets, generator)
            targets = self._normalize(targets)
            self.target_entropy = self._entropy(targets)
        targets = targets.to(self._device, non_blocking=True)
        if self._graph is not None and count == self._full_batch:
            self._rate.fill_(self.learning_rate)
            loss, logits = self._graph(frames, targets)
        else:
            loss, logits = self._update(frames, targets, count=count, generator=generator)
        self._schedule.step()
        return loss, logits

    def _mixed(self, frames: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mixed frames and targets. Notes in `main` which clip each of them is mostly of."""
        clips = len(frames)
        self.main = torch.arange(clips) if self._says_shares else None
        if not clips:  # a process may have no share of a small last batch
            return frames, targets
        if not self._says_shares:
            return self._mix(frames, targets, generator=generator)
        options = {"attention": self._attention(frames)} if self._feature_map else {}
        # Clips as more classes: their mixed labels are their shares. Rows have to sum to 1, and halves are exact.
        sums = targets.sum(dim=1, keepdim=True)
        rows = torch.cat((targets / sums if self._counts_votes else targets, torch.eye(clips, dtype=targets.dtype)), 1)
        frames, rows = self._mix(frames, rows / 2, generator=generator, **options)
        rows = rows.cpu()  # where they were, unless the mixing had to look at pixels on a GPU
        shares = 2 * rows[:, -clips:]
        self.main = shares.argmax(dim=1)
        return frames, shares @ targets if self._counts_votes else 2 * rows[:, :-clips]

    def _attention(self, frames: Tensor) -> Tensor:
        return attention_of(self._network, self._feature_map, to_float(frames, self._mean, self._std))

    def _entropy(self, targets: Tensor) -> float:
        if not self._is_cross_entropy or not len(targets):
            return float("nan")
        return float(torch.special.entr(targets).sum(dim=1).mean()) * self._objective.least_loss_per_entropy

    def _update(
        self,
        frames: Tensor,
        targets: Tensor,
        *,
        count: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """From mixed frames and targets on the device to new weights. Hidden states are mixed here, labels with them,
        by draws from the generator."""
        count = self._full_batch if count is None else count
        parts = self._world.parts(count, self._micro_batches)
        # Mixing commutes with normalising pixels; in this order the bytes are read once and written once as floats.
        inputs = to_float(frames, self._mean, self._std)
        self._optimizer.zero_grad(set_to_none=True)
        self._mains: list[Tensor] = []
        done = []
        for number, part in enumerate(zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True), 1):
            done.append(self._backward(*part, count=count, last=number == parts, generator=generator))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._mains:  # clips count within their part until here
            starts = [part[0] for part in torch.arange(len(frames)).tensor_split(parts)]
            self.main = torch.cat([start + main.cpu() for start, main in zip(starts, self._mains, strict=True)])
        losses, logits = zip(*done, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def _backward(
        self, inputs: Tensor, targets: Tensor, *, count: int, last: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of one part; those of all processes come together after the last part."""
        network = self._network if self._shared is None else self._shared
        waiting = nullcontext() if self._shared is None or last else self._shared.no_sync()
        mixing: HiddenMixing | None = None
        attended: TransMix | None = None
        if self._stages and len(inputs):
            mixing = self._mix_inside(len(inputs), len(self._stages), generator=generator)
            inputs = mixing(inputs) if mixing.stage == 0 else inputs
        if self._class_token and len(inputs):
            inputs, attended = cast(Callable[..., tuple[Tensor, TransMix]], self._mix)(inputs, generator=generator)
        with waiting:
            with (
                mixing_inside(self._network, self._stages, mixing),
                nullcontext() if attended is None else attended.listening(self._network, self._class_token),
                torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32),
            ):
                outputs = network(self._objective.inputs(inputs))
            shares = mixing.shares if mixing is not None else None if attended is None else attended.counted()
            if shares is not None:
                self._mains.append(shares.argmax(dim=1))
                targets = self._normalize(shares.to(targets.dtype) @ targets)
            loss, logits = self._objective(outputs, targets)
            loss = loss / count
            # The processes' gradients are averaged, but their shares of the mean have to be summed.
            self._scaler.scale(loss * self._world.size).backward()
        return loss.detach(), logits.detach()

    def _record(self, function: Function, inputs: Sequence[Tensor]) -> Function:
        """Record a step that takes its learning rate from `_rate`."""
        groups = self._optimizer.param_groups
        before = [dict(group) for group in groups]
        for group in groups:
            # AdamW asks for leave to be recorded, SGD does not
            group.update({"lr": self._rate, **({"capturable": True} if "capturable" in group else {})})
        try:
            return self._recorder(function, inputs)
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    _recorder = staticmethod(record_cuda_graph)

    @property
    def is_recorded(self) -> bool:
        """Whether full batches are, or will be, replayed from a CUDA graph."""
        return self._graph is not None

    @property
    def relabelled(self) -> Tensor | None:
        """int64[B]: the classes that the latest call's clips should have from now on, by a method that relabels."""
        return self._objective.relabelled if isinstance(self._objective, SelfCuring) else None

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the network, for `torch.save`."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a step with the same settings."""
        if self._graph is not None:
            self._graph.forget()
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])

"""One step of the optimiser, from uint8 frames to new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dfer.config.catalogue import choose
from dfer.losses import loss_of
from dfer.mixing import NORMALIZATIONS, mixing_of
from dfer.models import build, channels_last
from dfer.models.freezing import freeze_trunk
from dfer.training.cuda_graph import Function, Replayed, record_cuda_graph
from dfer.training.optimization import PRECISIONS, make_optimizer, make_schedule, uses_cuda_graph
from dfer.training.plan import Plan
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD, to_float
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
    )
    if plan.model.freeze:
        freeze_trunk(network, plan.model.name)
    return channels_last(network) if plan.train.channels_last else network


class Step:
    """Mixing, normalising, forward, backward and the optimiser's update.

    Nothing in it waits for the GPU: all numbers that decide anything (lambdas, partners, checks of the labels) are on
    the CPU, and the results stay on the device. On a GPU all but the mixing of a full batch is a CUDA graph
    (`train.cuda_graph`).

    A batch may be shared between processes, and every share cut into `train.micro_batches` parts after it was mixed.
    The gradient stays that of the mean over the whole batch, but BatchNorm sees the parts.
    """

    def __init__(self, network: nn.Module, plan: Plan, *, steps: int, world: World = ALONE) -> None:
        """The network is on its device and in training mode; `steps` is the length of the learning-rate schedule.

        Raises ValueError for an unknown mixing, normalisation or loss, and for the precision "auto": which one is used
        has to be chosen before (`choose_precision`).
        """
        train = plan.train
        if train.precision == "auto":
            raise ValueError("a step computes in one precision: choose it for the device first")
        self._network = network
        self._mix = mixing_of(plan.arm, plan.mixing)
        self._normalize = choose(plan.arm.normalize, NORMALIZATIONS, "label normalisation")
        self._loss = loss_of(plan.arm)
        self._world, self._micro_batches = world, train.micro_batches
        self._device = next(network.parameters()).device
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
        if uses_cuda_graph(train, self._device, world):
            # A graph has its numbers built in, but reads tensors: one that every step fills with its learning rate.
            self._rate = torch.zeros((), device=self._device)
            self._graph = Replayed(self._update, required=train.cuda_graph == "on", record=self._record)

    def __call__(
        self, frames: Tensor, targets: Tensor, generator: torch.Generator, *, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take one step. Returns these clips' part of the batch's mean loss and their logits float32[B, K], detached;
        the next step may overwrite both.

        Args:
            frames: uint8[B, T, 3, S, S], on the device.
            targets: float32[B, K], label distributions before mixing and normalising, on the CPU.
            generator: of the mixing, on the CPU.
            count: clips of the whole batch, of which these are this process's share; None: these are all.
        """
        count = len(frames) if count is None else count
        if len(frames):  # a process may have no share of a small last batch
            frames, targets = self._mix(frames, targets, generator=generator)
        targets = self._normalize(targets).to(self._device, non_blocking=True)
        if self._graph is not None and count == self._full_batch:
            self._rate.fill_(self.learning_rate)
            loss, logits = self._graph(frames, targets)
        else:
            loss, logits = self._update(frames, targets, count=count)
        self._schedule.step()
        return loss, logits

    def _update(self, frames: Tensor, targets: Tensor, *, count: int | None = None) -> tuple[Tensor, Tensor]:
        """From mixed frames and targets on the device to new weights."""
        count = self._full_batch if count is None else count
        parts = self._world.parts(count, self._micro_batches)
        # Mixing commutes with normalising pixels; in this order the bytes are read once and written once as floats.
        inputs = to_float(frames, IMAGENET_MEAN, IMAGENET_STD)
        self._optimizer.zero_grad(set_to_none=True)
        done = []
        for number, part in enumerate(zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True), 1):
            done.append(self._backward(*part, count=count, last=number == parts))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        losses, logits = zip(*done, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def _backward(self, inputs: Tensor, targets: Tensor, *, count: int, last: bool) -> tuple[Tensor, Tensor]:
        """Add the gradients of one part; those of all processes come together after the last part."""
        network = self._network if self._shared is None else self._shared
        waiting = nullcontext() if self._shared is None or last else self._shared.no_sync()
        with waiting:
            with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
                logits = network(inputs)
            # In float32: softmax minus a target of MIDAS is a small difference, of which bfloat16 keeps few digits.
            logits = logits.float()
            loss = self._loss(logits, targets) / count
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

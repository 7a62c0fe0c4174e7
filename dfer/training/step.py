"""One step of the optimiser, from uint8 frames to new weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from dfer.config.settings import ArmSettings, MixingSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.labels import EMOTIONS
from dfer.mixing import midas, normalize_targets
from dfer.models import build, channels_last
from dfer.training.optimization import PRECISIONS, make_optimizer, make_schedule
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD, normalize_, to_float
from dfer.training.world import ALONE, World


def make_network(model: ModelSettings, sampling: SamplingSettings, train: TrainSettings) -> nn.Module:
    """The network that a training fits, on the CPU, with weights from torch's global generator or pretrained ones."""
    network = build(
        model.name,
        num_classes=len(EMOTIONS),
        num_segments=sampling.num_segments,
        pretrained=model.pretrained,
        width=model.width,
        dropout=model.dropout,
    )
    return channels_last(network) if train.channels_last else network


class Step:
    """Mixing, normalising, forward, backward and the optimiser's update.

    Nothing in it waits for the GPU: the numbers that decide anything (lambdas, partners, checks of the labels) are on
    the CPU, and what it returns stays on the device.

    A batch may be shared between processes, and every share cut into micro-batches after it was mixed: the gradient is
    that of the mean over the whole batch all the same.
    """

    def __init__(
        self,
        network: nn.Module,
        arm: ArmSettings,
        mixing: MixingSettings,
        train: TrainSettings,
        *,
        steps: int,
        world: World = ALONE,
    ) -> None:
        """The network is on its device and in training mode; `steps` is the length of the learning-rate schedule.

        Raises ValueError for the precision "auto": what is used has to be chosen before (`choose_precision`).
        """
        if train.precision == "auto":
            raise ValueError("a step computes in one precision: choose it for the device first")
        self._network, self._arm, self._mixing = network, arm, mixing
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

    def __call__(
        self, frames: Tensor, targets: Tensor, generator: torch.Generator, *, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """What these clips add to the mean loss of the whole batch, and their logits float[B, K] (detached).

        Args:
            frames: uint8[B, T, 3, S, S], on the device.
            targets: float32[B, K], label distributions before mixing and normalising, on the CPU.
            generator: of the mixing, on the CPU.
            count: clips of the whole batch, of which these are this process's share; None: these are all.
        """
        count = len(frames) if count is None else count
        parts = self._world.parts(count, self._micro_batches)
        inputs, targets = self._inputs(frames, targets, generator)
        targets = targets.to(self._device, non_blocking=True)
        self._optimizer.zero_grad(set_to_none=True)
        done = []
        for number, part in enumerate(zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True), 1):
            done.append(self._backward(*part, count=count, last=number == parts))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        losses, logits = zip(*done, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def _backward(self, inputs: Tensor, targets: Tensor, *, count: int, last: bool) -> tuple[Tensor, Tensor]:
        """Add the gradients of one part; those of all processes come together after the last part."""
        network = self._network if self._shared is None else self._shared
        waiting = nullcontext() if self._shared is None or last else self._shared.no_sync()
        with waiting:
            with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
                logits = network(inputs)
                loss = cross_entropy(logits, targets, reduction="sum") / count
            # The processes' gradients are averaged, but their shares of the mean have to be summed.
            self._scaler.scale(loss * self._world.size).backward()
        return loss.detach(), logits.detach()

    def _inputs(self, frames: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self._arm.mixing == "none" or len(frames) == 0:
            return to_float(frames, IMAGENET_MEAN, IMAGENET_STD), normalize_targets(targets, self._arm.normalize)
        # Mixing commutes with normalising; in this order the bytes are read once and written once as floats.
        mixed, targets = midas(
            frames,
            targets,
            alpha=self._mixing.alpha,
            ratio=self._arm.ratio,
            normalize=self._arm.normalize,
            generator=generator,
        )
        return normalize_(mixed, IMAGENET_MEAN, IMAGENET_STD), targets

    @property
    def learning_rate(self) -> float:
        """Of the step that comes next."""
        return float(self._schedule.get_last_lr()[0])

    def state(self) -> dict[str, Any]:
        """All but the network that `restore` needs, for `torch.save`."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a step with the same settings."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])

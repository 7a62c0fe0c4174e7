"""What a training makes small: the arm's loss of a network's outputs, and what its method adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfer.losses import Loss
from dfer.losses.cross_entropy import cross_entropy

SCN_TRUSTED, SCN_MARGIN, SCN_FROM_EPOCH, SCN_RELABEL = 0.7, 0.15, 10, 0.2
EAC_WEIGHT = 5.0


class Objective:
    """The loss alone, and the cross-entropy of auxiliary logits times their weights."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        self._loss = loss
        self._auxiliary_weights: Sequence[float] = getattr(network, "auxiliary_weights", ())

    def inputs(self, clips: Tensor) -> Tensor:
        """What the network is shown of clips float[B, T, 3, S, S]."""
        return clips

    def __call__(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the clips' losses and their logits float32[B, K], from the network's outputs and float[B, K]."""
        logits, auxiliary = outputs if self._auxiliary_weights else (outputs, ())
        # In float32: softmax minus a target of MIDAS is a small difference, of which bfloat16 keeps few digits.
        logits = logits.float()
        loss = self._loss(logits, targets)
        for weight, others in zip(self._auxiliary_weights, auxiliary, strict=True):
            loss = loss + weight * cross_entropy(others.float(), targets)
        return loss, logits

    @property
    def least_loss_per_entropy(self) -> float:
        """The least cross-entropy of targets with an entropy of 1."""
        return 1 + sum(self._auxiliary_weights)


class SelfCuring(Objective):
    """Self-cure network (Wang et al., CVPR 2020): the mean weight of the 70 % of clips that are trusted most is to be
    larger than that of the rest by a margin of 0.15, as in the authors' code.

    `relabelled` are classes int64[B] that clips of the latest call should have instead of theirs: where the
    probability of another one is larger by more than 0.2.
    """

    relabelled: Tensor

    def __call__(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, weights = (output.float() for output in outputs)
        trusted = weights.sort(descending=True).values
        # at least one clip on each side
        count = min(max(1, round(SCN_TRUSTED * len(trusted))), len(trusted) - 1)
        margin = functional.relu(SCN_MARGIN - (trusted[:count].mean() - trusted[count:].mean()))
        probabilities = logits.detach().softmax(dim=1)
        surest, predicted = probabilities.max(dim=1)
        own = targets.argmax(dim=1)
        doubtful = surest - probabilities.gather(1, own[:, None]).squeeze(1) > SCN_RELABEL
        self.relabelled = torch.where(doubtful, predicted, own)
        return self._loss(logits, targets) + len(logits) * margin, logits


class RelativelyUncertain(Objective):
    """Relative uncertainty learning (Zhang et al., NeurIPS 2021): the mixed features of two clips are to say both."""

    def __call__(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, partners = outputs
        logits = logits.float()
        return (self._loss(logits, targets) + self._loss(logits, targets[partners])) / 2, logits


class ErasingAttention(Objective):
    """Erasing attention consistency (Zhang et al., ECCV 2022): 5 times the mean squared difference between the class
    activation maps of a clip and the mirrored maps of its mirror image; the mirror image has no loss of its own.

    The classifier's weights get no gradient of it. The erasing is an arm's `mixing: cutout`.
    """

    def __init__(self, network: nn.Module, loss: Loss, *, feature_map: str, classifier: str) -> None:
        super().__init__(network, loss)
        self._classes = network.get_parameter(f"{classifier}.weight")
        self._features: Tensor | None = None

        def keep(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._features = output if module.training else None

        network.get_submodule(feature_map).register_forward_hook(keep)

    def inputs(self, clips: Tensor) -> Tensor:
        """The clips and behind them their mirror images."""
        return torch.cat((clips, clips.flip(-1)))

    def __call__(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        assert self._features is not None
        loss, logits = super().__call__(outputs[: len(targets)], targets)
        features = self._features.float()
        maps = torch.einsum("kc,nc...->nk...", self._classes.detach().float(), features)
        own, mirrored = maps.chunk(2)
        self._features = None
        return loss + len(targets) * EAC_WEIGHT * functional.mse_loss(own, mirrored.flip(-1)), logits


def objective_of(method: str, network: nn.Module, loss: Loss, *, feature_map: str, classifier: str) -> Objective:
    """That of an arm's `method`. `feature_map` and `classifier` are modules of the network, see the catalogue."""
    match method:
        case "scn":
            return SelfCuring(network, loss)
        case "rul":
            return RelativelyUncertain(network, loss)
        case "eac":
            return ErasingAttention(network, loss, feature_map=feature_map, classifier=classifier)
        case _:
            return Objective(network, loss)

"""ImageNet weights: torchvision's own, or a file that was downloaded before."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

_log = logging.getLogger(__name__)


class WeightsError(Exception):
    """Pretrained weights cannot be had or do not fit the network."""


def load_pretrained(model: nn.Module, pretrained: str) -> None:
    """Load ImageNet weights into a network with torchvision's ResNet-18 parameter names, in place.

    Args:
        model: the network; its classifier is called `fc`.
        pretrained: "imagenet" (torchvision's IMAGENET1K_V1, downloaded once into torch's cache and checked), or the
            path of a torchvision weight file (a state dict saved by `torch.save`; nothing but tensors is unpickled).

    A classifier of another size is left out and logged; it keeps its random weights. Raises WeightsError when the
    weights cannot be fetched or read, or when anything else does not fit.
    """
    state, origin = (_imagenet() if pretrained == "imagenet" else _file(Path(pretrained))), pretrained
    own = model.state_dict()
    classifier = [name for name in ("fc.weight", "fc.bias") if name in state and state[name].shape != own[name].shape]
    for name in classifier:
        _log.info("%s: %s is %s, here %s: left out", origin, name, list(state.pop(name).shape), list(own[name].shape))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{origin} does not fit a ResNet-18 of width 1.0: {error}") from error
    problems = [f"missing {name}" for name in missing if name not in classifier]
    problems += [f"unexpected {name}" for name in unexpected]
    if problems:
        shown = ", ".join(problems[:6]) + (f" and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise WeightsError(f"{origin} is no state dict of torchvision's resnet18: {shown}")


def _imagenet() -> dict[str, Tensor]:
    weights = ResNet18_Weights.IMAGENET1K_V1
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"ImageNet weights could not be fetched from {weights.url}: {error}. Two ways out: download "
            f"{Path(weights.url).name} elsewhere and give its path as model.pretrained, or set model.pretrained to "
            "null for random weights."
        ) from error


def _file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file; model.pretrained is 'imagenet', a path to a file, or null")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} cannot be read as a torch weight file of tensors alone: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no plain state dict (names to tensors); save `model.state_dict()` alone")
    return dict(state)

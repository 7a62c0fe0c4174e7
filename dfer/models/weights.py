"""Pretrained weights: torchvision's own, or a file that was downloaded before."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from dfer.config.catalogue import Network
from dfer.system.downloads import NotFetchedError, announce, is_temporary

_log = logging.getLogger(__name__)


class WeightsError(Exception):
    """Pretrained weights cannot be had or do not fit the network."""


class WeightsNotFetchedError(WeightsError, NotFetchedError):
    """Pretrained weights are out of reach now."""


def load_pretrained(model: nn.Module, network: Network, pretrained: str) -> None:
    """Load pretrained weights into a network of width 1, in place.

    `pretrained` is a key of `network.pretrained` (torchvision's, downloaded once into torch's cache and checked), or
    the path of a weight file (a state dict saved by `torch.save`; nothing but tensors is unpickled). Weights of
    `network.new_layers` that are missing or of another size are left out and logged; those layers keep their random
    weights. Raises WeightsError when the weights cannot be fetched or read, or when anything else does not fit.
    """
    known = network.pretrained.get(pretrained)
    state = _torchvision(known) if known else _file(Path(pretrained), network)
    current = model.state_dict()
    new = {name for name in current if name.split(".")[0] in network.new_layers}
    for name in sorted(new & state.keys()):
        shape, expected = list(state[name].shape), list(current[name].shape)
        if shape != expected:
            _log.info("%s: %s is %s, here %s: left out", pretrained, name, shape, expected)
            del state[name]
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{pretrained} does not fit this network at width 1.0: {error}") from error
    problems = [f"missing {name}" for name in missing if name not in new]
    problems += [f"unexpected {name}" for name in unexpected]
    if problems:
        shown = ", ".join(problems[:6]) + (f" and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise WeightsError(f"{pretrained} is no state dict of {network.builder}: {shown}")
    if random := new.intersection(missing):
        _log.info("%s: random weights for %s", pretrained, ", ".join(sorted(random)))


def _torchvision(name: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_weight(name)
    if not (Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name).exists():
        announce(f"torchvision's {name}, once")
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        kind = WeightsNotFetchedError if is_temporary(error) else WeightsError
        raise kind(
            f"torchvision's {name} could not be fetched from {weights.url}: {error}. Two ways out: download "
            f"{Path(weights.url).name} elsewhere and give its path as model.pretrained, or set model.pretrained to "
            "null for random weights."
        ) from error


def _file(path: Path, network: Network) -> dict[str, Tensor]:
    if not path.is_file():
        names = "".join(f"{name!r}, " for name in network.pretrained)
        raise WeightsError(f"{path}: no such weight file; model.pretrained is {names}a path to a file, or null")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle can fail in any way at all
        why = str(error).split(". ")[0]  # torch goes on with ways to read what must not be read
        raise WeightsError(f"{path} cannot be read as a torch weight file of tensors alone: {why}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no plain state dict (names to tensors); save `model.state_dict()` alone")
    return dict(state)

"""Pretrained weights: torchvision's own, a file that was downloaded before, or a model that was trained here."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from dfer.config.catalogue import Network
from dfer.storage.file_names import CARD, WEIGHTS
from dfer.system.downloads import NotFetchedError, announce, is_temporary

_log = logging.getLogger(__name__)


class WeightsError(Exception):
    """Pretrained weights cannot be had or do not fit the network."""


class WeightsNotFetchedError(WeightsError, NotFetchedError):
    """Pretrained weights are out of reach now."""


def load_pretrained(model: nn.Module, network: Network, pretrained: str) -> None:
    """Load pretrained weights into a network of width 1, in place.

    `pretrained` is a key of `network.pretrained` (torchvision's, downloaded once into torch's cache and checked), or
    the path of a weight file: a state dict as .safetensors, or saved by `torch.save`, of which nothing but tensors is
    unpickled (`dfer.models.conversion` makes one of a file of other form). Weights of `network.new_layers` that are
    missing or of another size are left out and logged; those layers keep their random weights. A file of
    `network.trunk` alone, whose names do not begin with the trunk's, is loaded into that layer; its own classifier is
    left out. Raises WeightsError when the weights cannot be fetched or read, or when anything else does not fit.
    """
    known = network.pretrained.get(pretrained)
    state = _torchvision(known) if known else _file(Path(pretrained), network)
    if network.trunk and not any(name.startswith(f"{network.trunk}.") for name in state):
        state = _of_trunk(state, network)
    current = model.state_dict()
    new = {name for name in current if name.split(".")[0] in network.new_layers}
    for name in sorted(new & state.keys()):
        shape, expected = list(state[name].shape), list(current[name].shape)
        if shape != expected:
            _log.info("%s: %s is %s, here %s: left out", pretrained, name, shape, expected)
            del state[name]
    missing = [name for name in current if name not in state]
    problems = [f"missing {name}" for name in missing if name not in new]
    problems += [f"unexpected {name}" for name in state if name not in current]
    problems += [
        f"{name} is {list(value.shape)}, expected {list(current[name].shape)}"
        for name, value in state.items()
        if name in current and value.shape != current[name].shape
    ]
    if problems:
        raise WeightsError(f"{pretrained} is no state dict of {network.builder} at width 1.0: {in_short(problems)}")
    model.load_state_dict(state, strict=False)
    if random := new.intersection(missing):
        _log.info("%s: random weights for %s", pretrained, ", ".join(sorted(random)))


def in_short(problems: Sequence[str]) -> str:
    """The first six, and how many more there are."""
    return ", ".join(problems[:6]) + (f" and {len(problems) - 6} more" if len(problems) > 6 else "")


def trained_model(pretrained: str) -> Path | None:
    """The folder of the trained model that `pretrained` names, by itself or by its file of weights; None if none."""
    path = Path(pretrained)
    if path.is_dir():
        return path
    return path.parent if path.name == WEIGHTS and path.is_file() else None


def load_trained(
    model: nn.Module, network: Network, folder: Path, *, name: str, width: float, classes: Sequence[str] | None
) -> None:
    """Load the weights of a model that was trained here into a network called `name` of that width, in place.

    The classifier, the last of `network.new_layers`, keeps its random weights unless the model has the same `classes`
    in the same order. Raises WeightsError for a folder that holds no model, or one of another network.
    """
    from dfer.models.saved import SavedModelError, load_state  # which builds networks, and so needs this module

    try:
        state, card = load_state(folder)
    except SavedModelError as error:
        needed = f"a folder as model.pretrained holds a trained model, {WEIGHTS} and {CARD}"
        raise WeightsError(f"{error}. {needed}") from error
    if (method := card.get("method", "none")) != "none":
        raise WeightsError(f"{folder} was trained by method: {method}, whose network has other layers: take another")
    if (card["model"], card["width"]) != (name, width):
        raise WeightsError(
            f"{folder} holds a {card['model']} of width {card['width']}, expected a {name} of width {width}: set "
            "model.name and model.width to the model's, or model.pretrained to another one"
        )
    pixels = card["normalization"]
    if (tuple(pixels["mean"]), tuple(pixels["std"])) != (network.mean, network.std):
        raise WeightsError(
            f"{folder} was trained on pixels normalised by {pixels}, but {name} sees them normalised by mean "
            f"{list(network.mean)} and std {list(network.std)}: train it again"
        )
    if classes is None or list(classes) != card["classes"]:
        ours = model.state_dict()
        last = network.new_layers[-1]
        if not any(key.split(".")[0] == last for key in state):
            raise WeightsError(
                f"{folder}: the network has no layer {network.new_layers[-1]!r}, so it cannot be told which weights "
                f"are for the model's classes ({', '.join(card['classes'])})"
            )
        # and other new layers, such as auxiliary classifiers, if they are for another number of classes
        classifier = {
            key
            for key, value in state.items()
            if (layer := key.split(".")[0]) in network.new_layers
            if layer == last or (key in ours and ours[key].shape != value.shape)
        }
        _log.info("%s: random weights for %s, since its classes are other ones", folder, ", ".join(sorted(classifier)))
        state = {key: ours[key] if key in classifier and key in ours else value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{folder} does not fit this network: {error}") from error


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


def _of_trunk(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Weights under the names that they have in the network whose trunk they are for, without their classifier."""
    classifier = network.new_layers[-1]
    return {f"{network.trunk}.{name}": weight for name, weight in state.items() if name.split(".")[0] != classifier}


def _file(path: Path, network: Network) -> dict[str, Tensor]:
    if not path.is_file():
        names = "".join(f"{name!r}, " for name in network.pretrained)
        raise WeightsError(
            f"{path}: no such weight file; model.pretrained is {names}a path to a file or to the folder of a trained "
            "model, or null"
        )
    if path.suffix == ".safetensors":
        try:
            return dict(load(path.read_bytes()))
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read as a safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle can fail in any way at all
        why = str(error).split(". ")[0]  # torch goes on with ways to read what must not be read
        raise WeightsError(f"{path} cannot be read as a torch weight file of tensors alone: {why}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no plain state dict (names to tensors); save `model.state_dict()` alone")
    return dict(state)

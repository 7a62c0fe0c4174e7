"""The networks, behind one builder; `dfer.config.catalogue` has their names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dfer.config import catalogue
from dfer.config.catalogue import METHODS
from dfer.labels import EMOTIONS
from dfer.models.methods import num_outputs, with_method
from dfer.models.tsm import temporal_shift
from dfer.models.weights import WeightsError, load_pretrained, load_trained, trained_model

__all__ = ["WeightsError", "available", "build", "channels_last", "count_gflops", "temporal_shift"]


def build(
    name: str,
    *,
    num_classes: int,
    num_segments: int | None = None,
    pretrained: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    classes: Sequence[str] | None = None,
    method: str = "none",
) -> nn.Module:
    """A network float[B, T, C, H, W] -> logits float[B, K], in training mode, on the CPU.

    Args:
        name: a key of `dfer.config.catalogue.NETWORKS`, or your own class as `module:attribute`.
        num_classes: K.
        num_segments: T; None takes the catalogue's.
        pretrained: a name that the catalogue has for this network, the path of a weight file (see `load_pretrained`),
            the folder of one of our own trained models (see `load_trained`), or None for random weights (drawn from
            torch's global generator). Never silently random.
        width: channels of every layer as a share of torchvision's, in (0, 1]; 1.0 is exactly its network.
        dropout: in front of the classifier, in [0, 1).
        classes: their names, of which a trained model's classifier is kept only if it has the same ones.
        method: of the arm that trains it, whose parts are added; see `dfer.models.methods`.

    Raises WeightsError if the weights cannot be had or do not fit, ValueError for an unknown name, a class that is no
    network, a number out of range, `pretrained` with a width other than 1 (but for our own models) or another
    network's weights.
    """
    network = catalogue.network(name)
    num_segments = network.num_segments if num_segments is None else num_segments
    if num_classes < 1 or num_segments < 1:
        raise ValueError(f"expected one class and one segment or more, found {num_classes} and {num_segments}")
    if not (0 < width <= 1 and 0 <= dropout < 1):
        raise ValueError(f"expected width in (0, 1] and dropout in [0, 1), found {width} and {dropout}")
    trained = None if pretrained is None or pretrained in network.pretrained else trained_model(pretrained)
    if pretrained is not None and trained is None:
        _check_pretrained(name, network, pretrained, width)
    model = _network_class(network.builder)(num_outputs(method, num_classes), num_segments, width, dropout)
    if trained is not None:
        classes = classes if METHODS[method].outputs is None else None  # its classifier has other outputs
        load_trained(model, network, trained, name=name, width=width, classes=classes)
    elif pretrained is not None:
        load_pretrained(model, network, pretrained)
    return with_method(model, method, num_classes)


def channels_last(model: nn.Module) -> nn.Module:
    """Lay out the weights of all convolutions channels last, in place; returns the network.

    `model.to(memory_format=...)` knows 2D convolutions or 3D ones, and refuses a network that has the other.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
    return model


def available() -> dict[str, dict[str, Any]]:
    """The networks of the catalogue by name, for choosing one; at width 1 and with our classes.

    Each has `description`, `parameters` (count), `gflops` (convolutions and matrix products of one clip's forward pass;
    a multiplication with its addition counts as two operations), `input`, `pretrained` (names) and `source`.
    """
    models = {}
    for name, network in catalogue.NETWORKS.items():
        segments, size = network.num_segments, network.input_size
        # Shapes are enough: the meta device has no values and computes nothing.
        with torch.device("meta"):
            model = build(name, num_classes=len(EMOTIONS))
            gflops = count_gflops(model, torch.empty(1, segments, 3, size, size))
        models[name] = {
            "description": network.description,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "gflops": round(gflops, 1),
            "input": f"{segments} frame{'s' if segments > 1 else ''} of {size} px",
            "pretrained": ", ".join(network.pretrained) or "none",
            "source": network.source,
        }
    return models


def count_gflops(model: nn.Module, clips: Tensor) -> float:
    """The GFLOPs of one forward pass in evaluation mode: of convolutions and matrix products, a multiplication with its
    addition counted as two operations. The model is in its former mode afterwards."""
    training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(clips)
    model.train(training)
    return counter.get_total_flops() / 1e9


def _check_pretrained(name: str, network: catalogue.Network, pretrained: str, width: float) -> None:
    if width != 1:
        raise ValueError(
            f"pretrained weights fit width 1.0 only, found width {width}; set model.width to 1.0, or model.pretrained "
            "to null"
        )
    others = {weights for other in catalogue.NETWORKS.values() for weights in other.pretrained}
    if pretrained in others - network.pretrained.keys():
        names = f"{', '.join(network.pretrained)}, " if network.pretrained else ""
        raise ValueError(
            f"there are no {pretrained!r} weights for {name}; set model.pretrained to {names}the path of a weight "
            "file, or null for random weights"
        )


def _network_class(builder: str) -> type[nn.Module]:
    """The class that `module:attribute` names. Checked before it is called: the name may come from a card on disk."""
    network = catalogue.load(builder)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise ValueError(f"{builder!r} is {network!r}, expected a class derived from torch.nn.Module")
    try:
        inspect.signature(network).bind("num_classes", "num_segments", "width", "dropout")
    except TypeError as error:
        raise ValueError(
            f"{builder!r} cannot be called with (num_classes, num_segments, width, dropout): {error}"
        ) from None
    return network

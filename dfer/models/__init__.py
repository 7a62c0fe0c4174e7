"""The networks, behind one builder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dfer.models.tsm import ResNet18TSM, temporal_shift
from dfer.models.weights import WeightsError, load_pretrained

__all__ = ["WeightsError", "available", "build", "temporal_shift"]

_NETWORKS = {
    "resnet18_tsm": (ResNet18TSM, "ResNet-18 with temporal shift, mean of the frames' logits (section 4.3)"),
}


def build(
    name: str,
    *,
    num_classes: int,
    num_segments: int = 8,
    pretrained: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
) -> nn.Module:
    """A network float[B, T, C, H, W] -> logits float[B, K], in training mode, on the CPU.

    Args:
        name: a key of `available()`.
        num_classes: K.
        num_segments: T; with 1 nothing is shifted.
        pretrained: "imagenet", the path of a torchvision weight file, or None for random weights (drawn from torch's
            global generator). Never silently random.
        width: channels of every layer as a share of torchvision's, in (0, 1]; 1.0 is exactly its ResNet-18.
        dropout: in front of the classifier, in [0, 1).

    Raises:
        ValueError: unknown name, a number out of range, or `pretrained` with a width other than 1.
        WeightsError: the weights cannot be had or do not fit.
    """
    if name not in _NETWORKS:
        raise ValueError(f"unknown model {name!r}; there are: {', '.join(_NETWORKS)}")
    if num_classes < 1 or num_segments < 1:
        raise ValueError(f"expected one class and one segment or more, found {num_classes} and {num_segments}")
    if not (0 < width <= 1 and 0 <= dropout < 1):
        raise ValueError(f"expected width in (0, 1] and dropout in [0, 1), found {width} and {dropout}")
    if pretrained is not None and width != 1:
        raise ValueError(
            f"pretrained weights fit width 1.0 only, found width {width}; set model.width to 1.0, or model.pretrained "
            "to null"
        )
    network, _ = _NETWORKS[name]
    model = network(num_classes, num_segments, width, dropout)
    if pretrained is not None:
        load_pretrained(model, pretrained)
    return model


def available() -> dict[str, dict[str, Any]]:
    """For every model name: `description`, `parameters` (at width 1, 7 classes), `input` and `pretrained`."""
    models = {}
    for name, (_, description) in _NETWORKS.items():
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build(name, num_classes=7).parameters())
        models[name] = {
            "description": description,
            "parameters": parameters,
            "input": "float[B, T, 3, H, W]; T = 8 and H = W = 224 in the paper",
            "pretrained": "imagenet, a torchvision weight file, or null",
        }
    return models

"""Training the last layers of a network alone."""

from __future__ import annotations

from torch import nn

from dfer.config import catalogue
from dfer.models.methods import RelativeUncertainty, SelfCure


def freeze_trunk(model: nn.Module, name: str) -> None:
    """Keep all weights and running statistics of a network but those of its last layers, in place.

    These are the catalogue's `new_layers` of the network of that name. To be called again whenever the network was put
    into training mode: a frozen trunk stays in evaluation mode, or its BatchNorm would follow the new clips.
    """
    new = catalogue.network(name).new_layers
    if isinstance(model, SelfCure | RelativeUncertainty):
        model = model.network
    for child, module in model.named_children():
        if child not in new:
            module.requires_grad_(False)
            module.eval()
    for own, parameter in model.named_parameters(recurse=False):
        if own not in new:
            parameter.requires_grad_(False)

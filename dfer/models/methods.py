"""Networks with the parts that a method of training adds to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfer.config.catalogue import METHODS, RUL_FEATURES
from dfer.models.precision import without_autocast


class SelfCure(nn.Module):
    """Self-cure network: a clip's logits times how much it is to be trusted (Wang et al., CVPR 2020).

    float[B, T, 3, H, W] -> logits float[B, K], and in training mode (logits, weights float[B] in (0, 1)). The weight is
    the sigmoid of a linear layer of the clip's features: one more output of the network's classifier.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        outputs = self.network(clips)
        weights = outputs[:, -1].sigmoid()
        logits = weights[:, None] * outputs[:, :-1]
        return (logits, weights) if self.training else logits


class RelativeUncertainty(nn.Module):
    """Relative uncertainty learning: two clips' features mixed by how uncertain they are (Zhang et al., NeurIPS 2021).

    float[B, T, 3, H, W] -> logits float[B, K], and in training mode (logits of mixed features, partners int64[B]). The
    network's classifier gives mu and log sigma^2 of 64 features of the clip. With s_i = mean exp(log sigma_i^2) the
    feature of a pair is (s_i mu_i + s_j mu_j) / (s_i + s_j): a classifier can tell both of its clips only if the one
    that is harder to read is larger in it. Evaluated, the feature is mu. Partners are drawn from torch's global
    generator.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.fc = nn.Linear(RUL_FEATURES, num_classes)

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        means, log_variances = self.network(clips).float().chunk(2, dim=1)
        with without_autocast(clips.device):
            if not self.training:
                logits: Tensor = self.fc(means)
                return logits
            partners = torch.randperm(len(means), device=means.device)
            uncertainty = log_variances.exp().mean(dim=1, keepdim=True)
            other, its_uncertainty = means[partners], uncertainty[partners]
            mixed = (uncertainty * means + its_uncertainty * other) / (uncertainty + its_uncertainty)
            return self.fc(mixed), partners


def num_outputs(method: str, num_classes: int) -> int:
    """How many outputs a network needs under a method."""
    outputs = METHODS[method].outputs
    return num_classes if outputs is None else outputs(num_classes)


def with_method(network: nn.Module, method: str, num_classes: int) -> nn.Module:
    """The network, which has `num_outputs` of them, with the method's parts. Raises ValueError for one that hands out
    auxiliary logits."""
    if method not in ("scn", "rul"):
        return network
    if hasattr(network, "auxiliary_weights"):
        raise ValueError(f"method: {method} is not for a network with auxiliary logits: choose another network")
    return SelfCure(network) if method == "scn" else RelativeUncertainty(network, num_classes)

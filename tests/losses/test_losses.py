"""Each loss against a few lines of NumPy, at its extremes, in half precision, and its gradient against differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import gammaln, log_softmax, softmax
from torch import Tensor

from dfer.config.settings import ArmSettings
from dfer.losses import Loss, loss_of
from dfer.losses.brier import brier
from dfer.losses.class_balanced import class_balanced, class_weights
from dfer.losses.cross_entropy import cross_entropy
from dfer.losses.dirichlet_multinomial import dirichlet_multinomial
from dfer.losses.focal import focal
from dfer.losses.logit_adjusted import logit_adjusted

K = 4
COUNTS = torch.tensor([100.0, 10.0, 3.5, 1.0], dtype=torch.float64)
LOGITS = torch.randn(6, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
VOTES = torch.tensor(
    [[10, 0, 0, 0], [5, 5, 0, 0], [1, 0, 0, 0], [4, 3, 2, 1], [0, 0, 0, 7], [0.3, 2.4, 0, 1.3]], dtype=torch.float64
)
SHARES = VOTES / VOTES.sum(dim=1, keepdim=True)

LOSSES: dict[str, tuple[Loss, Tensor]] = {
    "focal": (focal, SHARES),
    "class_balanced": (partial(class_balanced, class_counts=COUNTS), SHARES),
    "logit_adjusted": (partial(logit_adjusted, class_counts=COUNTS), SHARES),
    "brier": (brier, SHARES),
    "dirichlet_multinomial": (dirichlet_multinomial, VOTES),
}


def in_numpy(name: str) -> float:
    z, q, c = LOGITS.numpy(), SHARES.numpy(), VOTES.numpy()
    p, log_p = softmax(z, axis=1), log_softmax(z, axis=1)
    match name:
        case "focal":
            return -(q * (1 - p) ** 2 * log_p).sum()
        case "class_balanced":
            weights = (1 - 0.999) / (1 - 0.999 ** COUNTS.numpy())
            return -(weights / weights.mean() * q * log_p).sum()
        case "logit_adjusted":
            return -(q * log_softmax(z + np.log(COUNTS.numpy() / COUNTS.numpy().sum()), axis=1)).sum()
        case "brier":
            return ((p - q) ** 2).sum()
        case _:
            total = 0.0
            for alpha, counts in zip(np.exp(z), c, strict=True):
                likelihood = gammaln(alpha.sum()) - gammaln(counts.sum() + alpha.sum())
                likelihood += sum(gammaln(n + a) - gammaln(a) for n, a in zip(counts, alpha, strict=True))
                total -= likelihood / counts.sum()
            return total


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_what_numpy_says(name: str) -> None:
    loss, targets = LOSSES[name]
    assert float(loss(LOGITS, targets)) == pytest.approx(in_numpy(name), rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_its_gradient_is_that_of_small_differences(name: str) -> None:
    loss, targets = LOSSES[name]
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), LOGITS.clone().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_it_is_finite_at_extremes(name: str, dtype: torch.dtype) -> None:
    """A network that is very sure of the right or of the wrong class, of every kind of votes."""
    loss, targets = LOSSES[name]
    if name in ("class_balanced", "logit_adjusted"):
        loss = partial(loss.func, class_counts=COUNTS.to(dtype))  # type: ignore[attr-defined]
    for sure in (-1, 0, 1):
        logits = (60 * sure * torch.eye(K)[VOTES.argmax(dim=1)]).to(dtype).requires_grad_()
        value = loss(logits, targets.to(dtype))
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_one_vote_is_the_cross_entropy_however_sure() -> None:
    """The Dirichlet's precision cannot be told from one vote."""
    one_hot = torch.eye(K, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]]
    for added in (-3.0, 0.0, 2.0):
        value = dirichlet_multinomial(LOGITS + added, one_hot)
        assert float(value) == pytest.approx(float(cross_entropy(LOGITS, one_hot)), rel=1e-9)


def test_a_precise_dirichlet_is_the_multinomial() -> None:
    z = (SHARES + 0.05).log()
    precise = float(dirichlet_multinomial(z + 12, VOTES))
    assert precise == pytest.approx(float(cross_entropy(z, SHARES)), rel=1e-3)


def test_voters_who_agree_less_than_chance_makes_likely_want_a_small_precision() -> None:
    """Votes that are all for one class or all for another, as often: sure voters of unsure clips."""
    votes = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    even = torch.zeros(2, 2)
    assert dirichlet_multinomial(even - 2, votes) < dirichlet_multinomial(even, votes)
    assert dirichlet_multinomial(even, votes) < dirichlet_multinomial(even + 3, votes)


def test_a_focal_loss_without_focus_is_the_cross_entropy() -> None:
    assert float(focal(LOGITS, SHARES, focal_gamma=0)) == pytest.approx(float(cross_entropy(LOGITS, SHARES)))


def test_weights_of_classes() -> None:
    assert class_weights(COUNTS, 0.0).tolist() == pytest.approx([1, 1, 1, 1])
    nearly = class_weights(COUNTS, 1 - 1e-9)
    assert (nearly * COUNTS).tolist() == pytest.approx([float(nearly[0] * COUNTS[0])] * K, rel=1e-3)
    without = class_weights(torch.tensor([5.0, 0.0, 5.0]), 0.9)
    assert without.tolist() == pytest.approx([1, 0, 1])


def test_adjusted_logits_of_even_classes_are_plain_ones() -> None:
    even = torch.full((K,), 7.0, dtype=torch.float64)
    adjusted = logit_adjusted(LOGITS, SHARES, class_counts=even)
    assert float(adjusted) == pytest.approx(float(cross_entropy(LOGITS, SHARES)))


def test_a_rare_class_is_predicted_more_often_once_the_adjustment_is_gone() -> None:
    """Logits that fit the shares of two classes, adjusted, say nothing about them without the adjustment."""
    counts = torch.tensor([90.0, 10.0])
    logits = torch.zeros(1, 2, requires_grad=True)
    logit_adjusted(logits, counts[None] / 100, class_counts=counts).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_an_arm_s_loss_has_its_options_and_the_classes_clips() -> None:
    arm = ArmSettings(labels="soft", loss="class_balanced", class_balance=0.9)
    expected = class_balanced(LOGITS, SHARES, class_counts=COUNTS, class_balance=0.9)
    assert loss_of(arm, COUNTS)(LOGITS, SHARES) == expected
    with pytest.raises(ValueError, match="class_balanced weighs classes"):
        loss_of(arm)

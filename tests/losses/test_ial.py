from __future__ import annotations

import math

import pytest
import torch

from dfer.config.settings import ArmSettings
from dfer.losses import loss_of
from dfer.losses.cross_entropy import cross_entropy
from dfer.losses.ial import ial
from dfer.mixing import NORMALIZATIONS

LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SOFT = torch.rand(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(dim=1)
CLASSES = torch.tensor([0, 3, 6, 6, 2])
HARD = torch.eye(7, dtype=torch.float64)[CLASSES]


def test_of_one_hot_targets_it_is_the_published_loss() -> None:
    """Cross-entropy between the class and the strongest of the others, all others being left out."""
    expected = 0.0
    for row, label in zip(LOGITS.tolist(), CLASSES.tolist(), strict=True):
        own, strongest = row[label], max(row[:label] + row[label + 1 :])
        expected -= math.log(math.exp(own) / (math.exp(own) + math.exp(strongest)))
    for weight in (0.1, 0.7):
        added = ial(LOGITS, HARD, ial_weight=weight) - cross_entropy(LOGITS, HARD)
        assert float(added) == pytest.approx(weight * expected)
    assert float(ial(LOGITS, HARD)) == float(ial(LOGITS, HARD, ial_weight=0.1))


def test_of_soft_targets_each_class_is_held_against_the_strongest_of_those_below_it() -> None:
    expected = 0.0
    for row, target in zip(LOGITS.tolist(), SOFT.tolist(), strict=True):
        for own, share in zip(row, target, strict=True):
            below = [logit for logit, other in zip(row, target, strict=True) if other < share]
            if below:
                expected -= share * math.log(math.exp(own) / (math.exp(own) + math.exp(max(below))))
    added = ial(LOGITS, SOFT, ial_weight=1.0) - cross_entropy(LOGITS, SOFT)
    assert float(added) == pytest.approx(expected)


def test_a_class_that_was_chosen_as_often_is_no_mistake() -> None:
    targets = torch.tensor([[0.5, 0.5, 0.0]])
    logits = torch.tensor([[2.0, 9.0, 1.0]])
    against_the_third = 0.5 * (math.log1p(math.exp(1.0 - 2.0)) + math.log1p(math.exp(1.0 - 9.0)))
    assert float(ial(logits, targets, ial_weight=1.0) - cross_entropy(logits, targets)) == pytest.approx(
        against_the_third, abs=1e-5
    )


def test_softmax_leaves_classes_that_nobody_chose_equal() -> None:
    """Normalised as for MIDAS, one-hot labels still hold the class against the strongest of the others alone."""
    logits, targets = LOGITS.float(), NORMALIZATIONS["softmax"](HARD.float())
    strongest = logits.masked_fill(HARD.bool(), -torch.inf).amax(dim=1)
    own, share = logits[HARD.bool()], targets[HARD.bool()]
    expected = (share * (1 + (strongest - own).exp()).log()).sum()
    torch.testing.assert_close(ial(logits, targets, ial_weight=1.0) - cross_entropy(logits, targets), expected)


@pytest.mark.parametrize("targets", [HARD, SOFT, torch.full((5, 7), 1 / 7, dtype=torch.float64)])
def test_its_gradient_is_right_also_where_no_class_is_below(targets: torch.Tensor) -> None:
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ial(z, targets, ial_weight=0.5), logits)


def test_an_arm_gives_its_loss_the_weight() -> None:
    arm = ArmSettings(labels="hard", loss="ial", ial_weight=0.7)
    assert loss_of(arm)(LOGITS, HARD) == ial(LOGITS, HARD, ial_weight=0.7)
    assert loss_of(ArmSettings(labels="hard"))(LOGITS, HARD) == cross_entropy(LOGITS, HARD)
    own = ArmSettings(labels="hard", loss="dfer.losses.cross_entropy:cross_entropy")
    assert loss_of(own)(LOGITS, HARD) == cross_entropy(LOGITS, HARD)

"""Mixings by their names."""

from __future__ import annotations

import pytest
import torch

from dfer.config import catalogue
from dfer.config.settings import ArmSettings, MixingSettings
from dfer.mixing import MIXINGS, midas, mixing_of

CLIPS = torch.randint(0, 256, (4, 2, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.rand(4, 7, generator=torch.Generator().manual_seed(1)).softmax(dim=1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_every_mixing_of_the_catalogue_gives_clips_and_targets_that_sum_to_1() -> None:
    assert MIXINGS.keys() == catalogue.MIXINGS.keys()
    for name, mix in MIXINGS.items():
        if catalogue.MIXINGS[name].needs:
            continue  # see test_hidden.py, test_attention.py
        clips, targets = mix(CLIPS, LABELS, generator=seeded())
        assert clips.shape == CLIPS.shape, name
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))


def test_none_leaves_clips_and_labels_alone() -> None:
    clips, targets = MIXINGS["none"](CLIPS, LABELS, generator=seeded())
    assert torch.equal(clips, CLIPS)
    assert torch.equal(targets, LABELS)


@pytest.mark.parametrize("ratio", ["clip", "batch"])
def test_an_arm_s_mixing_has_the_options_of_its_settings_and_targets_before_normalisation(ratio: str) -> None:
    arm = ArmSettings(labels="soft", mixing="midas", normalize="softmax", ratio=ratio)
    clips, targets = mixing_of(arm, MixingSettings(alpha=2.5))(CLIPS, LABELS, generator=seeded())
    expected = midas(CLIPS, LABELS, alpha=2.5, ratio=ratio, normalize="none", generator=seeded())
    assert torch.equal(clips, expected[0])
    assert torch.equal(targets, expected[1])


def test_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    arm = ArmSettings(labels="soft").model_copy(update={"mixing": "mida"})
    with pytest.raises(ValueError, match=r"unknown mixing 'mida': expected none, midas, .*did you mean midas"):
        mixing_of(arm, MixingSettings())

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfer.config import catalogue
from dfer.config.settings import ArmSettings
from dfer.mixing import NORMALIZATIONS, normalization_of, normalize_targets


def test_every_normalisation_of_the_catalogue_gives_distributions() -> None:
    assert NORMALIZATIONS.keys() == catalogue.NORMALIZATIONS.keys()
    rows = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]])
    for name in NORMALIZATIONS:
        targets = normalize_targets(rows, name)
        assert (targets >= 0).all()
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(2))
    assert normalize_targets(rows, "none") is rows


def test_softmax_of_a_one_hot_row_is_nearly_uniform() -> None:
    row = normalize_targets(torch.eye(7)[:1], "softmax")[0]
    assert row[0].item() == pytest.approx(np.e / (np.e + 6))
    assert row[1:].tolist() == pytest.approx([1 / (np.e + 6)] * 6)


def test_the_softmax_at_a_tenth_is_that_of_ten_votes_counts() -> None:
    counts = np.array([8.0, 2.0, 0, 0, 0, 0, 0])
    row = NORMALIZATIONS["softmax"](torch.from_numpy(counts / 10)[None], temperature=0.1)[0]
    np.testing.assert_allclose(row, np.exp(counts) / np.exp(counts).sum())


def test_smoothing_and_sharpening() -> None:
    rows = torch.tensor([[0.8, 0.2, 0.0, 0.0]])
    torch.testing.assert_close(
        NORMALIZATIONS["smooth"](rows, smoothing=0.1), torch.tensor([[0.745, 0.205, 0.025, 0.025]])
    )
    torch.testing.assert_close(
        NORMALIZATIONS["sharpen"](rows, temperature=0.5), torch.tensor([[0.64, 0.04, 0.0, 0.0]]) / 0.68
    )


def test_an_arm_s_normalisation_has_its_options() -> None:
    arm = ArmSettings(labels="soft", normalize="softmax", temperature=0.3)
    rows = torch.eye(7)
    torch.testing.assert_close(normalization_of(arm)(rows), (rows / 0.3).softmax(dim=1))


def test_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown label normalisation 'softmx': .*did you mean softmax"):
        normalize_targets(torch.eye(7), "softmx")

from __future__ import annotations

import pytest
import torch

from dfer.mixing.cutout import cutout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("side", [0.25, 0.5, 1.0])
def test_the_hole_has_the_clip_s_mean_colour_and_the_side_that_is_asked_for(side: float) -> None:
    clips = torch.rand(4, 3, 3, 32, 24, generator=seeded(1)).double()
    holed, _ = cutout(clips, torch.eye(4), side=side, generator=seeded(2))
    for before, after in zip(clips, holed, strict=True):
        hole = (before != after).all(dim=(0, 1))
        rows, columns = torch.nonzero(hole).T
        height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert hole.sum() == height * width
        assert side * 32 / 2 <= height <= side * 32
        assert side * 24 / 2 <= width <= side * 24
        colour = before.mean(dim=(0, 2, 3))
        torch.testing.assert_close(
            after[:, :, hole], colour.view(1, 3, 1).expand(3, 3, int(hole.sum())), rtol=0, atol=1e-6
        )
        assert torch.equal(after[:, :, ~hole], before[:, :, ~hole])


def test_the_mean_of_bytes_is_rounded() -> None:
    clips = torch.zeros(1, 2, 1, 4, 4, dtype=torch.uint8)
    clips[..., ::2] = 11  # 5.5
    clips[:, 0, :, 0, 0] = 19  # 5.75
    holed, _ = cutout(clips, torch.ones(1, 1), side=1.0, generator=seeded(1))
    assert set(holed.unique().tolist()) <= {0, 6, 11, 19}
    assert (holed == 6).any()


def test_labels_stay_and_a_single_clip_is_enough() -> None:
    clips, labels = torch.rand(1, 2, 3, 8, 8), torch.tensor([[0.25, 0.75]])
    holed, targets = cutout(clips, labels, generator=seeded(3))
    assert not torch.equal(holed, clips)
    assert torch.equal(targets, labels)


@pytest.mark.parametrize("side", [0.0, -0.5, 1.5, float("nan")])
def test_a_bad_side_is_refused(side: float) -> None:
    with pytest.raises(ValueError, match=f"side {side}"):
        cutout(torch.rand(1, 2, 3, 8, 8), torch.ones(1, 1), side=side)

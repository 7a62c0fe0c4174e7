from __future__ import annotations

import pandas as pd
import pytest
import torch

from dfer.config.settings import ArmSettings
from dfer.training.targets import (
    balancing_chances,
    draw_votes,
    has_target,
    label_distributions,
    single_labels,
    vote_counts,
)

HARD, SOFT = ArmSettings(labels="hard"), ArmSettings(labels="soft")


def table(votes: list, labels: list) -> pd.DataFrame:
    ids = [f"dfew/{number}" for number in range(len(labels))]
    return pd.DataFrame({"clip_id": ids, "dataset": "dfew", "votes": votes, "label": pd.array(labels, "Int64")})


CLIPS = table([[8, 2, 0, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0, 5]], [0, None])


def test_soft_labels_are_the_share_of_votes_and_hard_ones_one_hot() -> None:
    assert label_distributions(CLIPS, SOFT)[0].tolist() == pytest.approx([0.8, 0.2, 0, 0, 0, 0, 0])
    assert label_distributions(CLIPS[:1], HARD).tolist() == [[1, 0, 0, 0, 0, 0, 0]]


def test_few_votes_make_a_soft_label_of_their_own() -> None:
    clips = table([[5, 5, 0, 0, 0, 0, 0]] * 40, [0] * 40)
    three = ArmSettings(labels="soft", votes=3)
    rows = label_distributions(clips, three, seed=1)
    assert set((rows * 3).round().flatten().tolist()) <= {0, 1, 2, 3}
    assert torch.equal(rows.sum(dim=1), torch.ones(40))
    # drawn for every clip by its id, whatever else is in the table
    assert len(rows.unique(dim=0)) > 1
    assert torch.equal(label_distributions(clips[7:], three, seed=1), rows[7:])
    assert not torch.equal(label_distributions(clips, three, seed=2), rows)


def test_a_clip_without_single_label_has_a_soft_target_alone() -> None:
    assert has_target(CLIPS, SOFT).tolist() == [True, True]
    assert has_target(CLIPS, HARD).tolist() == [True, False]
    assert single_labels(CLIPS).tolist() == [0, -1]


def test_missing_votes_and_labels_are_errors_that_name_the_data_set() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 clips of dfew have no votes .*dfew/1.*arm with hard labels"):
        label_distributions(table([[1] * 7, None], [0, 1]), SOFT)
    with pytest.raises(ValueError, match=r"1 of 2 clips of dfew have no single label .*dfew/1"):
        label_distributions(CLIPS, HARD)


def test_a_vote_is_drawn_anew_each_epoch_as_often_as_it_was_cast() -> None:
    rows = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]]).repeat(500, 1)
    first, again, second = draw_votes(rows, 3, 1), draw_votes(rows, 3, 1), draw_votes(rows, 3, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(first.sum(dim=1), torch.ones(1000))
    assert first[::2].mean(dim=0).tolist() == pytest.approx([0.8, 0.2, 0.0], abs=0.05)
    assert torch.equal(first[1::2], rows[1::2])


def test_chances_make_classes_even() -> None:
    rows = torch.tensor([[1.0, 0, 0]] * 90 + [[0.1, 0.9, 0]] * 10 + [[0.5, 0.5, 0]] * 4)
    chances = balancing_chances(rows)
    assert chances.sum() == pytest.approx(1)
    assert chances[90:100].sum() == pytest.approx(0.5)


def test_votes_as_counts() -> None:
    assert vote_counts(CLIPS).tolist() == [[8, 2, 0, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0, 5]]
    with pytest.raises(ValueError, match=r"1 of 2 clips have no counts of votes \(the first is dfew/1\)"):
        vote_counts(table([[1] * 7, None], [0, 1]))

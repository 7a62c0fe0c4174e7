from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.datasets.subsample_votes import subsample_votes

VOTES = st.lists(st.integers(0, 8), min_size=7, max_size=7).filter(any)


@given(st.lists(VOTES, min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_k_of_each_clips_own_votes_are_drawn(votes: list[list[int]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, min(map(sum, votes))))
    drawn = subsample_votes(votes, k, clip_ids=[f"toy/{place}" for place in range(len(votes))], seed=0)
    assert [sum(counts) for counts in drawn] == [k] * len(votes)
    assert (np.array(drawn) <= np.array(votes)).all()
    assert all(type(count) is int for counts in drawn for count in counts)


def test_all_of_the_votes_are_the_votes() -> None:
    assert subsample_votes([[3, 0, 2, 0, 0, 5, 0]], 10, clip_ids=["toy/a"], seed=4) == [[3, 0, 2, 0, 0, 5, 0]]


def test_a_clips_draw_depends_on_its_id_and_the_seed_alone() -> None:
    votes = [[4, 3, 3, 0, 0, 0, 0]] * 40
    ids = [f"toy/{place}" for place in range(40)]
    drawn = subsample_votes(votes, 3, clip_ids=ids, seed=0)
    assert subsample_votes(votes[:5], 3, clip_ids=ids[4::-1], seed=0) == drawn[4::-1]
    assert subsample_votes(votes, 3, clip_ids=ids, seed=1) != drawn
    assert len({tuple(counts) for counts in drawn}) > 3


def test_every_vote_is_as_likely_as_any_other() -> None:
    number = 4000
    drawn = subsample_votes([[6, 3, 1, 0, 0, 0, 0]] * number, 2, clip_ids=[f"toy/{n}" for n in range(number)], seed=0)
    assert np.mean(drawn, axis=0) == pytest.approx([1.2, 0.6, 0.2, 0, 0, 0, 0], abs=0.04)


def test_clips_with_too_few_votes_are_named() -> None:
    votes = [[9, 1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match="1 clips have fewer than 3 votes, first 'toy/b' with 2"):
        subsample_votes(votes, 3, clip_ids=["toy/a", "toy/b"], seed=0)
    with pytest.raises(ValueError, match="at least one"):
        subsample_votes(votes, 0, clip_ids=["toy/a", "toy/b"], seed=0)
    with pytest.raises(ValueError, match="argument 2"):
        subsample_votes(votes, 1, clip_ids=["toy/a"], seed=0)

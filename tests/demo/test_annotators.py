from __future__ import annotations

import numpy as np
import pytest

from dfer.demo.annotators import draw_votes, single_label
from dfer.labels import EMOTIONS


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ((10, 0, 0, 0, 0, 0, 0), 0),
        ((0, 5, 4, 1, 0, 0, 0), 1),
        ((0, 5, 5, 0, 0, 0, 0), None),
        ((4, 3, 3, 0, 0, 0, 0), None),
    ],
)
def test_single_label_needs_half_of_the_votes_and_no_tie(votes: tuple[int, ...], label: int | None) -> None:
    assert single_label(votes) == label


def test_annotators_confuse_what_people_confuse() -> None:
    generator = np.random.default_rng(0)
    seen = np.array([np.mean([draw_votes(row, generator) for _ in range(400)], axis=0) for row in np.eye(7)])
    assert np.allclose(seen.sum(axis=1), 10)
    assert (seen.argmax(axis=1) == np.arange(7)).all()

    def rank(shown: str) -> list[str]:
        return [EMOTIONS[place] for place in seen[EMOTIONS.index(shown)].argsort()[::-1]]

    assert rank("angry")[1:3] in (["disgust", "neutral"], ["neutral", "disgust"])
    assert rank("disgust")[1] == "angry"
    assert rank("surprise")[1] == "fear"
    assert rank("fear")[1] == "surprise"
    happy, neutral = EMOTIONS.index("happy"), EMOTIONS.index("neutral")
    assert seen[happy, happy] == seen.diagonal().max()
    assert (np.delete(seen[:, neutral], neutral) > 0.3).all()


def test_a_mixture_is_seen_as_both() -> None:
    mixture = [0, 0, 0, 0.5, 0, 0.5, 0]
    votes = np.mean([draw_votes(mixture, np.random.default_rng(seed)) for seed in range(300)], axis=0)
    assert 3.5 < votes[EMOTIONS.index("angry")] < 5.5
    assert 3.5 < votes[EMOTIONS.index("disgust")] < 5.5

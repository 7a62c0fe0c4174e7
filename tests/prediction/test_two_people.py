"""Two people who are on screen in turn and together, with expressions that are known: who is who, and what they show.

Needs a model of the demo: run `make demo` first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from film import Film, write_film
from scipy.stats import spearmanr

from dfer.config.problems import InputError
from dfer.faces.detector import FaceDetector
from dfer.prediction.film import FilmResult, Request, predict_film
from dfer.prediction.models import open_model
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.table import probabilities_of
from dfer.prediction.windows import Sliding

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def result(film: Film) -> FilmResult:
    try:
        model = open_model("demo/soft", config=CONFIG)
    except InputError as error:
        pytest.skip(f"no model of the demo: {error}")
    recogniser = Recogniser(model, device="cpu")
    return predict_film("film", film.path, recogniser, FaceDetector(model.faces.detection), Request(Sliding(1.2, 0.4)))


def who(film: Film, result: FilmResult) -> list[int]:
    """The person of the film that each person of the table is: the one who is on screen in all of their windows."""
    chosen = []
    for person in result.people:
        rows = result.table[result.table["person"] == person.number]
        missing = [
            sum(np.isnan(film.truth(acted, row.start, row.end)[0]) for row in rows.itertuples()) for acted in (0, 1)
        ]
        chosen.append(int(np.argmin(missing)))
    return chosen


def test_both_are_separate_people_over_the_whole_film(film: Film, result: FilmResult) -> None:
    assert len(result.people) == 2
    assert sorted(who(film, result)) == [0, 1]
    for person, acted in zip(result.people, who(film, result), strict=True):
        rows = result.table[result.table["person"] == person.number]
        # in every window in which they are on screen long enough, and in no other
        for window in sorted(set(zip(result.table["start"], result.table["end"], strict=True))):
            frames = film.seen[acted, round(window[0] * 25) : round(window[1] * 25), 0]
            there = float((~np.isnan(frames)).mean())
            listed = bool(((rows["start"] == window[0]) & (rows["end"] == window[1])).any())
            if there > 0.5 or there < 0.2:
                assert listed == (there > 0.5), (person.number, window, there)


def test_the_timeline_follows_the_expressions(film: Film, result: FilmResult) -> None:
    acted = dict(zip([person.number for person in result.people], who(film, result), strict=True))
    truth = np.array([film.truth(acted[row.person], row.start, row.end) for row in result.table.itertuples()])
    probabilities = probabilities_of(result.table)
    there = ~np.isnan(truth[:, 0])
    correlations = [spearmanr(truth[there, k], probabilities[there, k]).statistic for k in range(7)]
    assert np.mean(correlations) >= 0.6, correlations

"""The picture of what was predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dfer.prediction import timeline
from dfer.prediction.colours import as_bgr, of_classes
from dfer.prediction.film import FilmResult, Person

CLASSES = ("happy", "sad", "bored")


def rows(person: int, spans: list[tuple[float, float]], probabilities: list[list[float]]) -> pd.DataFrame:
    table = pd.DataFrame(spans, columns=["start", "end"])
    table.insert(0, "person", person)
    for k, name in enumerate(CLASSES):
        table[f"p_{name}"] = [row[k] for row in probabilities]
    top = np.argmax(probabilities, axis=1)
    return table.assign(prediction=[CLASSES[k] for k in top], answered=True)


def result(*tables: pd.DataFrame, end: float = 10.0) -> FilmResult:
    people = [
        Person(
            number,
            np.arange(3),
            np.tile(np.float32([10, 10, 50, 60]), (3, 1)),
            [(1.0, np.full((40, 40, 3), 90, np.uint8))],
        )
        for number in range(1, len(tables) + 1)
    ]
    times = np.arange(0, end, 0.04)
    return FilmResult("film.mp4", Path("film.mp4"), pd.concat(tables, ignore_index=True), people, times, end, 0, "")


def test_a_row_counts_half_way_to_its_neighbours() -> None:
    table = rows(1, [(0, 2), (0.5, 2.5), (1, 3), (6, 8), (6.5, 8.5)], [[1, 0, 0]] * 5)
    first, second = timeline.runs(table)
    assert timeline.edges(first).tolist() == [0, 1.25, 1.75, 3]
    assert timeline.edges(second).tolist() == [6, 7.25, 8.5]


def test_colours_tell_classes_apart() -> None:
    names = ["happy", "sad", "neutral", "angry", "surprise", "disgust", "fear", *(f"own {k}" for k in range(7))]
    colours = of_classes(names)
    assert len(set(colours)) == len(names)
    assert of_classes(["fear", "happy"]) == [colours[6], colours[0]]
    assert len(of_classes([f"c{k}" for k in range(40)])) == 40
    assert as_bgr("#102030") == (0x30, 0x20, 0x10)


def test_the_picture_shows_each_share_where_and_when_it_is(tmp_path: Path) -> None:
    one = rows(1, [(0, 5), (5, 10)], [[1, 0, 0], [0, 1, 0]])
    other = rows(2, [(5, 10)], [[0, 0, 1]])
    figure = timeline.draw(result(one, other), title="film", warning="synthetic")
    upper, lower = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["person 1", "person 2"]
    assert lower.get_xlim() == (0, 10)
    path = tmp_path / "timeline.png"
    timeline.write(result(one, other), path, title="film")
    picture = np.asarray(Image.open(path).convert("RGB"))

    figure.savefig(path, dpi=100)
    picture = np.asarray(Image.open(path).convert("RGB"))

    def at(axes, x: float, y: float) -> tuple[float, ...]:
        across, up = axes.transData.transform((x, y))
        return tuple((picture[picture.shape[0] - 1 - int(up), int(across)] / 255).tolist())

    happy, sad, bored = (pytest.approx(to_rgb(colour), abs=0.02) for colour in of_classes(CLASSES))
    assert at(upper, 2, 0.3) == happy and at(upper, 7, 0.7) == sad
    assert at(lower, 7, 0.3) == bored
    assert at(lower, 2, 0.3) == (1, 1, 1)  # not there yet
    assert at(upper, 1.0, 1.2) == pytest.approx((90 / 255,) * 3, abs=0.02)  # the face


def test_many_people_are_counted_and_the_first_drawn() -> None:
    tables = [rows(number, [(0, 5)], [[1, 0, 0]]) for number in range(1, 10)]
    figure = timeline.draw(result(*tables), title="film")
    assert len(figure.axes) == timeline.MOST_PEOPLE
    assert "6 most prominent of 9 people" in figure.get_suptitle()


def test_long_times_are_minutes() -> None:
    figure = timeline.draw(result(rows(1, [(0, 4000)], [[1, 0, 0]]), end=4000.0), title="film")
    assert figure.axes[0].xaxis.get_major_formatter()(3661, 0) == "1:01:01"
    assert figure.axes[0].xaxis.get_major_formatter()(61, 0) == "1:01"

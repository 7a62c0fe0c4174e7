"""What the page shows about a video."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfer.app import view
from dfer.app.jobs import Outcome
from dfer.prediction import table as tables
from dfer.prediction.folder import TABLE

HOSTILE = '<img src=x onerror="alert(1)">.mp4'


def row(person: int, start: float, probabilities: list[float], words: str) -> dict[str, Any]:
    names = ("p_happy", "p_sad", "p_neutral")
    return {
        "video": "v",
        "person": person,
        "start": start,
        "end": start + 2,
        **dict.fromkeys(("left", "top", "right", "bottom"), 1.0),
        **dict(zip(names, probabilities, strict=True)),
        "prediction": "sad",
        "entropy": 1.0,
        "face_share": 0.5,
        "answered": True,
        "in_words": words,
    }


@pytest.fixture
def shown(trained: Any, tmp_path: Path) -> str:
    table = pd.DataFrame(
        [
            row(1, 0.0, [0.2, 0.5, 0.3], "probably sad (0.50) or neutral (0.30): people would disagree"),
            row(1, 1.0, [0.6, 0.1, 0.3], "probably happy (0.60)"),
            row(2, 6.0, [0.0, 0.0, 1.0], "neutral (1.00)"),
        ]
    )
    tables.write(table, tmp_path / TABLE, trained.classes)
    return view.result(Outcome(tmp_path, "", "it is odd", 0.0, 8.0), HOSTILE, trained, "results/abc/videos/v")


def test_the_script_is_told_who_is_seen_when_and_how(shown: str) -> None:
    data = json.loads(unescape(re.search(r'data-follow="([^"]*)"', shown)[1]))
    assert (data["begin"], data["end"]) == (0.0, 8.0)
    (piece,), (other,) = data["people"]["1"], data["people"]["2"]
    assert piece["edges"] == [0.0, 1.5, 3.0]  # half-way between the windows' middles
    assert piece["probabilities"] == [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
    assert piece["words"][0].endswith("people would disagree")
    assert other["edges"] == [6.0, 8.0]


def test_areas_are_stacked_from_below_over_the_time_that_they_count(shown: str) -> None:
    areas = [
        np.array([[float(number) for number in point.split(",")] for point in points.split()])
        for points in re.findall(r'points="([^"]*)"', shown)
    ]
    happy, sad, neutral = areas[:3]
    assert happy[:, 0].min() == 0 and happy[:, 0].max() == 375  # 3 of 8 seconds, of 1000
    assert happy[0].tolist() == [0, 80] and happy[-1].tolist() == [0, 100]  # 0.2 of 100 from below
    assert sad[0].tolist() == [0, 30] and sad[-1].tolist() == [0, 80]
    assert neutral[0].tolist() == [0, 0] and neutral[-1].tolist() == [0, 30]
    assert areas[5][:, 0].min() == 750 and areas[5][:, 0].max() == 1000


def test_table_downloads_and_what_has_to_be_said_are_there(shown: str) -> None:
    assert shown.count("<tr data-start") == 3
    for file in ("predictions.csv", "timeline.png", "annotated.mp4"):
        assert f'href="results/abc/videos/v/{file}" download' in shown
    assert "trained on synthetic data" in shown
    assert "About the file: it is odd." in shown


def test_nothing_of_a_file_is_markup(shown: str) -> None:
    assert "<img" not in shown
    assert "&lt;img src=x" in shown
    assert "<b>" not in view.message("<b>bold</b>")


def test_the_head_says_what_a_model_is_and_is_not(trained: Any) -> None:
    assert "trained on synthetic data" in view.heading(trained)
    text = " ".join(view.introduction(trained, "at most 10 s and 5 MB").split())
    assert "A perceived expression is not a felt emotion" in text
    assert "No thresholds for words" in text
    assert "at most 10 s and 5 MB" in text


@pytest.mark.parametrize(
    ("end", "labels"),
    [(4.0, ["0 s", "1 s", "2 s", "3 s", "4 s"]), (0.4, None), (290.0, ["0:00", "1:00", "2:00", "3:00", "4:00"])],
)
def test_ticks_are_few_and_round(end: float, labels: list[str] | None) -> None:
    ticks = view._ticks(0.0, end)
    assert len(ticks) <= 6 and ticks[0][0] == 0
    assert labels is None or [label for _, label in ticks] == labels

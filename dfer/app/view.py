"""What the page shows about a video, as HTML: the annotated copy beside a timeline that follows it, and the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dfer.app.jobs import Outcome
from dfer.prediction import table as tables
from dfer.prediction.colours import of_classes
from dfer.prediction.folder import ANNOTATED, TABLE, TABLE_AS_TEXT, TIMELINE
from dfer.prediction.models import SYNTHETIC, TrainedModel
from dfer.prediction.timeline import MOST_PEOPLE, edges, runs
from dfer.prediction.words import about

PERCEIVED = (
    "A perceived expression is not a felt emotion: this is what people would probably see in a face, and says nothing "
    "about what anybody feels."
)
_MOST_ROWS = 1000  # of the table that is shown; the file has all
_WIDTH, _HEIGHT = 1000, 100  # of a person's timeline, in its own units


@dataclass(frozen=True)
class Piece:
    """A stretch of time in which one person was followed.

    Attributes:
        edges: seconds, N + 1 of them: from and to which each of the N windows counts.
        areas: for each class the outline of its area in the picture, as `points` of SVG.
    """

    edges: list[float]
    probabilities: list[list[float]]
    words: list[str]
    areas: list[str]


def heading(model: TrainedModel) -> str:
    """The head of the page: which model it is, and what has to be known about it."""
    warnings = [*([SYNTHETIC] if model.synthetic else []), *model.notes]
    return _template("heading.html.j2").render(title=model.title, warnings=warnings)


def introduction(model: TrainedModel, limits: str) -> str:
    """What the page says and what it does not, where its words come from, and what it takes."""
    return _template("introduction.html.j2").render(perceived=PERCEIVED, about=about(model.certainty), limits=limits)


def message(text: str, *, share: float | None = None, wrong: bool = False) -> str:
    """A sentence in place of a result, with a bar if a share of the work is done."""
    return _template("message.html.j2").render(text=text, share=share, wrong=wrong)


def result(outcome: Outcome, name: str, model: TrainedModel, address: str) -> str:
    """What was found out about a video. `address` is that of the folder of its results, relative to the page."""
    assert outcome.folder is not None
    table = tables.read(outcome.folder / TABLE)
    span = outcome.begin, max(outcome.end, outcome.begin + 1e-3)
    people = [int(number) for number in table["person"].unique()]
    shown = {person: _pieces(table[table["person"] == person], span) for person in people[:MOST_PEOPLE]}
    rows = table.head(_MOST_ROWS)
    return _template("result.html.j2").render(
        name=name,
        warning=SYNTHETIC if model.synthetic else "",
        remarks=outcome.remarks,
        classes=list(zip(model.classes, of_classes(model.classes), strict=True)),
        people=shown,
        hidden=len(people) - len(shown),
        width=_WIDTH,
        height=_HEIGHT,
        ticks=_ticks(*span),
        data=json.dumps(_for_script(shown, span)),
        rows=[_row(row, person) for row, person in zip(tables.rows(rows), rows.itertuples(), strict=True)],
        more=len(table) - len(rows),
        files={file: f"{address}/{file}" for file in (ANNOTATED, TIMELINE, TABLE_AS_TEXT)},
        copy=f"{address}/{ANNOTATED}",
    )


def _row(row: tables.Row, other: Any) -> dict[str, Any]:
    return {
        "person": other.person,
        "start": other.start,
        "end": other.end,
        "words": other.in_words,
        "probabilities": row.probabilities,
        "face_share": other.face_share,
    }


def _pieces(rows: pd.DataFrame, span: tuple[float, float]) -> list[Piece]:
    pieces = []
    for run in runs(rows):
        bounds, probabilities = edges(run), tables.probabilities_of(run)
        across = (bounds - span[0]) / (span[1] - span[0]) * _WIDTH
        pieces.append(
            Piece(
                bounds.round(3).tolist(),
                probabilities.round(4).tolist(),
                run["in_words"].tolist(),
                _areas(across, probabilities),
            )
        )
    return pieces


def _areas(across: np.ndarray, probabilities: np.ndarray) -> list[str]:
    """The outlines of stacked steps: each class lies between the sum of those before it and its own end."""
    tops = np.concatenate([np.zeros((len(probabilities), 1)), probabilities.cumsum(axis=1)], axis=1)
    down = (1 - np.clip(tops, 0, 1)) * _HEIGHT  # the first class at the bottom, as in the timeline's picture
    x = np.repeat(across, 2)[1:-1]
    outlines = []
    for place in range(probabilities.shape[1]):
        lower, upper = np.repeat(down[:, place], 2), np.repeat(down[:, place + 1], 2)
        points = [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
        outlines.append(" ".join(f"{left:.1f},{top:.1f}" for left, top in points))
    return outlines


def _ticks(begin: float, end: float) -> list[tuple[float, str]]:
    """At most six round times: where they are, in per cent of the width, and how they are called."""
    long = end - begin
    step = next((step for step in _STEPS if long / step <= 5), _STEPS[-1])
    times = np.arange(np.ceil(begin / step) * step, end + 1e-9, step)
    return [(float((at - begin) / long * 100), _clock(float(at), step)) for at in times]


_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


def _clock(at: float, step: float) -> str:
    if step < 30:
        return f"{at:g} s" if step >= 1 else f"{at:.1f} s"
    minutes, seconds = divmod(round(at), 60)
    return f"{minutes}:{seconds:02d}"


def _for_script(people: dict[int, list[Piece]], span: tuple[float, float]) -> dict[str, Any]:
    """What page.js needs to follow the video."""
    return {
        "begin": span[0],
        "end": span[1],
        "people": {
            str(person): [
                {"edges": piece.edges, "probabilities": piece.probabilities, "words": piece.words} for piece in pieces
            ]
            for person, pieces in people.items()
        },
    }


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dfer.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)


def asset(name: str) -> str:
    """The text of page.css or page.js."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")

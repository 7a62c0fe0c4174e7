"""One video from beginning to end: its people, what the model says about them, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfer.faces.chapters import Chapters
from dfer.faces.detector import FaceDetector
from dfer.prediction import table as tables
from dfer.prediction.crops import cut_out
from dfer.prediction.models import TrainedModel
from dfer.prediction.people import Followed, People, View, follow, nobody_stays, views
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.saved import SavedViews, Seen
from dfer.prediction.windows import Sliding
from dfer.prediction.words import ABSTAINED, in_words
from dfer.video import Video

_SEARCHING = 0.6  # of the time

THUMBNAILS = 12
"""Pictures of each person, at most."""


@dataclass(frozen=True, eq=False)
class Person:
    """A person of a video.

    Attributes:
        number: 1 is the most prominent one.
        frames: int64[K], the frames in which they were followed; `boxes` float32[K, 4] in them, pixels of the upright
            frame.
        thumbnails: of some windows, the seconds in their middle and a face, uint8[S, S, 3] RGB.
    """

    number: int
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    thumbnails: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class FilmResult:
    """What was found out about a video.

    Attributes:
        table: see `dfer.prediction.table.schema`; by person and time.
        times: float64[N], seconds at which its frames are shown; `end` is when the last one has been.
        turned: degrees clockwise, since the faces were not upright.
        remarks: what a person should know about the file.
    """

    name: str
    source: Path
    table: pd.DataFrame
    people: list[Person]
    times: NDArray[np.float64]
    end: float
    turned: int
    remarks: str


@dataclass(frozen=True)
class Request:
    """What is asked for of each video.

    Attributes:
        abstain_below: the largest probability below which no answer is given; 0 answers always.

    Raises ValueError if `people` is neither 'all' nor 'main'.
    """

    sliding: Sliding = field(default_factory=Sliding)
    people: People = "all"
    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        if self.people not in get_args(People):
            raise ValueError(f"expected people 'all' or 'main', found {self.people!r}")


def predict_film(
    name: str,
    source: Path,
    recogniser: Recogniser,
    detector: FaceDetector | None,
    request: Request,
    *,
    state: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> FilmResult:
    """Say what the people of a video express, window by window.

    Args:
        detector: None where the model's faces are whole pictures.
        state: a folder in which the work is saved, and gone on with; None saves nothing.
        on_progress: called with the share of the work that is done, 0 to 1.

    Raises VideoError if the video cannot be decoded, NobodyError if nobody is in it for long enough.
    """
    model, video = recogniser.model, Video(source)

    def on_frame(number: int) -> None:
        on_progress(_SEARCHING * min(1.0, (number + 1) / len(video.times)))

    followed = follow(
        video,
        detector,
        model.faces,
        request.sliding,
        people=request.people,
        chapters=Chapters(state),
        on_frame=on_frame,
    )
    shown = list(
        views(
            followed,
            model.faces,
            num_segments=model.card["num_segments"],
            consecutive=model.card.get("consecutive", 1),
        )
    )
    if not shown:
        raise nobody_stays(followed, model.faces)
    present = sorted({view.person for view in shown})
    people = [_person(number, followed, track) for number, track in enumerate(present, start=1)]
    illustrated = _illustrated(shown)
    rows: dict[int, dict[str, Any]] = {}

    def take(seen: Seen) -> None:
        view = shown[seen.view]
        row = _row(name, present.index(view.person) + 1, view, followed, seen.probabilities, model, request)
        rows[seen.view] = row
        if seen.face is not None:
            people[row["person"] - 1].thumbnails.append(((row["start"] + row["end"]) / 2, seen.face))

    saved = SavedViews(state)
    for seen in saved.load():
        take(seen)
    left = [number for number in range(len(shown)) if number not in rows]
    cut = cut_out(video, [shown[number] for number in left], model.faces, followed.pictures) if left else iter(())
    for batch in recogniser.of_all(cut):
        seen_now = [
            Seen(left[place], probabilities, faces[len(faces) // 2] if left[place] in illustrated else None)
            for place, faces, probabilities in batch
        ]
        saved.add(seen_now)
        for seen in seen_now:
            take(seen)
        on_progress(_SEARCHING + (1 - _SEARCHING) * len(rows) / len(shown))
    table = pd.DataFrame([rows[number] for number in range(len(shown))])
    table = table.sort_values(["person", "start"], kind="stable", ignore_index=True)
    return FilmResult(
        name,
        source,
        table[tables.schema(model.classes).names],
        people,
        video.times,
        followed.end,
        90 * video.turn,
        "; ".join(video.remarks),
    )


def _person(number: int, followed: Followed, place: int) -> Person:
    track = followed.tracks[place]
    return Person(number, followed.numbers[followed.searched[track.positions]], track.boxes)


def _illustrated(shown: list[View]) -> set[int]:
    """The views of which a face is kept as a picture: some of each person, evenly over time."""
    chosen: set[int] = set()
    for person in {view.person for view in shown}:
        own = [number for number, view in enumerate(shown) if view.person == person]
        places = np.linspace(0, len(own) - 1, min(THUMBNAILS, len(own))).round().astype(int)
        chosen |= {own[place] for place in places.tolist()}
    return chosen


def _row(
    name: str,
    person: int,
    view: View,
    followed: Followed,
    probabilities: NDArray[np.float64],
    model: TrainedModel,
    request: Request,
) -> dict[str, Any]:
    stop = view.window.stop
    answered = bool(probabilities.max() >= request.abstain_below)
    return {
        "video": name,
        "person": person,
        "start": float(followed.times[view.window.first]),
        "end": float(followed.times[stop]) if stop < len(followed.times) else followed.end,
        **dict(zip(("left", "top", "right", "bottom"), view.box.tolist(), strict=True)),
        **{
            f"{tables.PROBABILITY}{name}": value
            for name, value in zip(model.classes, probabilities.tolist(), strict=True)
        },
        "prediction": model.classes[int(probabilities.argmax())],
        "entropy": float(tables.entropy(probabilities)),
        "face_share": view.face_share,
        "answered": answered,
        "in_words": in_words(probabilities, model.classes, model.certainty) if answered else ABSTAINED,
    }

"""A trained model in Python: `dfer.load("demo/soft").predict("clip.mp4")`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dfer.config.reading import DEFAULT_CONFIG
from dfer.prediction import annotated, timeline
from dfer.prediction import table as tables
from dfer.prediction.film import FilmResult, Request, predict_film
from dfer.prediction.models import SYNTHETIC, TrainedModel, open_model
from dfer.prediction.people import NobodyError, People
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.run import abstain_below
from dfer.prediction.windows import Sliding
from dfer.prediction.words import about
from dfer.prediction.work import SYNTHETIC_IN_SHORT
from dfer.video import VideoError

__all__ = ["Model", "NobodyError", "Prediction", "VideoError", "load"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one video.

    Attributes:
        table: a row for each person and window, see `dfer.prediction.table.schema`.
        notes: what has to be known beside the numbers, in sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    _result: FilmResult
    _title: str
    _warning: str

    @property
    def timeline(self) -> pd.DataFrame:
        """The probabilities over time: a row for each person and window (index `person` and `time`, the window's middle
        in seconds), a column for each class."""
        middle = (self.table["start"] + self.table["end"]) / 2
        index = pd.MultiIndex.from_arrays([self.table["person"], middle.rename("time")])
        classes = tables.classes_of(self.table)
        return pd.DataFrame(tables.probabilities_of(self.table), index=index, columns=list(classes))

    def plot(self) -> Figure:
        """The timeline as a figure of Matplotlib, which a notebook shows; `.savefig(path)` writes it."""
        return timeline.draw(self._result, title=self._title, warning=self._warning)

    def annotate(self, path: str | Path) -> None:
        """Write a copy of the video (MP4) with boxes, bars and its sound."""
        annotated.write(self._result, Path(path), warning=SYNTHETIC_IN_SHORT if self._warning else "")


class Model:
    """A trained model, ready to be used.

    Attributes:
        trained: what it was made of and how its faces are made.
        classes: those that it tells apart.
    """

    def __init__(self, trained: TrainedModel, *, device: str = "auto", threads: int = 0) -> None:
        """`device`: 'auto' (a GPU if there is one), 'cpu' or 'cuda'; `threads` of the CPU, 0 takes all cores.

        Raises SavedModelError if the weights are damaged, ModelFileError or DetectorError if no faces can be found.
        """
        from dfer.faces.detector import FaceDetector

        detection, threads = trained.detection, threads or os.cpu_count() or 1
        self.trained, self.classes = trained, trained.classes
        self._recogniser = Recogniser(trained, device=device, threads=threads)
        self._detector = None if detection is None else FaceDetector(detection, threads=threads)

    def predict(
        self,
        video: str | Path,
        *,
        people: People = "all",
        window: float = 2.0,
        every: float = 0.5,
        abstain: float | None = None,
    ) -> Prediction:
        """Say what the people in a video express.

        Args:
            video: a file, a folder of pictures, or a picture.
            people: everybody, or the most prominent person.
            window, every: seconds that the model sees as one clip, and from one such window to the next; at least 0.04.
            abstain: give no answer where the risk of a wrong one is above this share, 0 to 1.

        Raises ValueError if an argument is none of these, VideoError if the video cannot be decoded, NobodyError if
        nobody is in it for long enough, InputError if nothing is known about the risk.
        """
        source = Path(video)
        request = Request(Sliding(window, every), people, abstain_below(self.trained, abstain))
        result = predict_film(source.name, source, self._recogniser, self._detector, request)
        warning = SYNTHETIC if self.trained.synthetic else ""
        notes = tuple(filter(None, [warning, about(self.trained.certainty), *self.trained.notes, result.remarks]))
        return Prediction(result.table, notes, result, f"{source.name}: {self.trained.title}", warning)

    def __repr__(self) -> str:
        warning = f". {SYNTHETIC}" if self.trained.synthetic else ""
        return f"<dfer model {self.trained.title}{warning}>"


def load(
    model: str | Path, *, config: str | Path = DEFAULT_CONFIG, overrides: Sequence[str] = (), device: str = "auto"
) -> Model:
    """`dfer.load`."""
    return Model(open_model(str(model), config=Path(config), overrides=overrides), device=device)

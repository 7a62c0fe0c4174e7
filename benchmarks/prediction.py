"""`python -m benchmarks.prediction VIDEO... --model M`: `dfer predict`'s windows of a video, against practice.

Practice: OpenCV decodes, InsightFace looks for faces in every frame at 640 x 640, and the network sees the windows of
the largest face one by one, aligned as the model's card says. One process with all cores each, with everything loaded,
in turns; the table has the median of the rounds. Where a face is looked for in another size or cut, its points are some
tenths of a pixel elsewhere. That nothing else differs is shown by a third run, in which practice is handed our faces.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Measured, MeasurementError, Variant, Work, interleaved
from benchmarks.paper import CROP_SIZE, SEGMENTS
from dfer.config.reading import DEFAULT_CONFIG

if TYPE_CHECKING:
    from dfer.faces.tracking import Track
    from dfer.prediction.models import TrainedModel

_CLASSES = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")

Windows = Mapping[float, NDArray[np.float64]]
"""The second at which a window begins -> the probabilities float64[K] of the most prominent person in it."""


class Compared(NamedTuple):
    """One video with one model."""

    video: str
    model: str  # its network, with number and size of the frames
    ours: Measured
    practice: Measured
    same_faces: Measured  # practice with our faces


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="with one person")
    parser.add_argument("--model", action="append", default=[], help="as of `dfer predict`; several may be named")
    parser.add_argument("--untrained", action="store_true", help="the paper's network in its own size, random weights")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    if not options.model and not options.untrained:
        parser.error("expected --model, --untrained, or both")
    from dfer.prediction.models import open_model

    rows = []
    with tempfile.TemporaryDirectory(prefix="dfer-untrained-") as scratch:
        names = [*options.model, *([str(untrained(Path(scratch, "untrained")))] if options.untrained else [])]
        for model in [open_model(name, config=options.config) for name in names]:
            for video in options.videos:
                rows.append(compare(video, model, rounds=options.rounds))
                sys.stderr.write(f"{as_markdown(rows[-1:])}\n")
    sys.stdout.write(as_markdown(rows))
    return 0


def untrained(folder: Path) -> Path:
    """Write the paper's network into a folder, in full width and with random weights; returns the folder."""
    import torch

    from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
    from dfer.config.experiments import Faces
    from dfer.config.settings import ShardSettings, StageSettings
    from dfer.models import build
    from dfer.models.saved import save_model

    torch.manual_seed(0)
    settings = StageSettings().model_copy(update={"shards": ShardSettings(segments=SEGMENTS)})
    name = settings.model.name
    network = build(name, num_classes=len(_CLASSES), num_segments=SEGMENTS)
    card = {
        "model": name,
        "width": 1.0,
        "dropout": settings.model.dropout,
        "classes": list(_CLASSES),
        "num_segments": SEGMENTS,
        "input_size": CROP_SIZE,
        "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "dataset": None,
        "fold": None,
        "faces": Faces.of("", settings).for_card(),
    }
    folder.mkdir()
    save_model(folder, network.state_dict(), card)
    return folder


def compare(video: Path, model: TrainedModel, *, rounds: int) -> Compared:
    """Raises MeasurementError if a side fails, or they do not speak of the same windows."""
    cores = os.cpu_count() or 1
    work = {"video": video, "model": model, "threads": cores}
    sides = interleaved([Variant(side.__name__, side, cores, work) for side in (ours, practice)], rounds=rounds)
    sides |= interleaved([Variant("same faces", practice, cores, {**work, "our_faces": True})], rounds=1)
    for side in sides.values():
        if side.error:
            raise MeasurementError(f"{video}: {side.name}: {side.error}")
    mine = sides["ours"].results["windows"]
    for name in ("practice", "same faces"):
        if mine.keys() != (theirs := sides[name].results["windows"]).keys():
            raise MeasurementError(f"{video}: {len(mine)} windows with somebody on our side, {len(theirs)} in {name}")
    card = model.card
    shown = f"`{card['model']}`, {card['num_segments']} x {card['input_size']}"
    return Compared(video.name, shown, sides["ours"], sides["practice"], sides["same faces"])


def ours(*, video: Path, model: TrainedModel, threads: int) -> Iterator[Work]:
    """All that `dfer predict` finds out about a video, by one process."""
    from dfer.faces.detector import FaceDetector
    from dfer.prediction.film import Request, predict_film
    from dfer.prediction.recogniser import Recogniser
    from dfer.prediction.table import probabilities_of

    detector = FaceDetector(model.detection, threads=threads) if model.detection is not None else None
    recogniser = Recogniser(model, device="cpu", threads=threads)
    while True:
        table = predict_film(video.name, video, recogniser, detector, Request(people="main")).table
        yield Work(1, results={"windows": dict(zip(table["start"].tolist(), probabilities_of(table), strict=True))})


def practice(*, video: Path, model: TrainedModel, threads: int, our_faces: bool = False) -> Iterator[Work]:
    """One step after the other; with `our_faces`, those that `dfer predict` follows.

    Frames stay in memory, so that practice need not decode them again for each window.
    """
    from benchmarks.alternatives.faces import frame_detector
    from dfer.faces.chapters import Chapters
    from dfer.faces.detector import FaceDetector
    from dfer.prediction.crops import crop
    from dfer.prediction.people import Followed, follow, views
    from dfer.prediction.recogniser import Recogniser
    from dfer.prediction.windows import Sliding
    from dfer.video import Video

    detector = frame_detector(threads)
    recogniser = Recogniser(model, device="cpu", threads=threads)
    while True:
        started = time.perf_counter()
        frames = _decoded(video)
        decoded = time.perf_counter()
        if our_faces:
            found = FaceDetector(model.detection, threads=threads) if model.detection is not None else None
            followed = follow(Video(video), found, model.faces, Sliding(), people="main", chapters=Chapters(None))
        else:
            track, times = _largest_faces(detector, frames), Video(video).times[: len(frames)]
            every = np.arange(len(times))
            followed = Followed(every, times, times[-1], Sliding().over(times), every, [track], {}, len(track))
        detected = time.perf_counter()
        segments, consecutive = model.card["num_segments"], model.card.get("consecutive", 1)
        said = {}
        for view in views(followed, model.faces, num_segments=segments, consecutive=consecutive):
            matrices = view.matrices if view.matrices is not None else [None] * len(view.frames)
            pairs = zip(view.frames.tolist(), matrices, strict=True)
            faces = np.stack([crop(frames[number], matrix, model.faces) for number, matrix in pairs])
            said[float(followed.times[view.window.first])] = recogniser.probabilities(faces[None])[0]
        ended = time.perf_counter()
        parts = {"decoding": decoded - started, "faces": detected - decoded, "network": ended - detected}
        yield Work(1, results={"windows": said, "parts": parts, "frames": len(frames), "seconds": followed.end})


def _decoded(video: Path) -> list[NDArray[np.uint8]]:
    import cv2

    capture, frames = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(read[1], np.uint8))
    capture.release()
    return frames


def _largest_faces(detector: Any, frames: Sequence[NDArray[np.uint8]]) -> Track:
    """The largest face of every frame that has one."""
    from benchmarks.alternatives.faces import largest_face
    from dfer.faces.tracking import Track

    faces = {number: largest_face(detector, frame) for number, frame in enumerate(frames)}
    largest = {number: face for number, face in faces.items() if face is not None}
    number = len(largest)
    return Track(
        positions=np.array(list(largest), np.int64),
        keypoints=np.stack([face.keypoints for face in largest.values()]),
        boxes=np.stack([face.box for face in largest.values()]),
        scores=np.ones(number, np.float32),
        interpolated=np.zeros(number, bool),
        close_up=np.zeros(number, bool),
        paths=np.zeros(number, np.int64),
    )


def differences(mine: Windows, theirs: Windows) -> NDArray[np.float64]:
    """Of each window, the largest difference between the probabilities of two sides."""
    return np.array([np.abs(mine[start] - theirs[start]).max() for start in mine])


def same_class(mine: Windows, theirs: Windows) -> float:
    """The share of the windows in which both sides name the same class."""
    return float(np.mean([mine[start].argmax() == theirs[start].argmax() for start in mine]))


def as_markdown(rows: Sequence[Compared]) -> str:
    """The table."""
    lines = [
        "| video, model | windows | `dfer predict`, s | practice, s (decoding + faces + network) | ratio | of real "
        "time | apart with the same faces, largest | with InsightFace's: median, largest | same class |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        results = row.practice.results
        mine, theirs = row.ours.results["windows"], results["windows"]
        apart = differences(mine, theirs)
        cells = (
            f"{row.video}, {results['frames']} frames; {row.model}",
            str(len(mine)),
            f"{row.ours.median:.2f}",
            f"{row.practice.median:.1f} ({' + '.join(f'{seconds:.1f}' for seconds in results['parts'].values())})",
            f"{row.practice.median / row.ours.median:.1f}x",
            f"{100 * row.ours.median / results['seconds']:.0f} %",
            f"{differences(mine, row.same_faces.results['windows']).max():.0e}",
            f"{np.median(apart):.3f}, {apart.max():.3f}",
            f"{100 * same_class(mine, theirs):.0f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""One video in a process of its own: from the file to its folder of results."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfer.config.settings import DetectionSettings
from dfer.faces.detector import FaceDetector
from dfer.prediction import annotated, timeline
from dfer.prediction import table as tables
from dfer.prediction.film import FilmResult, Request, predict_film
from dfer.prediction.folder import (
    ANNOTATED,
    ROW,
    STATE,
    SUMMARY,
    TABLE,
    TIMELINE,
    VIDEOS,
    failed,
    name_of,
    partial_folder,
)
from dfer.prediction.models import SYNTHETIC, TrainedModel
from dfer.prediction.people import NobodyError
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.words import about
from dfer.storage.files import write_atomically
from dfer.storage.layout import put_in_place
from dfer.system import logs
from dfer.system.paths import spelled, storable
from dfer.video import VideoError

logger = logging.getLogger(__name__)

SYNTHETIC_IN_SHORT = "Trained on synthetic data: proves nothing about real people."

_PREDICTING = 0.6  # of the time, where a video is annotated as well
_SAY_EVERY = 0.3  # seconds
_kept: dict[tuple[str, str], tuple[Recogniser, FaceDetector | None]] = {}


def predict_in_process(
    *,
    video: str,
    source: Path,
    out: Path,
    model: TrainedModel,
    detection: DetectionSettings | None,
    request: Request,
    annotate: bool,
    device: str,
    threads: int,
    send: Callable[[float], None],
) -> dict[str, Any]:
    """Write the results of a video into its folder, complete or not at all; returns its index row.

    The model is kept in the process for the next call. `send` is called with the share of the work that is done.
    """
    told = 0.0

    def on_progress(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            send(share)

    with logs.about(clip_id=video, source=spelled(source)):
        recogniser, detector = _model(model, detection, device, threads)
        folder = partial_folder(out, video)
        state = folder / STATE
        state.mkdir(parents=True, exist_ok=True)
        part = _PREDICTING if annotate else 1.0
        try:
            result = predict_film(
                video,
                source,
                recogniser,
                detector,
                request,
                state=state,
                on_progress=lambda share: on_progress(part * share),
            )
        except (VideoError, NobodyError) as error:
            detail = storable(error.detail)
            logger.info("nothing predicted: %s: %s", error.reason, detail, extra={"reason": error.reason})
            row = failed(video, error.reason, detail)
        else:
            row = _write(result, folder, model, request, name_of(video))
            if annotate:
                warning = SYNTHETIC_IN_SHORT if model.synthetic else ""
                _annotate(result, folder, row, warning, on_progress)
        shutil.rmtree(state)
        (folder / ROW).write_text(json.dumps(row, indent=1), encoding="utf-8")
        put_in_place(folder, out / VIDEOS / name_of(video))
    return row


def load_in_process(
    *,
    model: TrainedModel,
    detection: DetectionSettings | None,
    device: str,
    threads: int,
    send: Callable[[float], None],
) -> None:
    """Load a model into the process before its first video. Raises SavedModelError if its weights cannot be used,
    ModelFileError or DetectorError if no faces can be found."""
    _model(model, detection, device, threads)


def _model(
    model: TrainedModel, detection: DetectionSettings | None, device: str, threads: int
) -> tuple[Recogniser, FaceDetector | None]:
    key = str(model.path), device
    if key not in _kept:
        cv2.setNumThreads(threads)
        detector = FaceDetector(detection, threads=threads) if detection is not None else None
        _kept[key] = Recogniser(model, device=device, threads=threads), detector
    return _kept[key]


def _write(result: FilmResult, folder: Path, model: TrainedModel, request: Request, name: str) -> dict[str, Any]:
    row = {
        "video": result.name,
        "status": "ok",
        "reason": "",
        "detail": "",
        "seconds": result.end - float(result.times[0]),
        "frames": len(result.times),
        "people": len(result.people),
        "rows": len(result.table),
        "turned": result.turned,
        "remarks": storable(result.remarks),
        "folder": f"{VIDEOS}/{name}",
    }
    warning = SYNTHETIC if model.synthetic else ""
    tables.write(result.table, folder / TABLE, model.classes, notes=json.dumps(model.describe()))
    timeline.write(result, folder / TIMELINE, title=f"{result.name}: {model.title}", warning=warning)
    summary = {
        **row,
        "warning": warning,
        "model": model.describe(),
        "words": about(model.certainty),
        "request": asdict(request),
        "persons": [summary_of(result, person.number) for person in result.people],
    }
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return row


def summary_of(result: FilmResult, person: int) -> dict[str, Any]:
    """What a video's table says about one person over all of it, as JSON data."""
    rows = result.table[result.table["person"] == person]
    mean = tables.probabilities_of(rows).mean(axis=0)
    classes = tables.classes_of(rows)
    shares = rows["prediction"].value_counts(normalize=True)
    return {
        "person": person,
        "first_seen": float(rows["start"].min()),
        "last_seen": float(rows["end"].max()),
        "windows": len(rows),
        "answered": int(rows["answered"].sum()),
        "mean_probabilities": {name: round(float(value), 6) for name, value in zip(classes, mean, strict=True)},
        "share_of_windows": {name: round(float(shares.get(name, 0.0)), 6) for name in classes},
        "most": classes[int(np.argmax(mean))],
    }


def _annotate(
    result: FilmResult, folder: Path, row: dict[str, Any], warning: str, on_progress: Callable[[float], None]
) -> None:
    done = 0

    def on_frames(number: int) -> None:
        nonlocal done
        done += number
        on_progress(_PREDICTING + (1 - _PREDICTING) * min(1.0, done / len(result.times)))

    sound = annotated.write(result, folder / ANNOTATED, warning=warning, on_frames=on_frames)
    row["remarks"] = "; ".join(filter(None, [row["remarks"], sound]))

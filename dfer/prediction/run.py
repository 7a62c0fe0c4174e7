"""Predicts on many videos, several side by side."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.problems import InputError
from dfer.prediction import table as tables
from dfer.prediction.film import Request
from dfer.prediction.folder import (
    INDEX,
    SUMMARY,
    TABLE,
    TABLE_AS_TEXT,
    alone,
    claim,
    failed,
    fingerprint,
    finished,
    write_index,
)
from dfer.prediction.models import SYNTHETIC, TrainedModel
from dfer.prediction.words import about
from dfer.storage.cards import SavedModelError
from dfer.storage.files import write_atomically
from dfer.system.gpu_slots import GpuSlot, for_aligners
from dfer.system.gpus import visible_gpus
from dfer.system.paths import storable
from dfer.system.processes import ProcessDiedError, Worker

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a call is, for people. Safe to use from several threads.

    Attributes:
        done, total: bytes of the videos that were to be predicted.
        videos, videos_total: numbers of videos.
    """

    total: int
    videos_total: int
    done: float = 0.0
    videos: int = 0


def predict_videos(
    videos: Mapping[str, Path],
    out: Path,
    model: TrainedModel,
    request: Request,
    *,
    annotate: bool = False,
    workers: int = 0,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> pd.DataFrame:
    """Predict on videos (name -> file) and write all results into `out`; returns the index, a row for each video.

    The same call goes on where an earlier one stopped; with more videos it does those that are new, if those from
    before still have their names.

    Args:
        annotate: also write an annotated copy of each video.
        workers: processes side by side; 0: one a core, or a few on a GPU.
        device: 'auto' (a GPU if there is one), 'cpu' or 'cuda'.

    Raises InputError if `out` has other content or another call writes to it, ModelFileError or DetectorError if the
    detector cannot run, SavedModelError if the model's weights are damaged.
    """
    if model.detection is not None:
        from dfer.faces.detector import FaceDetector

        FaceDetector(model.detection)  # fetched and tested once, before anything is written
    with alone(out):
        claim(out, settings_of(model, request), videos)
        rows = {name: row for name in videos if (row := finished(out, name, annotate=annotate)) is not None}
        rows |= _side_by_side(
            {name: path for name, path in videos.items() if name not in rows},
            workers=workers,
            on_progress=on_progress,
            out=out,
            model=model,
            detection=model.detection,
            request=request,
            annotate=annotate,
            device=device,
        )
        return _write(out, [rows[name] for name in videos], model, request)


def _side_by_side(
    videos: Mapping[str, Path], *, workers: int, on_progress: Callable[[Progress], None], device: str, **call: Any
) -> dict[str, dict[str, Any]]:
    """The index rows of videos, each predicted by a call of `predict_in_process`."""
    sizes = {name: max(1, fingerprint(path)[1]) for name, path in videos.items()}
    progress, lock = Progress(sum(sizes.values()), len(videos)), threading.Lock()
    on_gpu = device != "cpu" and bool(visible_gpus())
    cores = os.cpu_count() or 1
    side_by_side = max(1, min(workers or cores, len(videos)))
    slots = for_aligners("cuda" if on_gpu else "cpu", side_by_side)
    slots.threads = max(1, cores // side_by_side)

    def predict(name: str) -> dict[str, Any]:
        share = 0.0

        def on_share(now: float) -> None:
            nonlocal share
            with lock:
                progress.done += sizes[name] * (now - share)
                share = now
                on_progress(progress)

        with GpuSlot(lambda: slots) as slot:
            row = _one(
                slot,
                on_share,
                video=name,
                source=videos[name],
                device=device,
                threads=slots.threads,
                **call,
            )
        with lock:
            progress.videos += 1
        on_share(1.0)
        return row

    try:
        # the largest first, so that none of them is left alone at the end
        in_order = sorted(videos, key=lambda name: -sizes[name])
        with ThreadPoolExecutor(side_by_side) as threads:
            return dict(zip(in_order, threads.map(predict, in_order), strict=True))
    finally:
        slots.close()


def abstain_below(model: TrainedModel, risk: float | None) -> float:
    """The largest probability below which the risk of a wrong class is above `risk`; 0 if nobody asks for one.

    Raises ValueError if `risk` is no share, InputError if none was measured for the model, or it is above that
    everywhere.
    """
    if risk is None:
        return 0.0
    if not 0 <= risk <= 1:
        raise ValueError(f"expected abstain to be a share from 0 to 1, found {risk:g}")
    certainty = model.certainty
    if certainty is None or not certainty.confidence:
        raise InputError(
            f"{model.name}: nothing is known about its risk: {about(None)} Leave --abstain out, or train with an inner "
            "validation part (train.selection=validation)"
        )
    needed = certainty.needed_confidence(risk)
    if needed is None:
        least = min(certainty.risk)
        raise InputError(
            f"{model.name}: its risk is above {risk:g} however sure it is; the smallest that is known for certain (on "
            f"{certainty.clips} clips) is {least:.2f}. Ask for --abstain {least:.2f} or more"
        )
    return needed


def _one(slot: GpuSlot, on_share: Callable[[float], None], **call: Any) -> dict[str, Any]:
    """The index row of a video; what goes wrong with one does not stop the others."""
    from dfer.prediction.work import predict_in_process

    name = call["video"]
    try:
        with _process_of(slot) as process:
            return process.call(predict_in_process, on_message=on_share, **call)
    except SavedModelError:
        raise
    except ProcessDiedError as error:
        logger.warning("%s: %s", name, error)
        return failed(name, "crashed", f"{error}; convert it with ffmpeg, or leave it out")
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        logger.exception("video %s failed unexpectedly", name, extra={"reason": "error"})
        return failed(name, "error", storable(f"{type(error).__name__}: {error}"))


def _process_of(slot: GpuSlot) -> AbstractContextManager[Worker]:
    return slot.workers.one()


_NO_ROOM = {28, 122, 30}  # ENOSPC, EDQUOT, EROFS: of the folder that is written to, not of the video


def settings_of(model: TrainedModel, request: Request) -> dict[str, Any]:
    """What determines the results, as JSON data."""
    certainty = None if model.certainty is None else model.certainty.as_dict()
    as_json: dict[str, Any] = json.loads(
        json.dumps(
            {
                "model": model.identity,
                "faces": model.faces.for_card(),
                "certainty": certainty,
                **asdict(request),
            }
        )
    )
    return as_json


def _write(out: Path, rows: list[dict[str, Any]], model: TrainedModel, request: Request) -> pd.DataFrame:
    """The table of all videos, the summary, and last the index."""
    ok = [row for row in rows if row["status"] == "ok"]
    each = [tables.read(out / row["folder"] / TABLE) for row in ok]
    table = pd.concat(each, ignore_index=True) if each else tables.empty(model.classes)
    for name in (TABLE, TABLE_AS_TEXT):
        tables.write(table, out / name, model.classes, notes=json.dumps(model.describe()))
    reasons = pd.Series([row["reason"] for row in rows if row["reason"]], dtype=object).value_counts()
    summary = {
        "warning": SYNTHETIC if model.synthetic else "",
        "model": model.describe(),
        "words": about(model.certainty),
        "request": asdict(request),
        "videos": {"given": len(rows), "ok": len(ok), **{str(name): int(n) for name, n in reasons.items()}},
        "people": sum(row["people"] for row in ok),
        "rows": len(table),
        "answered": int(table["answered"].sum()),
        "seconds": sum(row["seconds"] for row in ok),
    }
    write_atomically(out / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return write_index(rows, out / INDEX)

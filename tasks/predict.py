"""Prediction on folders of videos as a Prefect task: only what is new or has changed is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from dfer.config.problems import InputError
from tasks.running.failures import note_stage
from tasks.running.stage import artifact_key

if TYPE_CHECKING:
    from dfer.prediction.film import Request
    from dfer.prediction.models import TrainedModel
    from dfer.prediction.run import Progress

# below `dfer`, whose messages appear in Prefect's page
logger = logging.getLogger(f"dfer.{__name__}")

_SILENCE = 30.0  # seconds between lines on progress


@dataclass(frozen=True)
class Predicted:
    """What became of the videos.

    Attributes:
        index: the file with a row for each of them.
        videos, ok: how many there are, and how many have a result.
        made: how many were predicted now; the others were there.
    """

    index: Path
    videos: int
    ok: int
    made: int


@task(name="predict", cache_policy=NO_CACHE, on_failure=[note_stage])
def predict_folders(
    videos: Sequence[Path], out: Path, model: TrainedModel, request: Request, *, annotate: bool, device: str
) -> Predicted:
    """Predict on all videos of some folders into `out`. Of an earlier call, what is the same stays.

    Where nothing had to be done, the task's state in Prefect is `Cached`. Raises InputError if there is no video, or
    `out` has other content, or another prediction writes to it.
    """
    from dfer.faces.listing import find_videos
    from dfer.prediction.folder import INDEX, alone, finished, forget_changed
    from dfer.prediction.run import predict_videos, settings_of

    if not videos:
        raise InputError("videos: expected files or folders to predict on, found none")
    found = find_videos(list(videos)).videos
    with alone(out):
        forget_changed(out, settings_of(model, request), found)
        waiting = [name for name in found if finished(out, name, annotate=annotate) is None]
        index = predict_videos(found, out, model, request, annotate=annotate, device=device, on_progress=_teller())
    result = Predicted(out / INDEX, len(index), int((index["status"] == "ok").sum()), len(waiting))
    logger.info("%d of %d videos with a result, %d predicted now: %s", result.ok, result.videos, result.made, out)
    create_link_artifact(
        (out / INDEX).resolve().as_uri(), link_text="the index", key=artifact_key("predictions", out.name)
    )
    if not waiting:
        return _cached(result)
    return result


def _cached(result: Predicted) -> Any:
    return Completed(name="Cached", message=f"{result.videos} videos were there", data=result)


def _teller() -> Any:
    told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told > _SILENCE:
            told = time.monotonic()
            share = progress.done / progress.total
            logger.info("%d of %d videos, %.0f%%", progress.videos, progress.videos_total, 100 * share)

    return tell

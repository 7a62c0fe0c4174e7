"""A training that a GPU has no memory for is tried again with less."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dfer.config.settings import TrainSettings
from dfer.storage.file_names import HISTORY
from dfer.system import processes

# below `dfer`, whose messages appear in Prefect's page
logger = logging.getLogger(f"dfer.{__name__}")

PAUSE = 5.0
"""Seconds before the second try, twice as many before each further one: others use the GPU too."""

T = TypeVar("T")


def with_less_memory(
    train: Callable[[TrainSettings, bool], T],
    settings: TrainSettings,
    folder: Path,
    *,
    title: str,
    sleep: Callable[[float], None] = processes.sleep,
) -> T:
    """Train, and whenever a GPU's memory runs out again with less of it, from the checkpoint in `folder` on.

    First decoded frames leave the GPU for RAM, then steps are no longer recorded as a CUDA graph, which keeps memory of
    its own; neither changes a result. Then every batch is computed in twice as many micro-batches, which BatchNorm
    sees, down to two clips a part.

    Args:
        train: called with the settings, and whether frames may be kept on the GPU.

    Raises whatever `train` raises: an error for want of memory when nothing smaller is left, or `train.cuda_graph` is
    "on", which nothing smaller goes with; everything else at once.
    """
    most = settings.batch_size // settings.processes // 2
    parts, pause, frames_on_gpu = max(settings.micro_batches, _parts_before(folder)), PAUSE, True
    graph = settings.cuda_graph
    while True:
        try:
            return train(settings.model_copy(update={"micro_batches": parts, "cuda_graph": graph}), frames_on_gpu)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            if frames_on_gpu and _frames_were_on_gpu(error):
                frames_on_gpu, how = False, "decoded frames in RAM instead of there"
            elif graph == "auto" and parts == 1 and _was_recorded(error):
                graph, how = "off", "no CUDA graph"
            elif graph == "on":
                error.add_note(
                    "train.cuda_graph is 'on', and a recorded batch is not computed in parts: set it to 'auto'"
                )
                raise
            elif parts < most:
                parts = min(2 * parts, most)
                how = f"every batch in {parts} parts, which batch normalisation sees one by one"
            else:
                error.add_note(
                    f"train.batch_size {settings.batch_size} was computed in {parts} parts; fewer than two "
                    "clips a part cannot be: free memory on the GPU, or set a smaller model or input"
                )
                raise
            logger.warning(
                "%s: the GPU's memory ran out; going on from the checkpoint in %.0f s with %s (%s)",
                title,
                pause,
                how,
                str(error).splitlines()[0],
            )
        sleep(pause)
        pause *= 2


def _is_out_of_memory(error: Exception) -> bool:
    from dfer.training.gpu_memory import is_out_of_memory  # loads torch, which has been if it is one

    return is_out_of_memory(error)


def _frames_were_on_gpu(error: Exception) -> bool:
    from dfer.training.gpu_memory import FRAMES_ON_GPU

    return FRAMES_ON_GPU in getattr(error, "__notes__", ())


def _was_recorded(error: Exception) -> bool:
    from dfer.training.gpu_memory import RECORDED

    return RECORDED in getattr(error, "__notes__", ())


def _parts_before(folder: Path) -> int:
    """What an earlier try, maybe of an earlier run, had come to when it wrote its last checkpoint."""
    try:
        history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 1
    return int(history["summary"].get("micro_batches", 1))

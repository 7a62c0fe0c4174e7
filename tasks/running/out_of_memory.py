"""A training that a GPU has no memory for is tried again in smaller parts."""

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


def in_smaller_parts(
    train: Callable[[TrainSettings], T],
    settings: TrainSettings,
    folder: Path,
    *,
    title: str,
    sleep: Callable[[float], None] = processes.sleep,
) -> T:
    """Train, and again with twice as many micro-batches whenever a GPU's memory runs out, down to two clips a part.

    Each try goes on from the checkpoint in `folder`, where the one before it ended, with the parts of that one.

    Raises whatever `train` raises: torch.OutOfMemoryError when nothing smaller is left, everything else at once.
    """
    most = settings.batch_size // settings.processes // 2
    parts, pause = max(settings.micro_batches, _parts_before(folder)), PAUSE
    while True:
        try:
            return train(settings.model_copy(update={"micro_batches": parts}))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            if parts >= most:
                error.add_note(
                    f"train.batch_size {settings.batch_size} was computed in {parts} parts; fewer than two "
                    "clips a part cannot be: free memory on the GPU, or set a smaller model or input"
                )
                raise
            parts = min(2 * parts, most)
            logger.warning(
                "%s: the GPU's memory ran out; going on from the checkpoint in %.0f s with every batch in %d parts, "
                "which batch normalisation sees one by one (%s)",
                title,
                pause,
                parts,
                str(error).splitlines()[0],
            )
        sleep(pause)
        pause *= 2


def _is_out_of_memory(error: Exception) -> bool:
    import torch  # loaded already if it is one

    return isinstance(error, torch.OutOfMemoryError)


def _parts_before(folder: Path) -> int:
    """What an earlier try, maybe of an earlier run, had come to when it wrote its last checkpoint."""
    try:
        history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 1
    return int(history["summary"].get("micro_batches", 1))

"""The GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


def trainings_at_a_time(configured: int, processes: int, places: int) -> int:
    """How many trainings run side by side: `run.trainings`, or (0) as many as fit in the places (GPUs, for example).
    Each of a training's processes takes a place."""
    return configured or max(1, places // processes)


def visible_gpus() -> list[str]:
    """The name of each GPU, for CUDA_VISIBLE_DEVICES of a child process; empty without GPUs.

    If the variable is set, the names are entries of it. Imports torch where there may be a GPU, but does not initialise
    one.
    """
    if "torch" not in sys.modules and not _has_driver():  # it takes seconds to load
        return []
    import torch

    count = torch.cuda.device_count()
    listed = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if listed is None else listed.split(",")
    return [name.strip() for name in names[:count]]


def _has_driver() -> bool:
    """Whether torch might see a GPU: of NVIDIA by its driver's library, of AMD by its driver's device."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return sys.platform != "linux" or Path("/dev/kfd").exists()
    return True

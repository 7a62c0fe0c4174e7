"""The GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"

ROOM_FOR_TWO = 40 * 2**30
"""Bytes of a GPU on which two trainings run side by side: one of the paper's takes less than half of them, and leaves a
large GPU idle most of the time."""

ALIGNERS_A_GPU = 3
"""Processes that look for faces on one GPU: more only wait for each other, and each needs memory of its own."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use."""

    name: str  # for CUDA_VISIBLE_DEVICES of a child process
    memory: int  # bytes, all of it


def trainings_at_a_time(configured: int, processes: int, places: int) -> int:
    """How many trainings run side by side: `run.trainings`, or (0) as many as fit in the places (see
    `training_places`). Each of a training's processes takes a place."""
    return configured or max(1, places // processes)


def training_places(gpus: list[Gpu], processes: int) -> int:
    """How many processes of trainings, each on one GPU, are on these GPUs at a time: two on a large one, or one where
    a training has several `processes`, which would wait for each other."""
    two = processes == 1 and all(gpu.memory >= ROOM_FOR_TWO for gpu in gpus)
    return len(gpus) * (2 if two else 1)


def visible_gpus() -> list[Gpu]:
    """The GPUs of this process; empty without any.

    Their names are entries of CUDA_VISIBLE_DEVICES, if it is set. Another process looks: CUDA has to be told which
    GPUs it may use before it is touched, and counting them can be a touch (where NVIDIA's management library is
    missing, for example).
    """
    if not _has_driver():  # the other process takes seconds
        return []
    listed = os.environ.get(VISIBLE)
    memory = _memory_of_each(listed)
    names = [str(number) for number in range(len(memory))] if listed is None else listed.split(",")
    return [Gpu(name.strip(), size) for name, size in zip(names, memory, strict=False)]


@lru_cache
def _memory_of_each(visible: str | None) -> tuple[int, ...]:
    """What torch says of each GPU, with that value of CUDA_VISIBLE_DEVICES."""
    # Initialised first: before that, the driver's list is counted, of which CUDA may be able to use a part (MIG).
    code = (
        "import json, torch; torch.cuda.is_available() and torch.cuda.init(); count = torch.cuda.device_count(); "
        "print(json.dumps([torch.cuda.get_device_properties(number).total_memory for number in range(count)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"])[-1]
        _log.warning("torch cannot use a GPU here, so none is used: %s (dfer doctor says more)", why)
        return ()
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def _has_driver() -> bool:
    """Whether torch might see a GPU: of NVIDIA by its driver's library, of AMD by its driver's device."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return sys.platform != "linux" or Path("/dev/kfd").exists()
    return True

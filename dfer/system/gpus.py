"""The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES gives them."""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"


def trainings_at_a_time(configured: int, processes: int, places: int) -> int:
    """How many trainings run side by side.

    Args:
        configured: `run.trainings`; 0 for as many as fit.
        processes: of one training, each of which takes a place.
        places: GPUs, or what else the trainings share.
    """
    return configured or max(1, places // processes)


def visible_gpus() -> list[str]:
    """One name a GPU, to be handed to a child process in CUDA_VISIBLE_DEVICES; empty without GPUs.

    Where the variable is set already, these are some of its own entries. Loads torch, but does not touch a GPU.
    """
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names[:count]]

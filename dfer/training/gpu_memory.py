"""What it looks like when a GPU has no memory left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FRAMES_ON_GPU = "decoded frames were kept on the GPU (train.cache)"
"""A note at an error of a training that could do with less of the GPU's memory."""

RECORDED = "its steps were recorded as a CUDA graph (train.cuda_graph)"
"""Another such note."""

# Not all memory comes from torch's allocator, with its torch.OutOfMemoryError: a context, page-locked RAM, and what
# cuBLAS, cuDNN and NCCL take for themselves do not, and their errors are RuntimeErrors.
_SIGNS = (
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HOST_ALLOCATION_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    # cuDNN, where no algorithm's workspace has room; or, seldom, none is for this GPU, and then fewer clips do not help
    "unable to find an engine to execute this computation",
    "cudaErrorMemoryAllocation",
    "Cuda failure 2 'out of memory'",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a GPU, or the page-locked RAM beside it, has no room left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def noting_what_could_go(*, frames_on_gpu: bool, recorded: bool) -> Iterator[None]:
    """Add `FRAMES_ON_GPU` and `RECORDED` to an error for want of memory, as far as they hold."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            for note, holds in ((FRAMES_ON_GPU, frames_on_gpu), (RECORDED, recorded)):
                if holds:
                    error.add_note(note)
        raise

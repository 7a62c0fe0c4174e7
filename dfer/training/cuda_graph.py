"""A function of tensors, recorded once as a CUDA graph and replayed with new inputs.

A step of a small network on a fast GPU is hundreds of kernels of a few microseconds each, and starting them one by one
takes longer than they run. A graph starts them all at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
"""Tensors -> tensors. What it does besides, it does in place, to tensors that stay where they are."""

WARM_UP = 3
"""Calls before the recording: cuDNN's search for kernels and the optimiser's new buffers must not be part of it."""

_log = logging.getLogger(__name__)


class Replayed:
    """A function that is called as it is for a few times, then recorded, and from then on replayed.

    Its inputs have the same shapes and dtypes in every call. Results are overwritten by the next call.
    """

    def __init__(
        self, function: Function, *, required: bool, record: Callable[[Function, Sequence[Tensor]], Function]
    ) -> None:
        """`required`: a function that cannot be recorded is an error; otherwise it is called as it is, with a warning.

        `record` is `record_cuda_graph`, or in a test something that needs no GPU.
        """
        self._function, self._required, self._record = function, required, record
        self._calls = 0
        self._replay: Function | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._function(*inputs)
        if self._replay is None:
            self._replay = self._recorded(inputs)
        return self._replay(*inputs)

    def forget(self) -> None:
        """Record anew: tensors that the function uses have moved."""
        self._calls, self._replay = 0, None

    def _recorded(self, inputs: Sequence[Tensor]) -> Function:
        try:
            return self._record(self._function, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of torch and CUDA: a loss or network that waits for the GPU, for example
            if self._required:
                raise
            _log.warning(
                "a step of this training cannot be recorded as a CUDA graph, so its kernels are started one by one "
                "(train.cuda_graph: off says no more of it): %s",
                str(error).splitlines()[0],
            )
            return self._function


def record_cuda_graph(function: Function, inputs: Sequence[Tensor]) -> Function:
    """Record a function; calling the result copies its inputs to where the graph reads them, and replays it.

    Nothing is computed while it is recorded.
    """
    static = [tensor.clone() for tensor in inputs]
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # Another thread reads clips ahead, and may allocate memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = function(*static)
    except BaseException:
        # torch leaves a recording that broke off on its own stream, where nothing waits for the clips that are read
        torch.cuda.set_stream(stream)
        raise

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        for place, tensor in zip(static, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return results

    return replay

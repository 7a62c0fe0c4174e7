"""Runs measurements in a process of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.conditions import Conditions, Values

if TYPE_CHECKING:
    from dfer.system.processes import Sender, Worker


class Process:
    """Calls measurements in one process, and in a new one after an error: an error of CUDA stays in its process."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def __call__(self, target: str, conditions: Conditions, arguments: Mapping[str, Any], limit: float) -> Values:
        """The figures of `target` ("module:function"). Raises what it raised, and TimeoutError after `limit` seconds,
        when its process is ended."""
        from dfer.system.processes import ProcessDiedError, Worker

        if self._worker is None:
            self._worker = Worker(threads=0)
        started = time.monotonic()
        timer = threading.Timer(limit, self._worker.abort)
        timer.start()
        try:
            return self._worker.call(_measure, target=target, conditions=conditions, arguments=dict(arguments))
        except BaseException as error:
            self.close()
            if isinstance(error, ProcessDiedError) and time.monotonic() - started >= limit:
                raise TimeoutError(f"ended after {limit:.0f} s") from error
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def here(target: str, conditions: Conditions, arguments: Mapping[str, Any], limit: float) -> Values:
    """`Process.__call__` without a process, and without an end after `limit`."""
    module, function = target.split(":")
    values: Values = getattr(import_module(module), function)(conditions, **arguments)
    return values


def _measure(*, target: str, conditions: Conditions, arguments: Mapping[str, Any], send: Sender) -> Values:
    return here(target, conditions, arguments, limit=0)

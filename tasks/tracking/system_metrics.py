"""The use of processors, memory, disk, network and GPUs while a model is trained."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dfer.system import garbage
from tasks.tracking.client import configure
from tasks.tracking.outbox import TrackedRun

logger = logging.getLogger("dfer.mlflow")

_EVERY = 10.0  # seconds


@contextmanager
def system_metrics(run: TrackedRun) -> Iterator[None]:
    """Log `system/...` to the run every ten seconds while this lasts, with MLflow's own measures."""
    over = threading.Event()
    thread = threading.Thread(target=_log, args=(run, over), name="machine-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _log(run: TrackedRun, over: threading.Event) -> None:
    if over.wait(_EVERY):
        return  # a training that is over at once loads nothing
    measures = _measures()
    step = run.last_step("system/cpu_utilization_percentage") + 1
    while True:
        values: dict[str, float] = {}
        for measure in measures:
            measure.collect_metrics()
            values.update(measure.aggregate_metrics())
            measure.clear_metrics()
        try:
            run.log({f"system/{name}": value for name, value in values.items()}, step)
        except OSError as error:
            logger.warning("no more measures of the machine in run %s: %s", run.id, error)
            return
        step += 1
        if over.wait(_EVERY):
            return


def _measures() -> list[Any]:
    configure()
    with garbage.loading():
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    measures = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        measures.append(GPUMonitor())
    except Exception:  # whatever keeps NVIDIA's library from being used: there is no such GPU then
        return measures
    return measures

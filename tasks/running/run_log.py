"""The log of a flow run: what is logged meanwhile in one file, between a first line and a last that sum it up."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from dfer.config.pipeline import Pipeline
from dfer.storage.in_use import in_use
from dfer.system import logs

logger = logging.getLogger(__name__)

FOLDER = "logs"
"""Where logs lie in a work directory, one a flow run, under its name."""


def log_of(pipeline: Pipeline, run: str) -> Path:
    """Where the log of the flow run of that name lies."""
    return logs.path_of(pipeline.work_dir / FOLDER, run)


@contextmanager
def run_log(pipeline: Pipeline) -> Iterator[Path]:
    """Log a run of a pipeline, in its flow; yields the log's path, which an error that passes gets as a note.

    A flow run that is tried again goes on in the same file. Meanwhile nothing is removed from the work directory.
    """
    logs.outlive_readers()
    name, began = flow_run.name, time.monotonic()
    with in_use(pipeline.work_dir), logs.writing(pipeline.work_dir / FOLDER, name, pipeline=pipeline.name) as path:
        get_run_logger().info("The log of this run, clip by clip: %s", path)
        here = {"event": "began", "run": name, "host": socket.gethostname(), "of_process": os.getpid()}
        logger.info("%s: run %s begins", pipeline.name, name, extra=here)
        try:
            yield path
        except BaseException as error:
            _end(pipeline, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", began)
            error.add_note(f"The log of this run: {path}")
            raise
        _end(pipeline, "finished", began)


def _end(pipeline: Pipeline, how: str, began: float) -> None:
    seconds = round(time.monotonic() - began, 1)
    fields = {"event": "ended", "how": how, "seconds": seconds}
    logger.info("%s: run %s after %.0f s", pipeline.name, how, seconds, extra=fields)

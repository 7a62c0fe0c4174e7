"""The command `dfer`. Each command loads the libraries that it needs, so that `--help` and mistakes answer at once."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfer.cli import (  # noqa: F401 - each adds its commands
    analyse,
    check,
    clean,
    compare,
    data,
    doctor,
    export,
    mlflow,
    page,
    power,
    predict,
    register,
    run,
    services,
    watch,
    weights,
)
from dfer.cli.app import app
from dfer.cli.common import err
from dfer.config.problems import ConfigError, InputError
from dfer.system import garbage, logs
from dfer.system.paths import printable
from dfer.system.proxies import without_loopback


def _lines(error: BaseException) -> Iterator[str]:
    """The error and its notes, without tracebacks."""
    yield str(error) if str(error).strip("'\"").count(" ") else f"{type(error).__name__}: {error}"
    yield from (note for note in getattr(error, "__notes__", ()) if "Traceback" not in note)


def _interrupted(number: int, _: object) -> None:
    """Stop at once on Ctrl-C or SIGTERM: servers may have been stopped as well, and waiting for them takes minutes."""
    import psutil

    if "tasks.tracking.runs" in sys.modules:
        sys.modules["tasks.tracking.runs"].close_interrupted()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    what = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
    err.print(f"\n{what}. What was finished is kept; the same command goes on from here.")
    sys.stdout.flush()
    os._exit(128 + number)


def _keep_docstrings() -> None:
    """Start again if Python has left out docstrings (-OO, PYTHONOPTIMIZE=2): scikit-image does not load without its
    own, and the help texts are ours."""
    if sys.flags.optimize > 1 and Path(sys.argv[0]).is_file():
        os.environ["PYTHONOPTIMIZE"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])


class _Screen(logging.Handler):
    """Shows messages as they are, above the bars if there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(record.getMessage(), style="dim", markup=False, highlight=False, soft_wrap=True)


def main() -> Any:
    """Entry point. Wrong configurations and arguments end with status 2, failures of the work with 1."""
    _keep_docstrings()
    garbage.not_at_exit()
    os.environ.update(without_loopback(os.environ))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names in other letters than the terminal's end no run
            stream.reconfigure(errors="backslashreplace")
    downloads = logging.getLogger(logs.DOWNLOADS)
    downloads.setLevel(logging.INFO)
    downloads.handlers[:] = [_Screen()]
    # Prefect handles SIGTERM itself while a flow runs, and then sends it again
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return app()
    except ConfigError as error:
        err.print(printable(str(error)), style="red", highlight=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("DFER_DEBUG"):
            raise
        for line in _lines(error):
            err.print(printable(line), style="red", highlight=False, soft_wrap=True)
        if isinstance(error, InputError):
            sys.exit(2)
        err.print("(DFER_DEBUG=1 shows where this came from)", style="dim")
        sys.exit(1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Heavy work in processes of its own, which do not outlive the one that started them.

A process starts clean (its own threads, its own CUDA context), reports progress while it works, and dies with the one
that started it, however that one ends: nothing goes on writing into a folder that a new run has taken over.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any


class ProcessDiedError(RuntimeError):
    """A process ended without a word, or its error could not travel."""


def run_isolated(
    function: str, *, threads: int = 1, on_message: Callable[[Any], None] | None = None, **arguments: Any
) -> Any:
    """Call a function in a new process and wait for its result.

    Args:
        function: `package.module:name`. It is called with the arguments and with `send`, which passes messages back.
        threads: how many threads the numerical libraries may use.
        on_message: is called here with each message.
        arguments: anything that can be pickled.

    Raises:
        Whatever the function raised, with its traceback as a note; ProcessDiedError if the process just died.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, function, threads, arguments))
    process.start()
    there.close()
    try:
        while True:
            kind, payload = here.recv()
            if kind == "message":
                if on_message is not None:
                    on_message(payload)
            elif kind == "result":
                return payload
            else:
                error, text = payload
                error.add_note(f"in the process of {function}:\n{text}")
                raise error
    except EOFError:
        process.join()
        raise ProcessDiedError(_last_words(function, process.exitcode)) from None
    finally:
        here.close()
        if process.is_alive():
            process.join(5)
            process.kill()
        process.join()


def _last_words(function: str, exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = "; the machine may have run out of memory" if exit_code == -signal.SIGKILL else ""
        return f"the process of {function} was ended by signal {signal.Signals(-exit_code).name}{hint}"
    return f"the process of {function} ended with status {exit_code} and without a result"


def _child(connection: Connection, function: str, threads: int, arguments: dict[str, Any]) -> None:
    die_with_parent()
    limit_threads(threads)  # before the function's module loads the libraries
    try:
        module, name = function.split(":")
        target = getattr(importlib.import_module(module), name)
        answer = ("result", target(**arguments, send=lambda message: connection.send(("message", message))))
    except Exception as error:
        answer = ("error", (_portable(error), traceback.format_exc()))
    connection.send(answer)


def _portable(error: Exception) -> Exception:
    """The error itself if it survives the way to the parent, else its text."""
    try:
        # a round trip through our own bytes, to find out here what would fail there
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ProcessDiedError(f"{type(error).__name__}: {error}")
    return error


def die_with_parent() -> None:
    """End this process as soon as its parent has ended, however that came about. To be called in a child process."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None, "this is not a child process"
        parent.join()
        os._exit(1)

    # Ctrl-C reaches the whole group of processes; the parent is the one that says something about it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=watch, daemon=True).start()


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes, one thread of numerical libraries each, that ends with this process even if killed."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    die_with_parent()
    limit_threads(1)


def limit_threads(number: int) -> None:
    """How many threads numerical libraries that are loaded after this may use."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(number)

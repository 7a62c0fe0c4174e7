"""Heavy work in a process of its own.

A stage's process starts clean (its own threads, its own CUDA context), reports progress while it works, and dies with the
process that started it, however that one ends: nothing goes on writing into a folder that a new run has taken over.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class StageProcessError(RuntimeError):
    """The process of a stage failed or was killed."""


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
        Whatever the function raised, with its traceback as a note; StageProcessError if the process died without a word.
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
        raise StageProcessError(_last_words(function, process.exitcode)) from None
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
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # read by the libraries when they are loaded, so before the function's module is
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    try:
        module, name = function.split(":")
        target = getattr(importlib.import_module(module), name)
        answer = ("result", target(**arguments, send=lambda message: connection.send(("message", message))))
    except Exception as error:
        answer = ("error", (_portable(error), traceback.format_exc()))
    connection.send(answer)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error itself if it survives the way to the parent, else its text."""
    import pickle

    try:
        # a round trip through our own bytes, to find out here what would fail there
        pickle.loads(pickle.dumps(error))
    except Exception:
        return StageProcessError(f"{type(error).__name__}: {error}")
    return error

"""Heavy work in processes of its own, which do not outlive the one that started them.

A process starts clean (its own threads, its own CUDA context), reports progress while it works, and dies with the one
that started it, however that one ends: nothing goes on writing into a folder that a new run has taken over. What it
logs is logged by the thread that waits for it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

from dfer.system import logs

_ending = threading.Event()
LAST = "ends last"
"""Name of a process that `end_all` leaves alone, because there is something to do when the others have ended."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class ProcessDiedError(RuntimeError):
    """A process ended without a word, or its error could not travel."""


class EndingError(BaseException):
    """This process is ending: what it was about to do is not begun, and what it did has not failed."""


def end_all() -> None:
    """End the processes that were started here, whatever they are doing, and begin nothing from here on.

    For a process that was told to end: threads that wait for others or for their turn end with an EndingError.
    """
    _ending.set()
    for child in multiprocessing.active_children():
        if child.name != LAST:
            child.kill()


def ending() -> bool:
    """Whether `end_all` was called."""
    return _ending.is_set()


def go_on() -> None:
    """To be called before something is begun. Raises EndingError if this process is ending."""
    if ending():
        raise EndingError


def sleep(seconds: float) -> None:
    """`time.sleep`, broken off with an EndingError if this process is ending."""
    _ending.wait(seconds)
    go_on()


class Worker:
    """A process of its own that does one call after another: what a call has loaded is there for the next one."""

    def __init__(self, threads: int = 1, environment: Mapping[str, str] = NOTHING) -> None:
        """Start the process; `threads` is how many the numerical libraries may use there, under this `environment`."""
        go_on()
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._calling = False
        self._process = context.Process(target=_serve, args=(there, threads, dict(environment)))
        self._process.start()
        there.close()

    def call(self, function: str, *, on_message: Callable[[Any], None] | None = None, **arguments: Any) -> Any:
        """Call a function in the process and wait for its result.

        Args:
            function: `package.module:name`. It is called with the arguments and with `send`, which passes messages
                back.
            on_message: is called here with each message.
            arguments: anything that can be pickled.

        Raises:
            Whatever the function raised, with its traceback as a note; ProcessDiedError if the process just died.
        """
        self._calling = True
        try:
            self._connection.send((function, arguments))
        except ConnectionError:
            self._has_died(function)
        while True:
            try:
                kind, payload = self._connection.recv()
            except (EOFError, ConnectionError):
                self._has_died(function)
            self._calling = kind in ("message", "log")
            if kind == "log":
                logs.emit(payload)
            elif kind == "message":
                if on_message is not None:
                    on_message(payload)
            elif kind == "result":
                return payload
            else:
                error, text = payload
                error.add_note(f"in the process of {function}:\n{text}")
                raise error

    def _has_died(self, function: str) -> NoReturn:
        self._process.join()
        if self._process.exitcode == -signal.SIGTERM:
            _ending.wait(1)  # a signal to the whole group of processes reaches this one as well
        go_on()
        raise ProcessDiedError(_last_words(function, self._process.exitcode)) from None

    @property
    def ready(self) -> bool:
        """Whether it can take a call: it lives, and no call was broken off while it worked."""
        return self._process.is_alive() and not self._calling

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        if self._process.is_alive():
            self._process.join(0 if self._calling else 5)
            self._process.kill()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Workers:
    """Processes that are kept from one call to the next, for short calls whose libraries take long to load.

    There are as many as calls were under way at a time. Calls may come from several threads.
    """

    def __init__(self, threads: int = 1, environment: Mapping[str, str] = NOTHING) -> None:
        self._threads, self._environment = threads, environment
        self._idle: list[Worker] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[Worker]:
        """A process that nobody else uses meanwhile. One that died is replaced when the next is asked for."""
        worker = self._take() or Worker(self._threads, self._environment)
        try:
            yield worker
        finally:
            with self._lock:
                kept = worker.ready and not self._closed
                if kept:
                    self._idle.append(worker)
            if not kept:
                worker.close()

    def close(self) -> None:
        """End the processes: those that nobody uses now, the others after their call. None is kept from here on."""
        with self._lock:
            self._closed = True
        while worker := self._take():
            worker.close()

    def _take(self) -> Worker | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                worker = self._idle.pop()
            if worker.ready:
                return worker
            worker.close()


def run_isolated(
    function: str,
    *,
    threads: int = 1,
    environment: Mapping[str, str] = NOTHING,
    on_message: Callable[[Any], None] | None = None,
    **arguments: Any,
) -> Any:
    """Call a function in a new process and wait for its result: `Worker.call`, in a worker of its own."""
    with Worker(threads, environment) as worker:
        return worker.call(function, on_message=on_message, **arguments)


def _last_words(function: str, exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = "; the machine may have run out of memory" if exit_code == -signal.SIGKILL else ""
        return f"the process of {function} was ended by signal {signal.Signals(-exit_code).name}{hint}"
    return f"the process of {function} ended with status {exit_code} and without a result"


def _serve(connection: Connection, threads: int, environment: Mapping[str, str]) -> None:
    die_with_parent()
    # before a function's module loads the libraries
    limit_threads(threads)
    os.environ.update(environment)
    sending = threading.Lock()

    def send(kind: str, payload: Any) -> None:
        with sending:
            connection.send((kind, payload))

    logs.forward(lambda record: send("log", record))
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return  # nothing more to do
        send(*_answer(send, function, arguments))


def _answer(send: Callable[[str, Any], None], function: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    try:
        module, name = function.split(":")
        target = getattr(importlib.import_module(module), name)
        return "result", target(**arguments, send=lambda message: send("message", message))
    except Exception as error:
        return "error", (portable(error), traceback.format_exc())


def portable(error: Exception) -> Exception:
    """The error itself if it survives the way to another process, else its text."""
    try:
        # a round trip through our own bytes, to find out here what would fail there
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ProcessDiedError(f"{type(error).__name__}: {error}")
    return error


def die_with_parent() -> None:
    """End this process as soon as its parent has ended, however that came about. To be called in a child process."""
    pid = os.getppid()

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        while os.getppid() == pid and parent is None:  # started by another program, which leaves nothing to wait at
            time.sleep(1)
        os._exit(1)

    # Ctrl-C reaches the whole group of processes; the parent is the one that says something about it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=watch, daemon=True).start()


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes, one thread of numerical libraries each, that ends with this process even if killed."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker)


def start_worker() -> None:
    die_with_parent()
    limit_threads(1)


def limit_threads(number: int) -> None:
    """How many threads numerical libraries that are loaded after this may use."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(number)

"""Heavy work in child processes, which do not outlive the one that started them.

A child starts clean (no threads, no CUDA context), reports progress while it works, and dies with its parent, also if
that is killed: nothing goes on writing into a folder that a new run has taken over. Its log records are logged by the
thread that waits for it.

Parent and child speak over one pipe. The parent sends a pickled call, (function, arguments), or `_STOP`; the child
answers with pairs (kind, payload): any number of "log" (a record for `logs.emit`) and "message" (what the function
sends), then one "result" or "error" (the exception and its traceback as text).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from dfer.system import garbage, logs

T = TypeVar("T")

NOTHING: Mapping[str, str] = MappingProxyType({})

LAST = "ends last"
"""Name of a process that `end_all` leaves alone, because it still has work when the others have ended."""

CONTEXT = multiprocessing.get_context("spawn")
"""How processes are started: with nothing of this one."""

_STOP = b""
_ending = threading.Event()


class ProcessDiedError(RuntimeError):
    """A process ended without a result, or its error could not be pickled. `signal`: the one that ended it."""

    def __init__(self, message: str, signal: signal.Signals | None = None) -> None:
        super().__init__(message)
        self.signal = signal


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
    """A process that does one call after another: modules and models that one call loads are loaded for the next."""

    def __init__(self, threads: int = 1, environment: Mapping[str, str] = NOTHING, *, ends_last: bool = False) -> None:
        """Start the process.

        Args:
            threads: that the numerical libraries may use in it; 0 leaves what the environment says.
            environment: variables that are set in it before anything is imported.
            ends_last: `end_all` leaves it alone, and it may be started while this process is ending.
        """
        self._ends_last = ends_last
        self._go_on()
        self._connection, child_end = CONTEXT.Pipe()
        self._calling = False
        arguments = child_end, threads, dict(environment)
        self._process = CONTEXT.Process(target=_serve, args=arguments, name=LAST if ends_last else None)
        self._process.start()
        child_end.close()

    def call(
        self, function: Callable[..., T], *, on_message: Callable[[Any], None] | None = None, **arguments: Any
    ) -> T:
        """Call a function in the process and wait for its result.

        Args:
            function: pickled by reference, so one that its module has by name. The process imports that module first
                when it is called, after the numbers of threads and the environment are set. It is called with the
                arguments, which are pickled, and with `send`, a `Sender`.
            on_message: is called here with each message.

        Raises:
            Whatever the function raised, with its traceback as a note; ProcessDiedError if the process just died.
        """
        name, call = f"{function.__module__}:{function.__qualname__}", pickle.dumps((function, arguments))
        self._calling = True
        try:
            self._connection.send_bytes(call)
        except ConnectionError:
            self._has_died(name)
        while True:
            try:
                kind, payload = self._connection.recv()
            except (EOFError, ConnectionError):
                self._has_died(name)
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
                error.add_note(f"in the process of {name}:\n{text}")
                raise error

    def request_stop(self) -> None:
        """Ask the function that is being called to return (`Sender.stop_requested`). For another thread than the
        caller's; the process takes no call after it."""
        with suppress(OSError):
            self._connection.send_bytes(_STOP)

    def abort(self) -> None:
        """End a call that is going on, from another thread: its caller gets a ProcessDiedError."""
        if self._calling:
            self._process.kill()

    def _has_died(self, function: str) -> NoReturn:
        self._process.join()
        if self._process.exitcode == -signal.SIGTERM:
            _ending.wait(1)  # a signal to the whole group of processes reaches this one as well
        self._go_on()
        exit_code = self._process.exitcode
        ended_by = signal.Signals(-exit_code) if exit_code is not None and exit_code < 0 else None
        raise ProcessDiedError(_cause_of_death(function, exit_code, ended_by), ended_by) from None

    def _go_on(self) -> None:
        if not self._ends_last:
            go_on()

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

    def __exit__(self, *_: object) -> None:
        self.close()


class Workers:
    """Processes that are kept from one call to the next, for short calls whose libraries take long to load.
    There are as many as calls were under way at a time. Calls may come from several threads."""

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
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.ready:
                    return worker
                worker.close()  # it died meanwhile
        return None


def run_isolated(
    function: Callable[..., T],
    *,
    threads: int = 1,
    environment: Mapping[str, str] = NOTHING,
    on_message: Callable[[Any], None] | None = None,
    **arguments: Any,
) -> T:
    """Call a function in a new process and wait for its result: `Worker.call`, in a worker of its own."""
    with Worker(threads, environment) as worker:
        return worker.call(function, on_message=on_message, **arguments)


def run_together(
    function: Callable[..., T],
    arguments: Sequence[Mapping[str, Any]],
    *,
    threads: int = 1,
    environment: Mapping[str, str] = NOTHING,
    on_message: Callable[[Any], None] | None = None,
) -> list[T]:
    """Call a function in several new processes at once and wait for all results.

    Args:
        arguments: those of each process; the results have their order.
        on_message: is called with each message of any process, in a thread of this one.

    Raises:
        The first error, after which all processes are ended. If one of them died, its ProcessDiedError: the others'
        errors follow from it.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(threads, environment)) for _ in arguments]
        with ThreadPoolExecutor(len(workers)) as callers:
            try:
                futures = [
                    # with the fields that are logged with everything here, see `logs.about`
                    callers.submit(copy_context().run, partial(worker.call, function, on_message=on_message, **its))
                    for worker, its in zip(workers, arguments, strict=True)
                ]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                if any(future.exception() for future in done):
                    done, _ = wait(futures, timeout=1)  # for the death of another that the first one to fail noticed
                if errors := [error for future in done if (error := future.exception()) is not None]:
                    raise min(errors, key=lambda error: not isinstance(error, ProcessDiedError))
            finally:
                for worker in workers:
                    worker.abort()
    return [future.result() for future in futures]


class Sender:
    """Passes messages of a called function back to the process that called it. Safe to use from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, message: Any) -> None:
        """Pass a message, anything that can be pickled, to the caller's `on_message`."""
        self.put("message", message)

    def put(self, kind: str, payload: Any) -> None:
        """Send one pair of the protocol."""
        with self._lock:
            self._connection.send((kind, payload))

    def stop_requested(self, seconds: float = 0.0) -> bool:
        """Wait up to so many seconds for the caller's `Worker.request_stop`, or its end; whether it came."""
        return self._connection.poll(seconds)


def _cause_of_death(function: str, exit_code: int | None, ended_by: signal.Signals | None) -> str:
    if ended_by is not None:
        hint = "; the machine may have run out of memory" if ended_by == signal.SIGKILL else ""
        return f"the process of {function} was ended by signal {ended_by.name}{hint}"
    return f"the process of {function} ended with status {exit_code} and without a result"


def _serve(connection: Connection, threads: int, environment: Mapping[str, str]) -> None:
    """Answer calls until the parent sends `_STOP` or closes its end."""
    die_with_parent()
    garbage.not_at_exit()
    if threads:
        limit_threads(threads)
    os.environ.update(environment)
    send = Sender(connection)
    logs.forward(lambda record: send.put("log", record))
    with suppress(EOFError):
        while (call := connection.recv_bytes()) != _STOP:
            send.put(*_answer(send, call))


def _answer(send: Sender, call: bytes) -> tuple[str, Any]:
    try:
        with garbage.loading():
            function, arguments = pickle.loads(call)  # imports the function's module
        return "result", function(**arguments, send=send)
    except Exception as error:
        return "error", (_picklable(error), traceback.format_exc())


def _picklable(error: Exception) -> Exception:
    """The error itself if it can be pickled and unpickled, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ProcessDiedError(f"{type(error).__name__}: {error}")
    return error


def die_with_parent() -> None:
    """End this process as soon as its parent has ended, also if that was killed. To be called in a child process."""
    pid = os.getppid()

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        while os.getppid() == pid and parent is None:  # started by another program: there is nothing to wait for
            time.sleep(1)
        os._exit(1)

    # Ctrl-C reaches the whole group of processes; the parent reports it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=watch, daemon=True).start()


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes, one thread of numerical libraries each, that ends with this process even if killed."""
    return ProcessPoolExecutor(workers, mp_context=CONTEXT, initializer=start_worker)


def start_worker() -> None:
    die_with_parent()
    garbage.not_at_exit()
    limit_threads(1)


def limit_threads(number: int) -> None:
    """How many threads numerical libraries that are loaded after this may use."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(number)

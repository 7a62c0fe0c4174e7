"""Processes that outlive the terminal, and are recognised later by their number and start time."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# in the environment of every service, inherited by whatever it starts: `<folder>:<service>`
_MARK = "DFER_SERVICE"


@dataclass(frozen=True)
class Started:
    """A process that was started; `created` (seconds since 1970) tells it from a later one of the same number."""

    pid: int
    created: float
    port: int | None

    @property
    def alive(self) -> bool:
        return self._process() is not None

    def stop(self, how: signal.Signals, seconds: float) -> bool:
        """Ask the process to end and wait; kill it when the time is up. False if it had ended before."""
        process = self._process()
        if process is None:
            return False
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)
            try:
                process.wait(seconds)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
        return True

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None


def start(
    command: Sequence[str],
    *,
    folder: Path,
    name: str,
    log: Path,
    environment: Mapping[str, str],
    working_folder: Path,
    user: str | None = None,
    port: int | None = None,
) -> Started:
    """Start a service in a session of its own.

    Args:
        command: the program and its arguments. Everybody on the machine can see them: no passwords.
        folder, name: of the services, and this one's. They identify the processes that it starts (`left_behind`).
        log: takes the output; the log of the time before is kept beside it as `.1`.
        environment, working_folder, user, port: all of its environment, where it runs, as whom (only root can choose),
            and where it will listen.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=working_folder,
            env={**environment, _MARK: _mark(folder, name)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **identity(user),
        )
    return Started(process.pid, psutil.Process(process.pid).create_time(), port)


def identity(user: str | None) -> dict[str, Any]:
    """The arguments of `subprocess` that run a program as another user, without the groups of this one."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def left_behind(folder: Path, name: str) -> list[psutil.Process]:
    """The processes that a service has started, directly or not, and that may have outlived it."""
    mark, processes = _mark(folder, name), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(_MARK) == mark:
                processes.append(process)
    return processes


def end(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Ask processes to end; kill those that have not when the time is up."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=seconds)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=10)


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log, for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"({error})"
    return "\n".join(lines[-count:]) or "(it is empty)"


def local_time(seconds: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(seconds))


def _mark(folder: Path, name: str) -> str:
    return f"{folder}:{name}"

"""Runs side by side, and nobody else while things are removed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from dfer.storage.in_use import InUseError, alone, in_use, occupied
from dfer.system import logs


def test_runs_share_a_folder_and_keep_the_one_who_removes_out(tmp_path):
    assert not occupied(tmp_path)
    assert not list(tmp_path.iterdir())
    with in_use(tmp_path), in_use(tmp_path):
        assert occupied(tmp_path)
        with pytest.raises(InUseError, match="a run is under way"), alone(tmp_path):
            raise AssertionError
    assert not occupied(tmp_path)
    with alone(tmp_path):
        pass


def test_locks_are_asked_for_as_nfs_wants_them(tmp_path, monkeypatch):
    """NFS (Linux's client) takes flock as a lock of bytes: shared for files that can be read, exclusive for writing."""
    flock, asked = fcntl.flock, []

    def as_on_nfs(file, how):
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == (os.O_WRONLY if how & fcntl.LOCK_SH else os.O_RDONLY):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        asked.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with in_use(tmp_path):
        assert occupied(tmp_path)
    with alone(tmp_path):
        pass
    with logs.writing(tmp_path / "logs", "run", pipeline="demo") as log:
        assert logs.is_written(log)
    assert not logs.is_written(log)
    assert {how & ~fcntl.LOCK_NB for how in asked} == {fcntl.LOCK_SH, fcntl.LOCK_EX}


def test_a_run_waits_until_things_are_removed(tmp_path):
    order = []

    def run():
        with in_use(tmp_path):
            order.append("run")

    with alone(tmp_path):
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.1)
        order.append("removed")
    thread.join(10)
    assert order == ["removed", "run"]


def test_a_killed_run_holds_nothing(tmp_path):
    code = (
        "import sys, time, pathlib; from dfer.storage.in_use import in_use\n"
        "with in_use(pathlib.Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"in\n"
    assert occupied(tmp_path)
    run.kill()
    run.wait()
    run.stdout.close()
    assert not occupied(tmp_path)

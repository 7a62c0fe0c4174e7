"""Predictions for the page: in order, stopped at once, and a sentence for whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from videos import plain, write_video

from dfer.app import jobs as module
from dfer.app.jobs import Jobs, Outcome
from dfer.app.limits import Limits
from dfer.prediction import work
from dfer.system.processes import ProcessDiedError

LIMITS = Limits(10, 5)


class _Here:
    """In place of a worker process."""

    ready = True

    def __init__(self, threads: int) -> None: ...

    def call(self, function: Callable[..., Any], *, on_message: Any, **arguments: Any) -> Any:
        return function(send=on_message, **arguments)

    def abort(self) -> None: ...

    def close(self) -> None: ...


class _Stuck(_Here):
    """One that works until it is ended."""

    def __init__(self, threads: int) -> None:
        self.began, self._aborted = threading.Event(), threading.Event()

    def call(self, function: Callable[..., Any], *, on_message: Any, **arguments: Any) -> Any:
        on_message(0.25)
        self.began.set()
        assert self._aborted.wait(30)
        self.ready = False
        raise ProcessDiedError("it was ended")

    def abort(self) -> None:
        self._aborted.set()


@pytest.fixture
def jobs(trained: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setattr(work, "_kept", {})
    monkeypatch.setattr(module, "Worker", _Here)
    page = Jobs(trained, LIMITS, device="cpu", threads=1)
    yield page
    page.close()


def made(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "upload" / f"{kind}.mp4"
    path.parent.mkdir()
    if kind == "wall":
        write_video(path, [plain((90, 90, 90), 320, 240)] * 5)
    elif kind == "long":
        write_video(path, [plain((90, 90, 90))] * 300)
    elif kind == "large":
        path.write_bytes(np.random.default_rng(0).bytes(6_000_000))
    else:
        path.write_bytes({"empty": b"", "text": b"Dear diary\n", "broken": b"\0\0\0\x20ftypisom" + b"\1" * 500}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "The file is empty. It has 0 bytes"),
        ("text", "This is no video that can be read. It is text, not a video"),
        ("broken", "This video cannot be decoded. It looks like a video but cannot be opened"),
        ("wall", "No face was found."),
        ("long", "It is 12 s long, and this page takes 10 s at most."),
        ("large", "It has 6 MB, and this page takes 5 MB at most."),
    ],
)
def test_what_cannot_be_used_is_a_sentence_without_paths(jobs: Jobs, tmp_path: Path, kind: str, sentence: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcome = jobs.submit(made(tmp_path, kind), f"{kind}.mp4", out).future.result(60)
    assert outcome.folder is None
    assert outcome.problem.startswith(sentence), outcome.problem
    assert str(tmp_path) not in outcome.problem
    assert [path.name for path in out.rglob("*") if path.is_file()] in ([], ["row.json"])


def test_videos_wait_for_each_other_and_are_stopped_at_once(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = _Stuck(1)
    monkeypatch.setattr(module, "Worker", lambda threads: stuck)
    first, second = (jobs.submit(tmp_path / name, name, tmp_path) for name in ("first", "second"))
    assert stuck.began.wait(30)
    assert first.share == 0.25
    assert (jobs.before(first), jobs.before(second)) == (0, 1)
    jobs.stop(second)
    assert second.future.cancelled()
    jobs.stop(first)
    assert first.future.result(30) == Outcome(problem="Stopped.")
    monkeypatch.setattr(module, "Worker", _Here)
    third = jobs.submit(made(tmp_path, "text"), "text.mp4", tmp_path)
    assert "no video" in third.future.result(30).problem


def test_what_takes_too_long_is_ended(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Worker", _Stuck)
    monkeypatch.setattr(module, "_LONGEST", 0.1)
    assert "minutes and was stopped" in jobs.submit(tmp_path, "x", tmp_path).future.result(30).problem


def test_a_process_that_dies_and_an_error_are_sentences(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(**_: Any) -> Outcome:
        raise ProcessDiedError("the process was ended by signal SIGSEGV")

    monkeypatch.setattr(module, "predict_upload", dies)
    assert "brought the decoder down" in jobs.submit(tmp_path, "x", tmp_path).future.result(30).problem

    def fails(**_: Any) -> Outcome:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "predict_upload", fails)
    assert "No space left" in jobs.submit(tmp_path, "x", tmp_path).future.result(30).problem

"""What the page keeps, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfer.app.sessions import Sessions


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    kept = Sessions()
    yield kept
    kept.close()


def upload(sessions: Sessions, digest: str, name: str = "clip.mp4") -> Path:
    path = sessions.uploads / digest / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return path


def files(sessions: Sessions) -> list[str]:
    return sorted(str(path.relative_to(sessions.root)) for path in sessions.root.rglob("*") if path.is_file())


def test_only_this_user_can_read_it(sessions: Sessions) -> None:
    assert sessions.root.stat().st_mode & 0o077 == 0


def test_nothing_of_a_session_is_left_after_its_end_and_all_of_others(sessions: Sessions) -> None:
    for name in ("one", "two"):
        sessions.use(name, upload(sessions, name))
        (sessions.new_results(name) / "predictions.csv").touch()
    assert len(files(sessions)) == 4
    sessions.end("one")
    left = files(sessions)
    assert len(left) == 2 and "uploads/two/clip.mp4" in left
    sessions.end("two")
    assert files(sessions) == []


def test_the_video_and_the_results_before_are_deleted(sessions: Sessions) -> None:
    sessions.use("one", upload(sessions, "first"))
    (sessions.new_results("one") / "predictions.csv").touch()
    second = upload(sessions, "second")
    assert sessions.use("one", second) == second
    assert [Path(file).name for file in files(sessions)] == ["predictions.csv", "clip.mp4"]
    assert files(sessions)[1] == "uploads/second/clip.mp4"
    sessions.new_results("one")
    assert files(sessions) == ["uploads/second/clip.mp4"]
    assert sessions.use("one", None) is None
    assert files(sessions) == []


def test_the_same_file_of_two_sessions_stays_until_both_have_ended(sessions: Sessions) -> None:
    same = upload(sessions, "same")
    sessions.use("one", same)
    sessions.use("two", same)
    sessions.end("one")
    assert same.exists()
    sessions.end("two")
    assert not same.exists()


def test_only_uploads_are_taken(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    link = upload(sessions, "mine").with_name("link")
    link.symlink_to(tmp_path / "secret")
    for path in (tmp_path / "secret", sessions.uploads / ".." / "results", link, sessions.uploads / "mine" / "gone"):
        assert sessions.use("one", path) is None
    assert (tmp_path / "secret").exists()


def test_what_broke_off_is_swept_and_what_is_used_stays(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused, partial = upload(sessions, "used"), upload(sessions, "unused"), sessions.uploads / "tmpabc"
    partial.touch()
    fresh = sessions.uploads / "tmpnow"
    fresh.touch()
    sessions.use("one", used)
    results = sessions.new_results("one")
    for path in (used.parent, unused.parent, partial, results):
        os.utime(path, (0, 0))
    sessions.sweep()
    assert used.exists() and results.exists() and fresh.exists()
    assert not unused.exists() and not partial.exists()
    monkeypatch.setattr("dfer.app.sessions._LONGEST", -1.0)
    sessions.sweep()
    assert files(sessions) == ["uploads/tmpnow"]


def test_close_leaves_nothing(sessions: Sessions) -> None:
    upload(sessions, "one")
    sessions.close()
    assert not sessions.root.exists()


def test_a_killed_process_leaves_nothing() -> None:
    code = (
        "import sys, time; from dfer.app.sessions import Sessions; kept = Sessions(); "
        "(kept.uploads / 'clip.mp4').touch(); print(kept.root, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        root = Path(process.stdout.readline().strip())
        assert (root / "uploads" / "clip.mp4").exists()
        process.kill()
    until = time.monotonic() + 30
    while root.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not root.exists()

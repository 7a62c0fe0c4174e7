"""The folder that predictions are written into."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from dfer.config.problems import InputError
from dfer.faces.listing import find_videos
from dfer.prediction.folder import (
    INDEX_SCHEMA,
    LOCK,
    alone,
    claim,
    failed,
    fingerprint,
    finished,
    forget_changed,
    name_of,
    write_index,
)


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_every_video_has_a_folder_of_its_own_name(one: str, other: str) -> None:
    name = name_of(one)
    assert 0 < len(name.encode()) <= 120
    assert not set('/\\:*?"<>|\0') & set(name) and name not in (".", "..") and not name.startswith(".")
    assert (name == name_of(other)) == (one == other)


def test_a_plain_name_is_kept() -> None:
    assert name_of("interview 1.mp4") == "interview 1.mp4"
    assert name_of("a/b.mp4").startswith("a_b.mp4-")
    assert name_of("a/b.mp4") != name_of("a_b.mp4")


def test_the_same_call_and_one_with_more_videos_may_go_on(tmp_path: Path) -> None:
    videos = {name: tmp_path / name for name in ("a.mp4", "b.mp4")}
    for path in videos.values():
        path.write_bytes(b"x")
    out = tmp_path / "out"
    claim(out, {"window": 2.0}, {"a.mp4": videos["a.mp4"]})
    claim(out, {"window": 2.0}, videos)
    (out / "videos" / "a.mp4").mkdir()
    claim(out, {"window": 2.0}, videos)
    with pytest.raises(InputError, match="another window, see"):
        claim(out, {"window": 3.0}, videos)
    with pytest.raises(InputError, match=r"1 of them have changed or are not named now, the first is b\.mp4"):
        claim(out, {"window": 2.0}, {"a.mp4": videos["a.mp4"]})
    videos["b.mp4"].write_bytes(b"xy")
    with pytest.raises(InputError, match="other videos"):
        claim(out, {"window": 2.0}, videos)


def test_videos_of_another_folder_that_change_the_names_of_all(tmp_path: Path) -> None:
    for folder in ("va", "vb"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.avi").write_bytes(b"x")
    out = tmp_path / "out"
    claim(out, {}, find_videos([tmp_path / "va"]).videos)
    (out / "videos" / "1.avi").mkdir()
    both = find_videos([tmp_path / "va", tmp_path / "vb"]).videos
    message = r"other names for its videos: .* 1\.avi is named va/1\.avi, see .*: choose another --out, or delete it"
    with pytest.raises(InputError, match=message):
        claim(out, {}, both)
    assert (out / "videos" / "1.avi").exists()
    forget_changed(out, {}, both)
    claim(out, {}, both)


def test_what_has_changed_is_forgotten(tmp_path: Path) -> None:
    videos = {name: tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")}
    out = tmp_path / "out"

    def finish(videos: dict[str, Path]) -> list[str]:
        claim(out, {"window": 2.0}, videos)
        for name in videos:
            (out / "videos" / name).mkdir(exist_ok=True)
        return sorted(videos)

    def left() -> list[str]:
        return sorted(path.name for path in (out / "videos").glob("*"))

    for path in videos.values():
        path.write_bytes(b"x")
    forget_changed(out, {"window": 2.0}, videos)  # nothing is there yet
    assert not out.exists()
    every = finish(videos)
    forget_changed(out, {"window": 2.0}, videos)
    assert left() == every
    videos["b.mp4"].write_bytes(b"xy")
    fewer = {name: videos[name] for name in ("a.mp4", "b.mp4")}
    forget_changed(out, {"window": 2.0}, fewer)
    assert left() == ["a.mp4"]
    assert finish(fewer) == left() == ["a.mp4", "b.mp4"]  # which is taken now
    forget_changed(out, {"window": 3.0}, videos)
    assert left() == []
    claim(out, {"window": 3.0}, videos)


def test_nothing_is_done_yet_so_anything_may_change(tmp_path: Path) -> None:
    claim(tmp_path / "out", {"window": 2.0}, {"a.mp4": tmp_path / "a.mp4"})
    claim(tmp_path / "out", {"window": 3.0}, {"b.mp4": tmp_path / "b.mp4"})


def test_other_content_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="is not empty: choose another --out"):
        claim(tmp_path, {}, {})
    with pytest.raises(InputError, match="is a file"):
        claim(tmp_path / "mine.txt", {}, {})
    with pytest.raises(InputError, match="cannot be written to"):
        claim(tmp_path / "mine.txt" / "below", {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_one_call_at_a_time_works_on_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with alone(out), alone(out):
        claim(out, {}, {})
        with ThreadPoolExecutor(1) as other, pytest.raises(InputError, match=r"another prediction writes to .*: wait"):
            other.submit(alone(out).__enter__).result()
    with FileLock(out / LOCK), pytest.raises(InputError, match="another prediction writes to"), alone(out):
        pass
    with alone(out):
        claim(out, {}, {})


@pytest.mark.parametrize(
    ("place", "message"), [("", "is not empty"), ("a.txt", "is a file"), ("a.txt/b", "written to")]
)
def test_no_lock_is_left_in_a_folder_of_others(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=message), alone(tmp_path / place):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "a.mp4"
    assert finished(tmp_path, "a.mp4", annotate=False) is None
    folder.mkdir(parents=True)
    row = failed("a.mp4", "no_face", "nobody")
    (folder / "row.json").write_text(json.dumps(row))
    assert finished(tmp_path, "a.mp4", annotate=True) == row
    (folder / "row.json").write_text(json.dumps({**row, "status": "ok"}))
    assert finished(tmp_path, "a.mp4", annotate=False) is None  # its table is gone
    (folder / "predictions.parquet").touch()
    assert finished(tmp_path, "a.mp4", annotate=False) is not None
    assert finished(tmp_path, "a.mp4", annotate=True) is None  # asked for now, and not there
    (folder / "row.json").write_text("{")
    assert finished(tmp_path, "a.mp4", annotate=False) is None


def test_the_index_has_a_row_for_every_video(tmp_path: Path) -> None:
    table = write_index([failed("a", "no_face", "x"), failed("b", "crashed", "y")], tmp_path / "index.parquet")
    assert list(table.columns) == INDEX_SCHEMA.names
    assert table["reason"].tolist() == ["no_face", "crashed"]


def test_a_picture_that_is_exchanged_changes_a_folders_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"1")
    before = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"1")
    assert fingerprint(tmp_path) == before
    (tmp_path / "2.png").write_bytes(b"1")
    assert fingerprint(tmp_path) != before
    assert fingerprint(tmp_path / "gone")[1] == -1


def test_annotated_copies_are_not_taken_for_videos(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    claim(tmp_path / "out", {}, {"a.mp4": tmp_path / "a.mp4"})
    (tmp_path / "out" / "videos" / "copy.mp4").write_bytes(b"x")
    listing = find_videos([tmp_path])
    assert list(listing.videos) == ["a.mp4"]
    assert listing.passed_over == {"written by dfer predict": ["out"]}

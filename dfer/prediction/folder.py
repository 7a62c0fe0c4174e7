"""The folder that predictions are written into: whose it is, and what is there of each video."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from dfer.config.problems import InputError
from dfer.faces.index import REASONS
from dfer.faces.listing import named_anew
from dfer.storage.files import replacing, write_atomically
from dfer.system.file_types import FRAME_SUFFIXES
from dfer.system.paths import problem_with_path, spelled

PREDICTION_VERSION = 1
"""Of what is made of the same videos with the same model. To be raised when it would be something else."""

CALL = "predict.json"
"""The file by which a folder is known that predictions were written into."""

LOCK = ".predict.lock"
"""Locked while a call works on the folder."""

INDEX, SUMMARY = "index.parquet", "summary.json"
TABLE, TABLE_AS_TEXT = "predictions.parquet", "predictions.csv"
TIMELINE, ANNOTATED = "timeline.png", "annotated.mp4"
VIDEOS = "videos"
ROW = "row.json"
STATE = "state"
"""In the partial folder of a video: what it takes to go on."""

_LONGEST_NAME = 100  # bytes of a folder's name, before the digits that make it unique
_LONGEST_DIGITS = 8

INDEX_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, failed
        pa.field("reason", pa.string(), nullable=False),  # of dfer.faces.index.REASONS, "" if ok
        pa.field("detail", pa.string(), nullable=False),  # for people
        pa.field("seconds", pa.float64(), nullable=False),  # from its first frame to the end of its last; 0 if unknown
        pa.field("frames", pa.int64(), nullable=False),
        pa.field("people", pa.int64(), nullable=False),  # that are in the table
        pa.field("rows", pa.int64(), nullable=False),  # in the table
        pa.field("turned", pa.int64(), nullable=False),  # degrees clockwise, since the faces were not upright
        pa.field("remarks", pa.string(), nullable=False),  # what else a person should know
        pa.field("folder", pa.string(), nullable=False),  # of its timeline, relative to the index; "" if failed
    ]
)


def failed(video: str, reason: str, detail: str) -> dict[str, Any]:
    """The index row of a video of which nothing can be said."""
    assert reason in REASONS
    nothing = {"seconds": 0.0, "frames": 0, "people": 0, "rows": 0, "turned": 0, "remarks": "", "folder": ""}
    return {"video": video, "status": "failed", "reason": reason, "detail": detail, **nothing}


def write_index(rows: Sequence[Mapping[str, Any]], path: Path) -> pd.DataFrame:
    """Write the index; returns it as a table."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=INDEX_SCHEMA)
    with replacing(path) as unfinished:
        pq.write_table(table, unfinished)
    return table.to_pandas()


def name_of(video: str) -> str:
    """The name of a video's folder: its own where that can be a folder's, else with digits that keep it apart."""
    plain = "".join(one if one.isprintable() and one not in '/\\:*?"<>|' else "_" for one in video).lstrip(".")
    cut = plain.encode()[:_LONGEST_NAME].decode(errors="ignore").rstrip(". ") or "video"
    return cut if cut == video else f"{cut}-{hashlib.sha256(video.encode()).hexdigest()[:_LONGEST_DIGITS]}"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other calls out of the folder during the block; may be nested in a thread.

    Raises InputError if another call works on it, or it has other content or cannot be written to.
    """
    # one lock for all that ask in a thread: `tasks.predict` holds it around `predict_videos`
    lock = FileLock(out / LOCK, is_singleton=True)
    try:
        if not (out / LOCK).exists():
            _earlier(out)  # nothing is written into a folder that is not ours
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another prediction writes to {out}: wait until it has ended, or choose another --out"
        ) from None
    except OSError as error:
        raise InputError(f"{out} cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def claim(out: Path, settings: Mapping[str, Any], videos: Mapping[str, Path]) -> None:
    """Note what is asked for in the folder, which must be empty or hold what an earlier call with the same settings
    made of no other videos than these. To be called within `alone`.

    Raises InputError if it holds anything else, or cannot be written to.
    """
    note, files, earlier = out / CALL, {name: fingerprint(path) for name, path in videos.items()}, _earlier(out)
    difference = _difference(earlier, settings, files) if earlier else ""
    if difference and any((out / VIDEOS).glob("*")):
        raise InputError(
            f"{out} holds the predictions of an earlier call with {difference}, see {note}: choose another --out, or "
            "delete it first"
        )
    text = json.dumps({"version": PREDICTION_VERSION, "settings": settings, "videos": files}, indent=1)
    try:
        (out / VIDEOS).mkdir(parents=True, exist_ok=True)
        write_atomically(note, text.encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written to: {error.strerror}") from error


def forget_changed(out: Path, settings: Mapping[str, Any], videos: Mapping[str, Path]) -> None:
    """Remove what an earlier call left of videos that have changed since or are not named now, and of all of them if it
    was asked for something else; so `claim` takes the folder, and what is the same is not done again. To be called
    within `alone`."""
    note = out / CALL
    earlier = _read(note) if note.is_file() else {}
    if not earlier:
        return
    if _difference({**earlier, "videos": {}}, settings, {}):
        shutil.rmtree(out / VIDEOS, ignore_errors=True)
        return
    same = {
        name: seen for name, seen in earlier["videos"].items() if name in videos and fingerprint(videos[name]) == seen
    }
    for name in earlier["videos"].keys() - same.keys():
        for folder in (out / VIDEOS / name_of(name), partial_folder(out, name)):
            shutil.rmtree(folder, ignore_errors=True)
    write_atomically(note, json.dumps({**earlier, "videos": same}, indent=1).encode())


def finished(out: Path, video: str, *, annotate: bool) -> dict[str, Any] | None:
    """The index row of a video that an earlier call has finished, with all that is asked for now; else None."""
    folder = out / VIDEOS / name_of(video)
    row = _read(folder / ROW) if (folder / ROW).is_file() else {}
    complete = row.get("status") == "failed" or (folder / TABLE).is_file()
    if not row or not complete or (annotate and row["status"] == "ok" and not (folder / ANNOTATED).is_file()):
        return None
    return row


def partial_folder(out: Path, video: str) -> Path:
    """Where a video's files are while they are made."""
    return out / VIDEOS / f".{name_of(video)}.partial"


def fingerprint(path: Path) -> list[Any]:
    """What changes when a video, or a picture of a folder, is exchanged: its path, bytes, time and number of files."""
    if not path.exists():
        return [spelled(path), -1, 0, 0]
    files = [path]
    if path.is_dir():
        files = [one for one in path.iterdir() if one.suffix.lower() in FRAME_SUFFIXES and one.is_file()]
    stats = [one.stat() for one in files]
    newest = max((status.st_mtime_ns for status in stats), default=0)
    return [spelled(path.absolute()), sum(status.st_size for status in stats), newest, len(files)]


def _earlier(out: Path) -> dict[str, Any]:
    """What an earlier call has noted in the folder; empty if there was none. Raises InputError if it has other content,
    or cannot be such a folder."""
    if problem := problem_with_path(out):
        raise InputError(f"{problem}. Choose another --out")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, expected a folder to write into")
    note = out / CALL
    earlier = _read(note) if note.exists() else {}
    if not earlier and out.exists() and any(one.name != LOCK for one in out.iterdir()):
        raise InputError(f"{out} is not empty: choose another --out")
    return earlier


def _difference(earlier: Mapping[str, Any], settings: Mapping[str, Any], files: Mapping[str, list[Any]]) -> str:
    """How an earlier call differs in what it was asked for; empty if it is the same, or these are more videos."""
    if earlier.get("version") != PREDICTION_VERSION:
        return "another version of the predictions"
    before = earlier["settings"]
    if differing := [name for name in settings if settings[name] != before.get(name)]:
        return f"another {', another '.join(differing)}"
    if renamed := named_anew(earlier["videos"], files):
        return renamed
    changed = [name for name, seen in earlier["videos"].items() if files.get(name) != seen]
    if changed:
        return f"other videos ({len(changed)} of them have changed or are not named now, the first is {changed[0]})"
    return ""


def _read(path: Path) -> dict[str, Any]:
    """JSON from a file; empty if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

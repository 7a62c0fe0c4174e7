"""Aligns any videos, without a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.config.problems import InputError
from dfer.config.settings import StageSettings
from dfer.faces.crashes import without_crashing_clips
from dfer.faces.index import FACES_VERSION, FILE_NAME, merge_indices, read_index, write_index
from dfer.faces.listing import CALL, named_anew
from dfer.storage.files import write_atomically
from dfer.storage.manifest import MANIFEST
from dfer.storage.store import CacheKey, StageResult, Store
from dfer.system.file_types import FRAME_SUFFIXES
from dfer.system.gpu_slots import GpuSlot, for_aligners
from dfer.system.paths import problem_with_path, spelled, storable
from dfer.system.processes import NOTHING, run_isolated

SECTIONS = {"detection", "tracking", "alignment", "shards", "sampling"}


def align_videos(
    videos: dict[str, Path],
    out: Path,
    *,
    settings: StageSettings,
    workers: int,
    on_clip: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Detect, track and align the face of each video (clip id -> path); write shards and `index.parquet` into `out`.

    The same call on the same videos continues where an earlier one stopped, and does nothing if that one was finished;
    of more videos it aligns the new ones, if those from before still have their ids.
    `workers` is the number of processes, fewer on a few GPUs (`for_aligners`). Returns the align index, a row for every
    video.

    Raises InputError if `out` has other content, ModelFileError or DetectorError if the detector cannot run.
    """
    from dfer.faces.detector import FaceDetector

    sections = settings.model_dump(mode="json", include=SECTIONS)
    files = {name: _fingerprint(path) for name, path in videos.items()}
    FaceDetector(settings.detection)  # fetched and tested once, before anything is written
    parts = _claim(out, sections, files, most=settings.shards.clips_per_shard, workers=workers)
    store = Store(out.parent)

    def align(part: list[str]) -> StageResult:
        clips = {name: files[name] for name in part}
        cache_key = CacheKey(out.name, FACES_VERSION, {"settings": sections, "clips": clips})

        def work(folder: Path) -> None:
            clips = [(name, videos[name]) for name in part]

            def attempt(crashed: Mapping[str, str], on_message: Callable[[str], None]) -> dict[str, int]:
                arguments: dict[str, Any] = {"clips": clips, "folder": folder, "settings": settings}
                with GpuSlot(lambda: slots) as slot:
                    return run_isolated(
                        align_in_process,
                        environment=slot.environment,
                        on_message=on_message,
                        crashed=crashed,
                        **arguments,
                    )

            without_crashing_clips(attempt, part, on_clip)

        return store.ensure(cache_key, work)

    slots = for_aligners(settings.detection.provider, workers)
    with ThreadPoolExecutor(workers) as threads:
        results = list(threads.map(align, parts))
    indices = [read_index(result.output.path / FILE_NAME) for result in results]
    index = merge_indices(indices, [result.output.hash for result in results])
    place = {name: number for number, name in enumerate(videos)}
    index = index.sort_values("clip_id", key=lambda names: names.map(place), ignore_index=True)
    write_index(out / FILE_NAME, index)
    return index


def align_in_process(
    *,
    clips: list[tuple[str, Path]],
    folder: Path,
    settings: StageSettings,
    crashed: Mapping[str, str] = NOTHING,
    send: Callable[[str], None],
) -> dict[str, int]:
    """`align_clips` in a process: sends each clip's id, returns the counts."""

    def done(row: dict[str, Any]) -> None:
        # errors name the file, whose name may be no text that the index can hold
        row["detail"] = storable(row["detail"])
        send(row["clip_id"])

    # here, so that the process that names this function does not load OpenCV and ONNX Runtime
    from dfer.faces.clips import align_clips

    rows = align_clips(
        clips,
        folder,
        detection=settings.detection,
        tracking=settings.tracking,
        alignment=settings.alignment,
        shards=settings.shards,
        num_segments=settings.shards.segments,
        crashed=crashed,
        on_clip=done,
    )
    kept = int((rows["status"] == "ok").sum())
    return {"given": len(rows), "ok": kept, "failed": len(rows) - kept}


def _fingerprint(path: Path) -> list[Any]:
    """What changes when a video, or a picture of a folder, is exchanged."""
    if path.is_dir():
        pictures = [one.stat() for one in path.iterdir() if one.suffix.lower() in FRAME_SUFFIXES and one.is_file()]
        newest = max((status.st_mtime_ns for status in pictures), default=0)
        return [spelled(path), sum(status.st_size for status in pictures), newest, len(pictures)]
    status = path.stat()
    return [spelled(path), status.st_size, status.st_mtime_ns]


def _claim(
    out: Path, settings: dict[str, Any], files: dict[str, list[Any]], *, most: int, workers: int
) -> list[list[str]]:
    """Note what is to be aligned in the folder, which must be empty or hold an earlier call's faces with the same
    settings and no other videos than these.

    Returns the videos that are aligned together: those of the earlier call as they were, then the new ones in runs of
    at most `most`, one or more for each of the workers.
    """
    if problem := problem_with_path(out):
        raise InputError(f"{problem}. Choose another --out")
    note = out / CALL
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, expected a folder to write into")
    earlier = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    if earlier and (difference := _difference(earlier, settings, files)):
        if any(out.glob(f"*/{MANIFEST}")):
            raise InputError(
                f"{out} holds the faces of an earlier call with {difference}, see {note}: "
                "choose another --out, or delete it first"
            )
        earlier = {}
    elif not earlier and out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose another --out")
    parts: list[list[str]] = earlier.get("parts", [])
    before = {name for part in parts for name in part}
    new = [name for name in files if name not in before]
    size = min(most, -(-len(new) // workers))
    parts = [*parts, *(new[start : start + size] for start in range(0, len(new), max(1, size)))]
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": FACES_VERSION, "settings": settings, "videos": files, "parts": parts}, indent=1)
        write_atomically(note, text.encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written to: {error.strerror}") from error
    return parts


def _difference(earlier: dict[str, Any], settings: dict[str, Any], files: dict[str, list[Any]]) -> str:
    """How an earlier call differs in what it aligned; empty if it is the same, or these are more videos."""
    if earlier.get("version") != FACES_VERSION:
        return "another version of the alignment"
    before = earlier["settings"]
    if sections := [name for name in settings if settings[name] != before.get(name)]:
        return f"other settings ({', '.join(sections)})"
    if renamed := named_anew(earlier["videos"], files):
        return renamed
    changed = [name for name, seen in earlier["videos"].items() if files.get(name) != seen]
    if changed:
        return f"other videos ({len(changed)} of them have changed or are not listed now, the first is {changed[0]})"
    return ""

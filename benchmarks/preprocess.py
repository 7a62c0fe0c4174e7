"""Measures making shards of aligned faces from videos, against the loop over all frames of InsightFace's examples."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import (
    CROP_SIZE,
    JPEG_QUALITY,
    SEGMENTS,
    Options,
    evenly,
    real_clips,
    settings,
    synthetic_clips,
)
from benchmarks.measure import Measured, Variant, Work, interleaved
from benchmarks.rows import Row
from dfer.config.settings import StageSettings

Clips = Sequence[tuple[str, Path]]
KeyPoints = dict[str, dict[int, NDArray[np.float32]]]
"""Clip -> frame -> five key points [5, 2] in pixels of the frame."""

_GFLOP_AT_640 = 6.86  # SCRFD-2.5G with key points at 640 x 640 (its convolutions, two operations a multiplication)
_MOVED_PIXELS = 8
_LIMIT = (
    "the detector's small convolutions, at about 60 % of the matmul peak on one thread; where a face fills half of the "
    "frame, key points that agree with the practice's to a pixel take a third of the work of seeing all of it"
)
_TARGETS: dict[int | str, float] = {1: 20.0, 3: 10.0}


def measure(options: Options) -> list[Row]:
    """Rows for the synthetic clips, and for real ones if there is a folder."""
    number = 2 if options.quick else 10
    synthetic = synthetic_clips(options)
    sets = {
        "synthetic 320x320": evenly([path for path in synthetic if path.suffix == ".mp4"], number),
        "synthetic 480x270": evenly([path for path in synthetic if path.suffix == ".avi"], number),
        "real": real_clips(options, number),
    }
    return [row for kind, paths in sets.items() if paths for row in _rows(kind, paths, options)]


def _rows(kind: str, paths: list[Path], options: Options) -> list[Row]:
    clips = [(path.as_posix(), path) for path in paths]
    copies: dict[int | str, int] = (
        {1: 1} if options.quick else {1: 4, 3: 2, "all": 1}
    )  # frames of a segment -> copies of each clip
    workers = options.workers
    variants = [Variant("naive", naive, workers, {"clips": clips, "threads": workers}, ("cv2",))]
    counting = []
    for kept, number in copies.items():
        work = {"clips": clips, "settings": settings(options, f"shards.frames_per_segment={kept}")}
        parallel = {**work, "workers": workers, "copies": number}
        variants.append(Variant(f"ours {kept}", ours, 1, parallel, ()))
        variants.append(Variant(f"decode {kept}", decode, 1, work, ("cv2",)))
        counting.append(Variant(f"count {kept}", count, 1, work, ("cv2",)))
        if kept == 1:
            variants.append(Variant("ours 1, started anew", ours, 1, {**parallel, "anew": True}, ()))
    measured = interleaved(variants, rounds=1 if options.quick else 3)
    measured |= interleaved(counting, rounds=1)
    practice = measured["naive"]
    numbers = practice.results.get("frames", {})
    precise = measured["ours 1" if options.quick else "ours 3"].results.get("keypoints", {})
    chosen = {"clips": clips, "chosen": {name: sorted(frames) for name, frames in precise.items()}, "threads": workers}
    again = interleaved([Variant("moved", moved, workers, chosen, ("cv2",))], rounds=1)["moved"].results
    rows = []
    mean_frames = np.mean(list(numbers.values())) if numbers else float("nan")
    for kept, number in copies.items():
        name = (
            f"{SEGMENTS * kept} frames a clip kept against all {mean_frames:.0f}"
            if isinstance(kept, int)
            else (f"all {mean_frames:.0f} frames kept on both sides")
        )
        result = measured[f"ours {kept}"]
        floor, floor_how = _floor(measured[f"decode {kept}"], measured[f"count {kept}"], options)
        row = Row(
            section="preprocess",
            name=f"{kind} clips, {name}",
            unit="clip",
            ours=result,
            theirs=practice,
            target=_TARGETS.get(kept),
            floor=floor,
            floor_how=floor_how,
            precision={} if kept == "all" else _precision(practice.results, result.results, again),
            limit=_LIMIT,
            how=(
                f"{len(clips)} clips, video to written shard (practice: a JPEG file a frame), crops of {CROP_SIZE} px, "
                f"JPEG quality {JPEG_QUALITY}; {workers} processes of one thread against one of {workers}; on our side "
                f"each clip {number} times over, and loading the detector is in the time"
            ),
        )
        rows.append(row)
        if kept == 1:
            anew, name = measured["ours 1, started anew"], f"{row.name}, start of the processes included"
            rows.append(replace(row, name=name, ours=anew, target=None, precision={}))
    return rows


def naive(*, clips: Clips, threads: int) -> Iterator[Work]:
    """The common practice: one process, every frame at 640 x 640, a JPEG file per frame."""
    from benchmarks.alternatives.faces import crop_every_frame, frame_detector

    warnings.filterwarnings("ignore", category=FutureWarning, module="insightface")
    detector = frame_detector(threads)
    for turn in itertools.count():
        chosen = clips if turn else clips[:1]
        keypoints, frames = {}, {}
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            for number, (name, path) in enumerate(chosen):
                folder = Path(scratch, str(number))
                frames[name], keypoints[name] = crop_every_frame(
                    detector, path, folder, size=CROP_SIZE, quality=JPEG_QUALITY
                )
            seconds = time.perf_counter() - started
        yield Work(len(chosen), seconds, {"keypoints": keypoints, "frames": frames})


def ours(*, clips: Clips, workers: int, settings: StageSettings, copies: int = 1, anew: bool = False) -> Iterator[Work]:
    """The work of `dfer align`: single-threaded processes write shards; with `anew`, they start in each turn."""
    from dfer.system.processes import pool

    with pool(workers) as processes:
        if not anew:
            start_all(processes, workers, clips[:1], settings)
        yield Work()
        while True:
            with tempfile.TemporaryDirectory() as scratch:
                started = time.perf_counter()
                with pool(workers) if anew else nullcontext(processes) as used:
                    align(used, clips, copies, Path(scratch), workers, settings)
                seconds = time.perf_counter() - started
                yield Work(copies * len(clips), seconds, _stored(Path(scratch)))


def align(
    processes: ProcessPoolExecutor, clips: Clips, copies: int, folder: Path, workers: int, settings: StageSettings
) -> None:
    """Align each clip `copies` times, in shards of at most the configured size, at least one per worker."""
    work = [(f"{name}#{copy}", path) for copy in range(copies) for name, path in clips]
    parts = max(min(workers, len(work)), -(-len(work) // settings.shards.clips_per_shard))
    folders = [folder / str(part) for part in range(parts)]
    list(processes.map(_align_part, [work[part::parts] for part in range(parts)], folders, [settings] * parts))


def _align_part(clips: Clips, folder: Path, settings: StageSettings) -> int:
    from dfer.faces.index import FILE_NAME, read_index
    from dfer.faces.videos import align_in_process

    align_in_process(clips=list(clips), folder=folder, settings=settings, send=lambda _: None)
    index = read_index(folder / FILE_NAME)
    if errors := index.loc[index["reason"] == "error", "detail"].tolist():
        # Work that is not done must not count as fast.
        raise RuntimeError(f"{len(errors)} of {len(index)} clips ended with an error; the first: {errors[0]}")
    return os.getpid()


def start_all(processes: ProcessPoolExecutor, workers: int, clips: Clips, settings: StageSettings) -> None:
    """Let every process of the pool align something."""
    started: set[int] = set()
    while len(started) < workers:  # a quick process may take the work of two
        with tempfile.TemporaryDirectory() as scratch:
            folders = [Path(scratch, str(number)) for number in range(workers)]
            started |= set(processes.map(_align_part, [clips] * workers, folders, [settings] * workers))


def decode(*, clips: Clips, settings: StageSettings) -> Iterator[Work]:
    """Only the decoding, on one thread: of all frames, with conversion of those that are kept."""
    from dfer.sampling import kept_indices
    from dfer.video import Video

    for turn in itertools.count():
        chosen = clips if turn else clips[:1]
        for _, path in chosen:
            video = Video(path)
            kept = kept_indices(video.num_frames, settings.shards.segments, settings.shards.frames_per_segment)
            for _ in video.frames(kept):
                pass
        yield Work(len(chosen))


def count(*, clips: Clips, settings: StageSettings) -> Iterator[Work]:
    """The mean number of pixels that the detector sees for a clip, without those of its test run."""
    from dfer.faces.detector import FaceDetector
    from dfer.faces.scrfd import Scrfd

    pixels = 0
    find = Scrfd.find

    def counting(network: Scrfd, pictures: NDArray[np.uint8], *rest: Any) -> Any:
        nonlocal pixels
        pixels += int(np.prod(pictures.shape[:3]))
        return find(network, pictures, *rest)

    yield Work()
    with tempfile.TemporaryDirectory() as scratch, mock.patch.object(Scrfd, "find", counting):
        FaceDetector(settings.detection)
        start = pixels
        _align_part(clips, Path(scratch, "shard"), settings)
    yield Work(len(clips), results={"pixels": (pixels - 2 * start) / len(clips)})


def moved(*, clips: Clips, chosen: Mapping[str, list[int]], threads: int) -> Iterator[Work]:
    """Key points of the common practice when the picture is moved in the detector's input."""
    from benchmarks.alternatives.faces import frame_detector, moved_face
    from dfer.video import Video

    detector = frame_detector(threads)
    yield Work()
    while True:
        keypoints: KeyPoints = {}
        for name, path in clips:
            keypoints[name] = {}
            for number, frame in Video(path).frames(chosen.get(name, ())):
                if (points := moved_face(detector, frame, _MOVED_PIXELS)) is not None:
                    keypoints[name][number] = points
        yield Work(1, results={"keypoints": keypoints})


def keypoints_of(shard_folder: Path | str, *, interpolated: bool = True) -> KeyPoints:
    """Key points of the clips of a shard, in pixels of their frames; with or without the interpolated ones."""
    from dfer.shards import open_shard

    shard = open_shard(shard_folder)
    keypoints: KeyPoints = {}
    for row, name in enumerate(shard.clip_ids):
        clip = shard.read(row)
        points = source_points(clip.keypoints, clip.matrices)
        kept = range(len(points)) if interpolated else np.flatnonzero(~clip.interpolated)
        keypoints[name] = {int(clip.frame_indices[k]): points[k] for k in kept}
    return keypoints


def _stored(folder: Path) -> dict[str, Any]:
    """The detected key points of each clip's first copy, in pixels of the source, and the failed clips."""
    from dfer.faces.index import FILE_NAME, read_index

    keypoints: KeyPoints = {}
    failed: list[str] = []
    for part in sorted(folder.iterdir()):
        index = read_index(part / FILE_NAME)
        failed += index.loc[index["status"] != "ok", "clip_id"].tolist()
        keypoints |= keypoints_of(part, interpolated=False)
    return {
        "keypoints": {name[:-2]: points for name, points in keypoints.items() if name.endswith("#0")},
        "failed": [name[:-2] for name in failed if name.endswith("#0")],
    }


def source_points(keypoints: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Key points [T, 5, 2] of crops in pixels of their frames; matrices [T, 2, 3] map from frame to crop."""
    back = np.linalg.inv(matrices[..., :2].astype(np.float64))
    return np.asarray((keypoints - matrices[:, None, :, 2]) @ np.swapaxes(back, -1, -2), np.float32)


def distances(reference: KeyPoints, keypoints: KeyPoints) -> tuple[NDArray[np.float64], float]:
    """Mean distance of the five points in each frame that both have, in pixels of the reference's crop.

    Also the share of frames in which the two are of different people: the largest face of a frame may not be the
    tracked person.
    """
    from dfer.faces.geometry import similarity, template

    target = template(CROP_SIZE, 0.0)
    values = []
    for name, frames in keypoints.items():
        for number, points in frames.items():
            if number in reference.get(name, {}):
                expected = reference[name][number]
                scale = np.hypot(*similarity(expected, target)[:, 0])
                values.append(scale * np.linalg.norm(points - expected, axis=1).mean())
    apart = np.array(values)
    return apart[apart < CROP_SIZE / 4], float(np.mean(apart >= CROP_SIZE / 4)) if len(apart) else 0.0


def _precision(practice: Mapping[str, Any], ours: Mapping[str, Any], moved: Mapping[str, Any]) -> dict[str, float]:
    """Distances to the key points of the common practice, lost clips, and the distance of the practice to itself."""
    reference: KeyPoints = practice.get("keypoints", {})
    figures: dict[str, float] = {}
    for name, results in (("px", ours), (f"px, practice moved by {_MOVED_PIXELS}", moved)):
        values, others = distances(reference, results.get("keypoints", {}))
        if len(values):
            if others:
                figures[f"{name}, frames with another person, %"] = round(100 * others, 1)
            figures[f"{name}, median"] = round(float(np.median(values)), 2)
            figures[f"{name}, 95 %"] = round(float(np.percentile(values, 95)), 2)
    if "failed" in ours:
        kept = {name for name, points in reference.items() if len(points) >= max(1, practice["frames"][name] / 2)}
        figures["clips lost"] = len(kept & set(ours["failed"]))
    return figures


def _floor(decoding: Measured, counted: Measured, options: Options) -> tuple[float | None, str]:
    """Seconds per clip: our detector's operations at the peak of all cores, plus decoding on all cores."""
    if decoding.error or counted.error:
        return None, ""
    gflop = counted.results["pixels"] * _GFLOP_AT_640 / 640**2
    detecting = 1e9 * gflop / options.machine.peak_flops
    reading = decoding.median / options.workers
    how = f"{gflop:.1f} GFLOP of detection a clip at the matmul peak {1e3 * detecting:.0f} ms"
    return detecting + reading, f"{how} + decoding on all cores {1e3 * reading:.0f} ms"

"""Clips as a training reads them: kept in memory or not, batch by batch, and whole epochs."""

from __future__ import annotations

import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.gpu.conditions import Conditions, Values
from benchmarks.gpu.steps import agreement, figures, made, state, usual_mode
from benchmarks.gpu.timing import compared, launched, memory, wait
from benchmarks.paper import SEGMENTS
from dfer.config.settings import AugmentSettings, ShardSettings
from dfer.labels import EMOTIONS
from dfer.mixing.midas import mix_at_once, mix_rows
from dfer.shards import Clip, write_shard
from dfer.training.cache import FrameCache
from dfer.training.data import ClipSource, Key, TrainingBatches, fill_cache, stored_frames, training_loader
from dfer.training.transforms import random_box, random_view, resized_crops

_SHARD_CLIPS = 64
_AUGMENT = AugmentSettings()


def epoch(conditions: Conditions, *, cache: str, workers: int = 0) -> Values:
    """An epoch with its data, in the precision and with the CUDA graph that `auto` takes.

    Without a cache it has fewer steps; the training's hours are those of whole epochs.
    """
    device = torch.device(conditions.device)
    mode = usual_mode(device)
    steps = conditions.epoch_steps if cache != "none" else math.ceil(conditions.epoch_steps / 4)
    source = stored_clips(conditions, steps * conditions.batch)
    with state(mode, device), memory(device) as held:
        if cache != "none":
            filled(source, conditions, cache, threads=torch.get_num_threads())
        step = made(conditions, mode, cuda_graph="auto")
        batches = TrainingBatches(len(source), conditions.batch, seed=0)
        loader = training_loader(source, batches, workers=workers, device=device)
        targets = torch.eye(len(EMOTIONS))[torch.arange(len(source)) % len(EMOTIONS)]
        generator = torch.Generator().manual_seed(0)
        seconds, waits = [], []
        for number in range(3):  # the first one warms up
            batches.epoch = number + 1
            wait(device)
            started = time.perf_counter()
            loss_sum = torch.zeros((), device=device)
            for frames, rows in loader:
                loss_sum += step(frames, targets[rows], generator)[0]
            float(loss_sum)
            seconds.append(time.perf_counter() - started)
            waits.append(loader.waited)
        del step, loader, source
    ms = 1000 * sum(seconds[1:]) / 2 / len(batches)
    values = {"ms": ms, "rate": 1000 / ms, "waited": sum(waits[1:]) / sum(seconds[1:])}
    return values | held | figures(conditions, mode, ms) | {"remark": f"epochs of {len(batches)} steps, {mode}"}


def fill(conditions: Conditions, *, cache: str, threads: int = 0) -> Values:
    """Decoding all clips into memory, before the first epoch; 0 threads are as many as a training has."""
    threads = threads or torch.get_num_threads()
    source = stored_clips(conditions, conditions.clips)
    wait(torch.device(conditions.device))
    seconds = []
    for _ in range(3):  # the first one reads from the disk
        started = time.perf_counter()
        filled(source, conditions, cache, threads)
        wait(torch.device(conditions.device))
        seconds.append((time.perf_counter() - started) / conditions.clips)
    median = statistics.median(seconds[1:])
    return {
        "ms": 1000 * median,
        "rate": 1 / median,
        "remark": f"{threads} threads, {conditions.clips} clips of {conditions.clip_frames} frames",
    }


def batch(conditions: Conditions, *, cache: str) -> Values:
    """One batch's frames on the device, decoded or gathered from memory."""
    device = torch.device(conditions.device)
    source = stored_clips(conditions, conditions.clips)
    if cache != "none":
        filled(source, conditions, cache, threads=torch.get_num_threads())
    rows = np.random.default_rng(0).integers(len(source), size=(50, conditions.batch)).tolist()
    keys: list[list[Key]] = [[(row, number) for row in some] for number, some in enumerate(rows, 1)]
    turns = cycle(keys)

    def one() -> None:
        source.stored(next(turns)).frames.to(device, non_blocking=True)

    return compared(one, conditions)


def views(conditions: Conditions, *, launches: bool = False) -> Values:
    """The random views of a batch at once, against one clip after the other; `launches`: only what they start."""
    device, size = torch.device(conditions.device), conditions.size
    shape = (conditions.batch, SEGMENTS, size, size, 3)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
    params = torch.rand((conditions.batch, 4), dtype=torch.float64).tolist()

    def at_once() -> torch.Tensor:
        return resized_crops(clips, size, [random_box(size, size, _AUGMENT, values) for values in params])

    def one_by_one() -> torch.Tensor:
        return torch.stack(
            [random_view(clip, size, _AUGMENT, values) for clip, values in zip(clips, params, strict=True)]
        )

    with state(usual_mode(device), device):
        if launches:
            return launched(at_once, conditions, one_by_one)
        difference = int((at_once().int() - one_by_one().int()).abs().max())
        values = compared(at_once, conditions, one_by_one)
    return values | {"remark": f"pixels differ by {difference} of 255 at most"}


def mixing(conditions: Conditions, *, launches: bool = False) -> Values:
    """Mixing a batch at once, against row by row; `launches`: only what they start."""
    device, size = torch.device(conditions.device), conditions.size
    clips = torch.randint(0, 256, (conditions.batch, SEGMENTS, 3, size, size), dtype=torch.uint8, device=device)
    partner, weight = torch.arange(conditions.batch).roll(1), torch.rand(conditions.batch)
    at_once, by_row = partial(mix_at_once, clips, partner, weight), partial(mix_rows, clips, partner, weight)
    if launches:
        return launched(at_once, conditions, by_row)
    difference = float((at_once() - by_row()).abs().max() / 255)
    return compared(at_once, conditions, by_row) | {"remark": f"both {agreement(difference)}"}


def filled(source: ClipSource, conditions: Conditions, cache: str, threads: int) -> None:
    """Let a source take its frames from memory: of the host, or of the device."""
    device = torch.device(conditions.device)
    source.cache = None
    lengths, size = stored_frames([source])
    where, pinned = device if cache == "device" else torch.device("cpu"), device.type == "cuda"
    fill_cache(FrameCache(lengths, size, device=where, pinned=pinned), [source], threads=threads)


def stored_clips(conditions: Conditions, count: int) -> ClipSource:
    """`count` clips for a training, each of the stored ones several times if they are fewer; written at the first
    call."""
    folder, number = Path(conditions.scratch), conditions.clips
    starts = range(0, number, _SHARD_CLIPS)
    if not (folder / "written").exists():
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_write, folder, conditions), starts))
        (folder / "written").touch()
    names = [f"clip-{row:04d}" for row in range(number)]
    places = [(f"shard-{row // _SHARD_CLIPS:02d}", row % _SHARD_CLIPS) for row in range(number)]
    index = pd.DataFrame({"clip_id": names, "status": "ok"})
    index["shard"], index["row"] = zip(*places, strict=True)
    table = pd.DataFrame({"clip_id": [names[row % number] for row in range(count)]})
    return ClipSource(table, index, folder, num_segments=SEGMENTS, input_size=conditions.size, augment=_AUGMENT, seed=0)


def _write(folder: Path, conditions: Conditions, start: int) -> None:
    """One shard, of clips of smooth pictures with a little noise, whose JPEGs are about as large as those of faces."""
    generator = np.random.default_rng(start)
    pictures = np.stack([_picture(conditions.size, generator) for _ in range(2 * conditions.clip_frames)])
    rows = range(start, min(conditions.clips, start + _SHARD_CLIPS))
    clips = [_clip(f"clip-{row:04d}", np.roll(pictures, row, axis=0)[: conditions.clip_frames]) for row in rows]
    write_shard(folder / f"shard-{start // _SHARD_CLIPS:02d}", clips, settings=ShardSettings())


def _picture(size: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    coarse = generator.uniform(0, 255, (8, 8, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + generator.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)


def _clip(name: str, frames: NDArray[np.uint8]) -> Clip:
    count = len(frames)
    return Clip(
        clip_id=name,
        frames=frames,
        frame_indices=np.arange(count),
        keypoints=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        interpolated=np.zeros(count, np.bool_),
        matrices=np.zeros((count, 2, 3), np.float32),
        close_up=np.zeros(count, np.bool_),
    )

"""Measures reading batches of stored crops, against a folder of JPEG files with per-frame transforms in float."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.material import CROP_SIZE, SEGMENTS, Options, settings, synthetic_clips
from benchmarks.measure import Variant, Work, interleaved
from benchmarks.preprocess import align
from benchmarks.rows import Row
from dfer.config.settings import StageSettings

if TYPE_CHECKING:
    from dfer.training.data import ClipSource

BATCH = 8
WORKERS = 2
_TARGET = 7.0
_WAIT_TARGET = 0.02


@dataclass(frozen=True)
class Crops:
    """The same JPEGs twice: in shards with their index (relative to `root`), and in a folder of files per clip."""

    root: Path
    table: pd.DataFrame
    index: pd.DataFrame
    folders: list[Path]
    size: int


def prepare(options: Options, root: Path) -> Crops:
    """Align the synthetic clips at 24 frames a clip, and extract the JPEGs of the shards into folders."""
    import pyarrow.parquet as pq

    from dfer.faces.index import FILE_NAME, merge_indices, read_index
    from dfer.shards import parquet
    from dfer.system.processes import pool

    chosen = settings(options, "shards.frames_per_segment=3")
    clips = [(path.as_posix(), path) for path in synthetic_clips(options)]
    shards = root / "shards"
    with pool(options.workers) as processes:
        align(processes, clips, 1, shards, options.workers, chosen)
    parts = sorted(shards.iterdir())
    index = merge_indices([read_index(part / FILE_NAME) for part in parts], [f"shards/{part.name}" for part in parts])
    kept = index[index["status"] == "ok"].reset_index(drop=True)
    if not len(kept):
        raise ValueError(f"none of {len(index)} clips has a face; the first: {index['detail'].iloc[0]}")
    folders: list[Path] = []
    size = 0
    for part in parts:
        for frames in pq.read_table(part / parquet.FILE_NAME, columns=["frames"])["frames"].to_pylist():
            folder = root / "folders" / f"{len(folders):05d}"
            folder.mkdir(parents=True)
            for number, encoded in enumerate(frames):
                (folder / f"{number:05d}.jpg").write_bytes(encoded)
            folders.append(folder)
            size += sum(map(len, frames))
    table = pd.DataFrame({"clip_id": kept["clip_id"], "label": np.arange(len(kept)) % 7, "votes": None})
    return Crops(root, table, kept, folders, size)


def measure(options: Options) -> list[Row]:
    """Rows of loaders, and of the wait for data in a training."""
    with tempfile.TemporaryDirectory() as scratch:
        crops = prepare(options, Path(scratch))
        return [*_loaders(crops, options), _waiting(crops, options)]


def _loaders(crops: Crops, options: Options) -> list[Row]:
    repeats = 1 if options.quick else 4
    cores = options.machine.cores
    work: dict[str, Any] = {"crops": crops, "repeats": repeats, "settings": settings(options)}
    practice = {"crops": crops, "repeats": repeats, "workers": WORKERS}
    stored = "uint8 frames handed to the training, whose device does views and normalising, against ready batches"
    ready = "batches ready for the network (view, flip, normalised float) on both sides"
    kept = f"ours kept in host memory, without workers, theirs {WORKERS} workers"
    decoding = "JPEG decoding (three quarters of a worker's time) on so many cores, and the way between processes"
    # name of the row, arguments of `shards`, and the limit of a row with a target
    sides: dict[str, tuple[str, dict[str, Any], str]] = {
        "stored": (f"{stored}; {WORKERS} workers on both sides", {"workers": WORKERS, "ready": False}, decoding),
        "stored, cache": (f"{stored}; {kept}", {"cache": True, "ready": False}, "copying the frames of a batch"),
        "workers": (f"{ready}; {WORKERS} workers on both sides", {"workers": WORKERS}, ""),
        "no workers": (f"{ready}; ours one thread that reads ahead, theirs {WORKERS} workers", {}, ""),
        "cache": (f"{ready}; {kept}", {"cache": True}, ""),
    }
    variants = [Variant("folder", folder, cores, practice)]
    variants += [Variant(variant, shards, cores, {**work, **more}) for variant, (_, more, _) in sides.items()]
    measured = interleaved(variants, rounds=1 if options.quick else 5)
    clips = len(crops.folders)
    how = (
        f"{clips} synthetic clips of 24 crops of {CROP_SIZE} px, {crops.size / clips / 1000:.0f} kB a clip, {SEGMENTS} "
        f"random frames a clip, batch {BATCH}; the practice is PIL with RandomResizedCrop, flip, ToTensor and "
        f"Normalize frame by frame in {WORKERS} workers; passes of {repeats * clips} clips, files in the page cache"
    )
    return [
        Row(
            section="loading",
            name=name,
            unit="clip",
            ours=measured[variant],
            theirs=measured["folder"],
            target=_TARGET if limit else None,
            limit=limit,
            how=how,
        )
        for variant, (name, _, limit) in sides.items()
    ]


def _waiting(crops: Crops, options: Options) -> Row:
    steps = 2 if options.quick else 3
    size = 64 if options.quick else CROP_SIZE
    work = {"crops": crops, "settings": settings(options), "steps": steps, "size": size}
    variant = Variant("training", training, options.machine.cores, work)
    measured = interleaved([variant], rounds=1)[variant.name]
    return Row(
        section="loading",
        name=f"wait for data in a CPU training without workers or cache, batch {BATCH}, {size} px",
        unit="step",
        ours=measured,
        measure="share",
        share=measured.results.get("waited"),
        target=_WAIT_TARGET,
        limit="the first batch of an epoch, which nothing can overlap",
        how=f"{steps} steps of an epoch, its first batch included, after one step to warm up",
    )


def folder(*, crops: Crops, repeats: int, workers: int) -> Iterator[Work]:
    """Passes over folders of JPEG files."""
    from benchmarks.alternatives.loading import folder_loader

    folders = crops.folders * repeats
    loader = folder_loader(folders, num_segments=SEGMENTS, size=CROP_SIZE, batch_size=BATCH, workers=workers)
    while True:
        for frames, _ in loader:
            assert frames.dtype.is_floating_point
        yield Work(len(folders))


def shards(
    *, crops: Crops, repeats: int, settings: StageSettings, workers: int = 0, cache: bool = False, ready: bool = True
) -> Iterator[Work]:
    """Passes over our shards, each clip several times."""
    table = pd.concat([crops.table] * repeats, ignore_index=True)
    return passes(table, crops, settings, workers=workers, cache=cache, ready=ready)


def passes(
    table: pd.DataFrame, crops: Crops, settings: StageSettings, *, workers: int, cache: bool, ready: bool = True
) -> Iterator[Work]:
    """Passes of a training's loader over the clips of a table, up to the network's input tensor.

    Unless `ready`, only up to the frames as they are stored.
    """
    import torch

    from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
    from dfer.system.memory import keep_freed_memory
    from dfer.training.cache import FrameCache
    from dfer.training.data import TrainingBatches, fill_cache, stored_frames, training_loader
    from dfer.training.transforms import to_float

    keep_freed_memory()
    source = source_of(table, crops, settings, CROP_SIZE)
    if cache:
        lengths, size = stored_frames([source])
        fill_cache(FrameCache(lengths, size, device=torch.device("cpu")), [source], threads=1)
    batches = TrainingBatches(len(source), BATCH, seed=0)
    loader = training_loader(source, batches, workers=workers)
    for epoch in itertools.count(1):
        batches.epoch = epoch
        if ready:
            for frames, _ in loader:
                to_float(frames, IMAGENET_MEAN, IMAGENET_STD)
        else:
            for batch in loader.stored():
                assert not batch.frames.is_floating_point()
        yield Work(len(source))


def training(*, crops: Crops, settings: StageSettings, steps: int, size: int) -> Iterator[Work]:
    """Steps of a training on clips as they are read, with the share of time that it waited for them."""
    import torch

    from benchmarks.step import make_step
    from dfer.training.data import TrainingBatches, training_loader

    step, generator = make_step(size), torch.Generator().manual_seed(0)
    table = pd.concat([crops.table] * -(-steps * BATCH // len(crops.table)), ignore_index=True)
    labels = torch.eye(7)
    for epoch in itertools.count(1):
        source = source_of(table.head(BATCH if epoch == 1 else steps * BATCH), crops, settings, size)
        batches = TrainingBatches(len(source), BATCH, seed=0)
        loader = training_loader(source, batches)
        started = time.perf_counter()
        for frames, rows in loader:
            step(frames, labels[rows % 7], generator)
        seconds = time.perf_counter() - started
        yield Work(len(batches), seconds, {"waited": loader.waited / seconds})


def source_of(table: pd.DataFrame, crops: Crops, settings: StageSettings, size: int) -> ClipSource:
    """The crops as clips for a training, at `size` pixels."""
    from dfer.training.data import ClipSource

    return ClipSource(
        table, crops.index, crops.root, num_segments=SEGMENTS, input_size=size, augment=settings.train.augment
    )

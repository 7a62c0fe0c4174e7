"""Detection, training steps and the wait for data on a GPU. Left out on a machine without one."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd

from benchmarks.loading import BATCH, Crops, prepare, source_of
from benchmarks.material import CROP_SIZE, SEGMENTS, Options, settings, synthetic_clips
from benchmarks.measure import Variant, Work, interleaved
from benchmarks.preprocess import Clips
from benchmarks.rows import Row
from benchmarks.step import Precision, paper_plan
from dfer.config.settings import StageSettings

_TRAINING_CLIPS = 9_356  # of one fold of DFEW
_EPOCHS = 450  # section 4.3
_WAIT_TARGET = 0.02
_STEPS: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, channels last": {"precision": "bfloat16", "channels_last": True},
    "bfloat16, channels last, compiled": {"precision": "bfloat16", "channels_last": True, "compiled": True},
    "TF32": {"precision": "float32", "tf32": True},
    "TF32, channels last": {"precision": "float32", "tf32": True, "channels_last": True},
    "float32": {"precision": "float32"},
}


def measure(options: Options) -> list[Row]:
    """Rows of training steps, of an epoch with its data, and of detection."""
    with tempfile.TemporaryDirectory() as scratch:
        return [*_steps(options), *_epochs(prepare(options, Path(scratch)), options), *_detection(options)]


def _steps(options: Options) -> list[Row]:
    from dfer.training.speed import flops_per_clip

    cores = options.machine.cores
    seconds, turns, rounds = (1.0, 5, 1) if options.quick else (5.0, 50, 3)
    variants = [Variant(name, step, cores, {"turns": turns, **more}) for name, more in _STEPS.items()]
    for precision in ("float32", "bfloat16", "auto"):
        variants.append(Variant(f"speed {precision}", speed, cores, {"precision": precision, "seconds": seconds}))
    measured = interleaved(variants, rounds=rounds)
    flops = BATCH * flops_per_clip(paper_plan(CROP_SIZE))
    rows = []
    for name, more in _STEPS.items():
        peak = measured[f"speed {'auto' if 'tf32' in more else more['precision']}"].results.get("peak")
        rows.append(
            Row(
                section="gpu",
                name=f"training step on the GPU, {BATCH} clips of {SEGMENTS} frames of {CROP_SIZE} px, {name}",
                unit="step",
                ours=measured[name],
                theirs=measured["float32"] if name != "float32" else None,
                floor=flops / peak if peak else None,
                floor_how=f"{flops / 1e9:.0f} GFLOP at the matmul peak of {peak / 1e12:.0f} TFLOP/s" if peak else "",
                precision=_per_step(measured[name].median),
                how="mixing to updated weights, frames on the GPU already; the other side is float32",
            )
        )
    return rows


def _per_step(seconds: float) -> dict[str, float]:
    """Steps a second, and what the paper's training would take, without any wait for data."""
    if not math.isfinite(seconds):
        return {}
    epoch = math.ceil(_TRAINING_CLIPS / BATCH) * seconds
    return {
        "steps/s": round(1 / seconds, 1),
        f"s an epoch of {_TRAINING_CLIPS} clips": round(epoch, 1),
        f"h for {_EPOCHS} epochs": round(_EPOCHS * epoch / 3600, 1),
    }


def _epochs(crops: Crops, options: Options) -> list[Row]:
    work: dict[str, Any] = {"crops": crops, "settings": settings(options), "repeats": 1 if options.quick else 20}
    kinds: dict[str, dict[str, Any]] = {
        "no cache, no workers": {"cache": "none", "workers": 0},
        f"no cache, {options.workers} workers": {"cache": "none", "workers": options.workers},
        "frames kept in host memory": {"cache": "host", "workers": 0},
        "frames kept on the GPU": {"cache": "device", "workers": 0},
    }
    variants = [Variant(name, epoch, options.machine.cores, {**work, **more}) for name, more in kinds.items()]
    measured = interleaved(variants, rounds=1 if options.quick else 3)
    return [
        Row(
            section="gpu",
            name=f"an epoch with its data, {name}: share of the time that the training waits for clips",
            unit="step",
            ours=measured[name],
            measure="share",
            share=measured[name].results.get("waited"),
            target=_WAIT_TARGET if name == "frames kept on the GPU" else None,
            precision=_per_step(measured[name].median),
            limit="decoding on the processor's cores" if "no cache" in name else "copying to the GPU",
            how=f"the clips of the section on loading, {work['repeats']} times over, in the precision that auto takes",
        )
        for name in kinds
    ]


def _detection(options: Options) -> list[Row]:
    paths = synthetic_clips(options)[: 2 if options.quick else 20]
    clips = [(path.as_posix(), path) for path in paths]
    work = {"clips": clips, "settings": settings(options, "shards.frames_per_segment=all")}
    variants = [
        Variant("one process on the CPU", detect, 1, {**work, "provider": "cpu"}),
        Variant("CUDA provider", detect, 1, {**work, "provider": "cuda"}),
    ]
    cpu, cuda = interleaved(variants, rounds=1 if options.quick else 3).values()
    return [
        Row(
            section="gpu",
            name="detection in all frames, batches on the GPU against one process of one thread on the CPU",
            unit="frame",
            ours=cuda,
            theirs=cpu,
            limit="one process prepares the batches",
            how=f"{len(clips)} synthetic clips decoded before; `detect_batch` against `detect`",
        )
    ]


def speed(*, precision: str, seconds: float) -> Iterator[Work]:
    """The project's own measurement of a step and of the peak, in a precision."""
    from dfer.training.speed import step_speed

    plan = paper_plan(CROP_SIZE, device="cuda", precision=precision)
    yield Work()
    while True:
        measured = step_speed(plan, threads=0, seconds=seconds)
        yield Work(1, 1 / measured.steps_per_second, {"peak": measured.peak_flops, "share": measured.share_of_peak})


def step(
    *, turns: int, precision: Precision, tf32: bool = False, channels_last: bool = False, compiled: bool = False
) -> Iterator[Work]:
    """Steps on frames that lie on the GPU."""
    import torch

    from benchmarks.mixing import batch
    from benchmarks.step import make_step
    from dfer.training.optimization import torch_state

    run = make_step(CROP_SIZE, device="cuda", precision=precision, channels_last=channels_last, compiled=compiled)
    frames, labels = batch((BATCH, SEGMENTS, 3, CROP_SIZE, CROP_SIZE))
    frames = frames.cuda()
    generator = torch.Generator().manual_seed(0)
    with torch_state(0, frames.device, tf32=tf32):
        while True:
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(turns):
                run(frames, labels, generator)
            torch.cuda.synchronize()
            yield Work(turns, time.perf_counter() - started)


def epoch(*, crops: Crops, settings: StageSettings, repeats: int, cache: str, workers: int) -> Iterator[Work]:
    """Epochs on clips as they are read, in the precision and with the caches of a training."""
    import torch

    from benchmarks.step import make_step
    from dfer.training.cache import FrameCache
    from dfer.training.data import TrainingBatches, fill_cache, stored_frames, training_loader
    from dfer.training.optimization import choose_precision, torch_state

    device = torch.device("cuda")
    run = make_step(CROP_SIZE, device="cuda", precision=cast(Precision, choose_precision("auto", device)))
    source = source_of(pd.concat([crops.table] * repeats, ignore_index=True), crops, settings, CROP_SIZE)
    if cache != "none":
        lengths, size = stored_frames([source])
        where = device if cache == "device" else torch.device("cpu")
        fill_cache(FrameCache(lengths, size, device=where, pinned=cache == "host"), [source], threads=1)
    batches = TrainingBatches(len(source), BATCH, seed=0)
    loader = training_loader(source, batches, workers=workers, device=device)
    labels, generator = torch.eye(7), torch.Generator().manual_seed(0)
    with torch_state(0, device, tf32=True):
        for number in itertools.count(1):
            batches.epoch = number
            torch.cuda.synchronize()
            started = time.perf_counter()
            for frames, rows in loader:
                run(frames, labels[rows % 7], generator)
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            yield Work(len(batches), seconds, {"waited": loader.waited / seconds})


def detect(*, clips: Clips, settings: StageSettings, provider: str) -> Iterator[Work]:
    """Detection alone, in decoded frames: in batches of one clip's frames on a GPU, one after the other on a CPU."""
    from dfer.faces.detector import FaceDetector
    from dfer.video import Video

    detector = FaceDetector(settings.detection.model_copy(update={"provider": provider}))
    decoded = []
    for _, path in clips:
        video = Video(path)
        decoded.append([frame for _, frame in video.frames(range(video.num_frames))])
    for turn in itertools.count():
        done = decoded if turn else decoded[:1]
        for frames in done:
            if detector.batch > 1:
                for start in range(0, len(frames), detector.batch):
                    detector.detect_batch(frames[start : start + detector.batch])
            else:
                for frame in frames:
                    detector.detect(frame)
        yield Work(sum(map(len, done)))

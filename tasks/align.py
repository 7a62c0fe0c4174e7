"""Stages `align` (shards of clips) and `index` (all shards of a data set together)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dfer.config.catalogue import load
from dfer.config.reading import Pipeline
from dfer.datasets import table
from dfer.faces import index
from dfer.faces.model_files import detector_file
from dfer.storage.files import sha256
from dfer.storage.store import CacheKey, Output, StageResult
from tasks.ingest import root_of
from tasks.running import progress
from tasks.running.failures import note_stage
from tasks.running.retries import WHERE_IT_CAN_PASS
from tasks.running.stage import Slots, all_shown, ensure, shown, store_of

VERSION = 3

# What aligns the clips of a shard: `package.module:function`, called as `dfer.faces.videos.align_in_process` is.
ALIGNER = "dfer.faces.videos:align_in_process"

# Task runs of a data set at most: every one is rows in Prefect's database and requests to its server, and a line in
# its page, which nobody reads beyond some hundreds.
MOST_TASKS = 256

# What of a clip's row determines its aligned faces.
SOURCE_COLUMNS = ("clip_id", "source", "source_size", "source_mtime_ns")


class TooManyFailedError(RuntimeError):
    """More clips than allowed ended up without a usable face."""


@task(
    name="fetch-detector",
    task_run_name="fetch-detector",
    cache_policy=NO_CACHE,
    on_failure=[note_stage],
    **WHERE_IT_CAN_PASS,
)
def fetch_detector(pipeline: Pipeline) -> str:
    """Make sure that the detector's file is here; its SHA-256."""
    return sha256(detector_file(pipeline.settings.detection.model))


def parts_of(clips: int, clips_per_shard: int) -> list[range]:
    """The rows of a clip table in runs of whole shards, one align task each: a shard a task while they are few."""
    shards = -(-clips // clips_per_shard)
    rows = max(1, -(-shards // MOST_TASKS)) * clips_per_shard
    return [range(first, min(first + rows, clips)) for first in range(0, clips, rows)]


def split_into_shards(clips: pd.DataFrame, clips_per_shard: int) -> Iterator[pd.DataFrame]:
    """The clip table in runs of rows, the clips of a shard each."""
    return (clips.iloc[start : start + clips_per_shard] for start in range(0, len(clips), clips_per_shard))


def align_cache_key(pipeline: Pipeline, clips: pd.DataFrame, detector: str) -> CacheKey:
    """What determines a shard. Not the ingest stage's output: another label does not move a face."""
    settings = pipeline.settings
    key = {
        "detector": detector,
        "detection": settings.detection.model_dump(mode="json", exclude={"model"}),
        "tracking": settings.tracking.model_dump(mode="json"),
        "alignment": settings.alignment.model_dump(mode="json"),
        "shards": settings.shards.model_dump(
            mode="json", include={"format", "segments", "frames_per_segment", "jpeg_quality"}
        ),
        "clips": [list(row) for row in zip(*(clips[name].tolist() for name in SOURCE_COLUMNS), strict=True)],
    }
    return CacheKey("align", VERSION, key)


def index_cache_key(dataset: str, shards: Sequence[Output]) -> CacheKey:
    """What determines the index of a data set."""
    return CacheKey("index", VERSION, {"dataset": dataset}, tuple(shards))


@task(name="align", task_run_name="align {dataset} {part}", cache_policy=NO_CACHE, on_failure=[note_stage])
def align_shards(
    pipeline: Pipeline, dataset: str, part: int, rows: range, ingested: StageResult, detector: str, slots: Slots | None
) -> list[StageResult]:
    """Detect, follow and align the faces of some clips, one shard after another.

    Args:
        pipeline: whose settings count.
        dataset: its name, for the task's.
        part: the number of the task among those of the data set.
        rows: of the clip table, whole shards of it.
        ingested: the clip table.
        detector: SHA-256 of the detector's file.
        slots: where processes that align are kept; None aligns in this very process.
    """
    clips = table.read_rows(ingested.output.file("clips.parquet"), rows, SOURCE_COLUMNS)

    def shard(clips: pd.DataFrame) -> StageResult:
        def work(folder: Path) -> dict[str, int]:
            root = root_of(pipeline, dataset)
            arguments = {
                "clips": [(name, root / at) for name, at in zip(clips["clip_id"], clips["source"], strict=True)],
                "folder": folder,
                "settings": pipeline.settings,
            }
            with progress.bar(f"align {dataset}", "clips aligned", share_of=len(clips)) as advance:
                return _align(slots, arguments, lambda _: advance())

        made = ensure(
            pipeline,
            align_cache_key(pipeline, clips, detector),
            work,
            place=slots.aligning if slots else nullcontext,
        )
        if not made.executed:
            progress.was_there(f"align {dataset}", len(clips))
        return made

    return all_shown([shard(part) for part in split_into_shards(clips, pipeline.settings.shards.clips_per_shard)])


def _align(slots: Slots | None, arguments: dict[str, Any], on_clip: Callable[[Any], None]) -> dict[str, int]:
    """The shard's counts, from a kept process or from this one."""
    counts: dict[str, int]
    if slots is None:
        counts = load(ALIGNER)(send=on_clip, **arguments)
        return counts
    with slots.aligners.one() as process:
        counts = process.call(ALIGNER, on_message=on_clip, **arguments)
    return counts


@task(name="index", task_run_name="index {dataset}", cache_policy=NO_CACHE, on_failure=[note_stage])
def index_shards(pipeline: Pipeline, dataset: str, parts: list[list[StageResult]]) -> StageResult:
    """One index over all shards of a data set: a row for every clip of the clip table, whatever became of it.

    Raises:
        TooManyFailedError: more clips failed than `shards.max_failed_share` allows.
    """
    allowed = pipeline.settings.shards.max_failed_share
    stages = store_of(pipeline).root
    shards = [made.output for part in parts for made in part]

    def work(folder: Path) -> dict[str, int]:
        from dfer import plots

        index.merge_files(
            [shard.file(index.FILE_NAME) for shard in shards],
            [shard.folder.removeprefix(f"{stages}/") for shard in shards],
            folder / index.FILE_NAME,
        )
        merged = index.read_places(folder / index.FILE_NAME)
        plots.aligned_faces(merged, stages, folder / "aligned.jpg")
        reasons = merged.loc[merged["status"] != "ok", "reason"].value_counts()
        kept = int((merged["status"] == "ok").sum())
        return {
            "given": len(merged),
            "ok": kept,
            **{f"failed.{reason}": int(n) for reason, n in reasons.items() if n},
        }

    made = ensure(pipeline, index_cache_key(dataset, shards), work)
    counts = made.output.counts
    _show(dataset, counts)
    failed = counts["given"] - counts["ok"]
    if failed > allowed * counts["given"]:
        reasons = ", ".join(f"{n} {name.removeprefix('failed.')}" for name, n in counts.items() if "failed." in name)
        raise TooManyFailedError(
            f"{dataset}: {failed} of {counts['given']} clips have no usable face, more than the "
            f"{allowed:.0%} that shards.max_failed_share allows ({reasons}).\n"
            f"Every clip is listed with its reason in {made.output.path / index.FILE_NAME}.\n"
            f"Mend the data set, or allow more with --set shards.max_failed_share={failed / counts['given'] + 0.01:.2f}"
        )
    return shown(made)


def _show(dataset: str, counts: dict[str, int]) -> None:
    lines = [f"| {name} | {number} |" for name, number in counts.items()]
    create_markdown_artifact(
        "\n".join(["| clips | |", "|---|---:|", *lines]),
        key=f"index-{dataset}",
        description=f"What became of the clips of {dataset}",
    )

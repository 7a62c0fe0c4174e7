"""Stages `align` (one a shard of clips) and `index` (all shards of a data set together)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dfer.config import Pipeline
from dfer.faces import index
from dfer.faces.model_files import detector_file
from dfer.files import sha256
from dfer.store import Made, Output, Recipe
from tasks import progress
from tasks.ingest import root_of
from tasks.stage import Slots, ensure, shown, store_of

VERSION = 3


class TooManyFailedError(RuntimeError):
    """More clips than allowed ended up without a usable face."""


# A download can fail and succeed a minute later; a wrong checksum is found out at once all the same.
@task(name="fetch-detector", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30])
def fetch_detector(pipeline: Pipeline) -> str:
    """Make sure that the detector's file is here; its SHA-256."""
    return sha256(detector_file(pipeline.settings.detection.model))


def split_into_shards(clips: pd.DataFrame, clips_per_shard: int) -> list[pd.DataFrame]:
    """The clip table in runs of rows: one align task each."""
    return [clips.iloc[start : start + clips_per_shard] for start in range(0, len(clips), clips_per_shard)]


def align_recipe(pipeline: Pipeline, clips: pd.DataFrame, detector: str) -> Recipe:
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
        "clips": clips[["clip_id", "source", "source_size", "source_mtime_ns"]].values.tolist(),
    }
    return Recipe("align", VERSION, key)


def index_recipe(dataset: str, shards: Sequence[Output]) -> Recipe:
    """What determines the index of a data set."""
    return Recipe("index", VERSION, {"dataset": dataset}, tuple(shards))


@task(name="align", task_run_name="align {dataset} {part}", cache_policy=NO_CACHE)
def align_shard(
    pipeline: Pipeline, dataset: str, part: int, clips: pd.DataFrame, ingested: Made, detector: str, slots: Slots
) -> Made:
    """Detect, follow and align the faces of some clips, in a process that does one shard after another."""

    def work(folder: Path) -> dict[str, int]:
        root = root_of(pipeline, dataset)
        with progress.bar(f"align {dataset}", "clips aligned", share_of=len(clips)) as advance:
            with slots.aligners.one() as process:
                counts: dict[str, int] = process.call(
                    "dfer.faces.videos:align_in_process",
                    on_message=lambda _: advance(),
                    clips=[(name, root / at) for name, at in zip(clips["clip_id"], clips["source"], strict=True)],
                    folder=folder,
                    settings=pipeline.settings,
                )
            return counts

    return shown(ensure(pipeline, align_recipe(pipeline, clips, detector), work, place=slots.aligning))


@task(name="index", task_run_name="index {dataset}", cache_policy=NO_CACHE)
def index_shards(pipeline: Pipeline, dataset: str, ingested: Made, shards: list[Made]) -> Made:
    """One index over all shards of a data set: a row for every clip of the clip table, whatever became of it.

    Raises:
        TooManyFailedError: more clips failed than `shards.max_failed_share` allows.
    """
    allowed = pipeline.settings.shards.max_failed_share
    stages = store_of(pipeline).root

    def work(folder: Path) -> dict[str, int]:
        from dfer import plots

        merged = index.merge_indices(
            [index.read_index(made.output.file(index.FILE_NAME)) for made in shards],
            [made.output.folder.removeprefix(f"{stages}/") for made in shards],
        )
        index.write_index(folder / index.FILE_NAME, merged)
        plots.aligned_faces(merged, stages, folder / "aligned.jpg")
        reasons = merged.loc[merged["status"] != "ok", "reason"].value_counts()
        kept = int((merged["status"] == "ok").sum())
        return {"given": len(merged), "ok": kept, **{f"failed.{reason}": int(n) for reason, n in reasons.items()}}

    made = ensure(pipeline, index_recipe(dataset, [made.output for made in shards]), work)
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

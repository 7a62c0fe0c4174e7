"""Stages `align` (shards of clips) and `index` (all shards of a data set together)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dfer.config.experiments import Faces
from dfer.config.pipeline import Pipeline
from dfer.datasets import table
from dfer.faces import index
from dfer.faces.crashes import without_crashing_clips
from dfer.faces.model_files import detector_file, detector_sha256
from dfer.faces.videos import align_in_process
from dfer.storage.files import sha256
from dfer.storage.store import CacheKey, Output, StageResult
from dfer.system.gpu_slots import GpuSlot, for_one_aligner
from tasks.ingest import CLIPS, root_of
from tasks.running.failures import note_stage
from tasks.running.graph import ExpectedOutput, Graph, Inputs, Node, Stage
from tasks.running.retries import WHERE_IT_CAN_PASS
from tasks.running.stage import RunResources, artifact_key, ensure, store_of, task_result

VERSION = index.FACES_VERSION

# Task runs of a data set at most: every one is rows in Prefect's database and requests to its server, and a line in
# its page, which nobody reads beyond some hundreds.
MOST_TASKS = 256

# What of a clip's row determines its aligned faces.
SOURCE_COLUMNS = ("clip_id", "source", "source_size", "source_mtime_ns")


class TooManyFailedError(RuntimeError):
    """More clips than allowed ended up without a usable face."""


class MissingFilesError(RuntimeError):
    """More of a data set's files are missing than allowed."""


def task_rows(clips: int, clips_per_shard: int) -> list[range]:
    """The rows of a clip table in runs of whole shards, one align task each: a shard a task while these are few."""
    shards = -(-clips // clips_per_shard)
    rows = max(1, -(-shards // MOST_TASKS)) * clips_per_shard
    return [range(first, min(first + rows, clips)) for first in range(0, clips, rows)]


def split_into_shards(clips: pd.DataFrame, clips_per_shard: int) -> Iterator[pd.DataFrame]:
    """The clip table in runs of rows, the clips of a shard each."""
    return (clips.iloc[start : start + clips_per_shard] for start in range(0, len(clips), clips_per_shard))


def align_cache_key(faces: Faces, clips: pd.DataFrame, detector: str) -> CacheKey:
    """What determines a shard. Not the ingest stage's output: another label does not move a face.

    Args:
        faces: the settings.
        clips: the rows of the shard's clips.
        detector: SHA-256 of the detector's file.
    """
    key = {
        "detector": detector,
        "detection": faces.detection.model_dump(mode="json", exclude={"model"}),
        "tracking": faces.tracking.model_dump(mode="json"),
        "alignment": faces.alignment.model_dump(mode="json"),
        "shards": faces.shards.model_dump(
            mode="json", include={"format", "segments", "frames_per_segment", "jpeg_quality"}
        ),
        "clips": [list(row) for row in zip(*(clips[name].tolist() for name in SOURCE_COLUMNS), strict=True)],
    }
    return CacheKey("align", VERSION, key)


def index_cache_key(dataset: str, shards: Sequence[Output]) -> CacheKey:
    """What determines the index of a data set."""
    return CacheKey("index", VERSION, {"dataset": dataset}, tuple(shards))


def nodes(graph: Graph) -> dict[Any, Node]:
    """One node for each detector, by its name, and one for each task, by faces and number."""
    detectors = {model: _detector(model) for model in dict.fromkeys(faces.detection.model for faces in graph.faces)}
    tasks = {}
    for faces in graph.faces:
        clips = graph.clips(faces.dataset)
        if clips is not None:
            refuse_missing_files(graph, faces, clips)
            for number, rows in enumerate(task_rows(len(clips), faces.shards.clips_per_shard)):
                tasks[faces, number] = _task(graph, faces, number, rows, detectors[faces.detection.model])
    return {**detectors, **tasks}


def _detector(model: str) -> Node:
    return Node("align", "fetch-detector", fetch_detector, {"model": model}, value=lambda: detector_sha256(model))


def _task(graph: Graph, faces: Faces, number: int, rows: range, detector: Node) -> Node:
    title, size = graph.title(faces), faces.shards.clips_per_shard

    def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
        clips = graph.clips(faces.dataset)
        assert clips is not None
        if inputs["detector"] is None:
            graph.unknown[faces.dataset] = f"the detector {faces.detection.model} is not here"
        for shard, part in enumerate(split_into_shards(clips.iloc[rows.start : rows.stop], size), rows.start // size):
            # the ingest stage's output need not exist: the key is made of the rows alone
            key = align_cache_key(faces, part, inputs["detector"]) if inputs["detector"] is not None else None
            yield ExpectedOutput("align", f"align {title} {shard}", key, faces.dataset, len(part), faces=faces)

    return Node(
        "align",
        f"align {title} {number}",
        align_shards,
        {"faces": faces, "title": title, "rows": rows},
        {"ingested": graph["ingest"][faces.dataset], "detector": detector},
        expect,
        needs_run=True,
        remote=True,
        progress=(f"align {title}", "clips aligned", len(rows)),
    )


def index_nodes(graph: Graph) -> dict[Faces, Node]:
    """One node for each data set and its settings."""

    def node(faces: Faces) -> Node:
        title = graph.title(faces)
        tasks = [node for key, node in graph["align"].items() if isinstance(key, tuple) and key[0] == faces]

        def expect(inputs: Inputs) -> Iterator[ExpectedOutput]:
            clips = graph.clips(faces.dataset)
            shards = [shard for part in inputs["parts"] or [] for shard in part or [None]]
            key = index_cache_key(faces.dataset, shards) if clips is not None and None not in shards else None
            count = len(clips) if clips is not None else 0
            yield ExpectedOutput("index", f"index {title}", key, faces.dataset, count, faces=faces)

        arguments = {"faces": faces, "title": title}
        return Node("index", f"index {title}", index_shards, arguments, {"parts": tasks}, expect)

    return {faces: node(faces) for faces in graph.faces}


def _needs_faces(pipeline: Pipeline) -> bool:
    # what is only counted, as votes are, needs no faces
    return any(experiment.trains for experiment in pipeline.experiments)


STAGE = Stage("align", nodes, _needs_faces)
INDEX = Stage("index", index_nodes, _needs_faces)


def refuse_missing_files(graph: Graph, faces: Faces, clips: pd.DataFrame) -> None:
    """Stop before any face is looked for where too many clips have no file.

    Raises:
        MissingFilesError: more clips are listed without a file than `shards.max_failed_share` allows to fail.
    """
    missing, allowed = int((clips["source_size"] < 0).sum()), faces.shards.max_failed_share
    if missing > allowed * len(clips):
        error = MissingFilesError(
            f"{faces.dataset}: the files of {missing} of {len(clips)} clips are missing, more than the {allowed:.0%} "
            f"that shards.max_failed_share allows. Fetch them, or list the findings with: "
            f"dfer config check {graph.pipeline.name}"
        )
        graph.tolerate(error, faces.dataset)


@task(
    name="fetch-detector",
    task_run_name="fetch-detector",
    cache_policy=NO_CACHE,
    on_failure=[note_stage],
    **WHERE_IT_CAN_PASS,
)
def fetch_detector(pipeline: Pipeline, model: str) -> str:
    """Make sure that the detector's file is here; its SHA-256."""
    return sha256(detector_file(model))


@task(name="align", cache_policy=NO_CACHE, on_failure=[note_stage])
def align_shards(
    pipeline: Pipeline,
    faces: Faces,
    title: str,
    rows: range,
    ingested: StageResult,
    detector: str,
    run: RunResources | None = None,
) -> list[StageResult]:
    """Detect, track and align the faces of some clips, one shard after another.

    Args:
        pipeline, faces, title: where the output goes, whose faces, and the title of their bar.
        rows, ingested: whole shards of the clip table.
        detector: SHA-256 of the detector's file.
        run: where processes that align are kept; None aligns in this very process.
    """
    clips = table.read_rows(ingested.output.file(CLIPS), rows, SOURCE_COLUMNS)

    def shard(clips: pd.DataFrame) -> StageResult:
        slot = run.slots.aligning() if run else None

        def work(folder: Path) -> dict[str, int]:
            root = root_of(pipeline, faces.dataset)
            arguments = {
                "clips": [(name, root / at) for name, at in zip(clips["clip_id"], clips["source"], strict=True)],
                "folder": folder,
                "settings": faces.settings,
            }
            return _align(run, slot, arguments, f"align {title}", len(clips))

        key = align_cache_key(faces, clips, detector)
        result = ensure(pipeline, key, work, slot=lambda: slot or nullcontext())
        if run and not result.executed:
            run.progress.cached(f"align {title}", len(clips))
        return result

    return task_result([shard(part) for part in split_into_shards(clips, faces.shards.clips_per_shard)])


def _align(
    run: RunResources | None, slot: GpuSlot | None, arguments: dict[str, Any], bar: str, number: int
) -> dict[str, int]:
    """The shard's counts, from a process that is kept or from this one."""
    if run is None or slot is None:
        os.environ.update(for_one_aligner(arguments["settings"].detection.provider))
        return align_in_process(send=_ignore, **arguments)

    def attempt(crashed: Mapping[str, str], on_message: Callable[[str], None]) -> dict[str, int]:
        with slot.workers.one() as process:
            return process.call(align_in_process, on_message=on_message, crashed=crashed, **arguments)

    with run.progress.bar(bar, "clips aligned", share=number) as advance:
        return without_crashing_clips(attempt, (name for name, _ in arguments["clips"]), advance)


def _ignore(_: str) -> None:
    """Where several processes align, the flow's own counts the clips of a task when it ends."""


@task(name="index", cache_policy=NO_CACHE, on_failure=[note_stage])
def index_shards(pipeline: Pipeline, faces: Faces, title: str, parts: list[list[StageResult]]) -> StageResult:
    """One index over all shards of a data set: a row for every clip of the clip table, whatever became of it.

    Raises:
        TooManyFailedError: more clips failed than `shards.max_failed_share` allows.
    """
    stages = store_of(pipeline).root
    shards = [result.output for part in parts for result in part]

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

    result = ensure(pipeline, index_cache_key(faces.dataset, shards), work)
    counts = result.output.counts
    _show_counts(faces.dataset, counts)
    failed, allowed = counts["given"] - counts["ok"], faces.shards.max_failed_share
    if failed > allowed * counts["given"]:
        reasons = ", ".join(f"{n} {name.removeprefix('failed.')}" for name, n in counts.items() if "failed." in name)
        enough = min(1.0, failed / counts["given"] + 0.01)
        raise TooManyFailedError(
            f"{title}: {failed} of {counts['given']} clips have no usable face, more than the "
            f"{allowed:.0%} that shards.max_failed_share allows ({reasons}).\n"
            f"Every clip is listed with its reason in {result.output.path / index.FILE_NAME}.\n"
            f"Mend the data set, or allow more with --set shards.max_failed_share={enough:.2f}"
        )
    return task_result(result)


def _show_counts(dataset: str, counts: dict[str, int]) -> None:
    lines = [f"| {name} | {number} |" for name, number in counts.items()]
    create_markdown_artifact(
        "\n".join(["| clips | |", "|---|---:|", *lines]),
        key=artifact_key("index", dataset),
        description=f"What became of the clips of {dataset}",
    )


def aligned_clips(indexed: Output) -> set[str]:
    """The ids of the clips that have aligned faces, by a data set's index."""
    places = index.read_places(indexed.file(index.FILE_NAME))
    return set(places.loc[places["status"] == "ok", "clip_id"])

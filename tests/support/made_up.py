"""A configuration with small data sets, and stage outputs of it that nobody has computed."""

from __future__ import annotations

import uuid
from pathlib import Path

from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline
from dfer.storage.manifest import MANIFEST
from dfer.storage.store import Output
from tasks.inspection.dry_run import dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.stage import store_of
from tasks.tracking.client import client_of
from tasks.tracking.outbox import Delivered, TrackedRun
from tasks.tracking.runs import outbox_of

CONFIG = """
work_dir: work
datasets:
  a: {layout: afew, root: data/a}
  b: {layout: afew, root: data/b}
shards: {clips_per_shard: 2}
model: {pretrained: null}
arms:
  hard: {labels: hard}
  midas: {labels: hard, mixing: midas, normalize: softmax}
pipelines:
  on-a: {description: A and across to B, dataset: a, cross_datasets: [b], arms: [hard]}
  on-b: {description: B alone, dataset: b, arms: [hard, midas]}
"""

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def write_config(folder: Path) -> Path:
    """The configuration and its data sets: 14 clips each, in the layout of AFEW, no file with a video in it."""
    for name in ("a", "b"):
        for split in ("Train_AFEW", "Val_AFEW"):
            for emotion in EMOTIONS:
                clip = folder / "data" / name / split / emotion / f"{name}{split}{emotion}.avi"
                clip.parent.mkdir(parents=True)
                clip.write_bytes(b"x")
    config = folder / "pipeline_config.yaml"
    config.write_text(CONFIG)
    return config


def make(config: Path, name: str, *overrides: str, runs: bool = False) -> dict[str, list[Output]]:
    """Every output of a pipeline by stage, with made-up content. With `runs` the trainings are runs in MLflow, too."""
    pipeline = load_pipeline(name, config, overrides)
    store = store_of(pipeline)
    made: dict[str, list[Output]] = {}

    def visit(step: ExpectedOutput) -> Output | None:
        def work(folder: Path) -> dict[str, int]:
            (folder / "data").write_text(step.title)
            if step.stage == "train":
                _track(pipeline, step.title, runs).write(folder)
            return {"given": step.clips, "ok": step.clips, "clips": step.clips, "epochs": 1}

        assert step.cache_key is not None
        output = store.ensure(step.cache_key, work).output
        made.setdefault(step.stage, []).append(output)
        return output

    dry_run(pipeline, visit)
    return made


def _track(pipeline: Pipeline, title: str, runs: bool) -> TrackedRun:
    uri = pipeline.tracking_uri
    run = outbox_of(pipeline).create(
        uuid.uuid4().hex, uri=uri, experiment="made up", location=None, name=title, parent=None, tags={}
    )
    if runs:
        there = client_of(uri).create_run("0", run_name=title)
        run.note_delivered(Delivered(run_id=there.info.run_id, experiment_id="0"))
    return run


def everything(folder: Path) -> dict[str, int]:
    """Every file below a folder and when it was last written; lock files aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def break_manifest(output: Output) -> None:
    (output.path / MANIFEST).write_text("{")

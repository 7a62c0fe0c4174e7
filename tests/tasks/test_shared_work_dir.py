"""What machines that share a work directory have to agree on, and what not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline
from dfer.datasets.report import IngestReport
from tasks import ingest

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return load_pipeline("demo", CONFIG, [f"work_dir={tmp_path}"])


def test_a_clip_table_is_the_same_wherever_a_machine_has_the_data_set(pipeline: Pipeline) -> None:
    clips = pd.DataFrame({"clip_id": ["1"], "source": ["1.mp4"], "source_size": [7], "source_mtime_ns": [1]})
    shared = replace(pipeline, work_url="s3://bucket/work")

    def recipe_hash(plan: Pipeline, root: str, counts: int = 1) -> str:
        report = IngestReport("demo-dfew", root, (), {"clips": counts})
        return ingest.cache_key(plan, "demo-dfew", clips, report, None).hash

    assert recipe_hash(shared, "/data/DFEW") == recipe_hash(shared, "/mnt/DFEW")
    assert recipe_hash(shared, "/data/DFEW") != recipe_hash(shared, "/data/DFEW", counts=2)


def test_files_of_a_data_set_are_looked_for_where_this_machine_has_them(pipeline: Pipeline, tmp_path: Path) -> None:
    given = pipeline.datasets["demo-dfew"].model_copy(update={"root": tmp_path / "DFEW", "generated": False})
    assert ingest.root_of(replace(pipeline, datasets={"dfew": given}), "dfew") == tmp_path / "DFEW"
    with pytest.raises(FileNotFoundError, match="demo-dfew was generated and is gone"):
        ingest.root_of(pipeline, "demo-dfew")

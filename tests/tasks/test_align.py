"""How a data set's shards become task runs, and what determines a shard."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG

from dfer.config.experiments import Faces
from dfer.config.pipeline import Pipeline
from dfer.config.reading import read_config
from dfer.datasets import IngestReport
from dfer.datasets.table import ClipRow, from_rows
from dfer.storage.store import Output, StageResult
from tasks import align, ingest
from tasks.running.stage import task_result


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return next(pipeline for pipeline in read_config(CONFIG)[1] if pipeline.name == "dfew-fold1")


def faces(pipeline: Pipeline) -> Faces:
    return Faces.of("dfew", pipeline.settings)


def table(clips: int) -> pd.DataFrame:
    rows = (
        ClipRow(f"set/{n}", "set", f"a/{n}.mp4", (0, 1, 2, 3, 4, 0, n + 1), source_size=n, source_mtime_ns=10**18 + n)
        for n in range(clips)
    )
    return from_rows(rows)


@given(clips=st.integers(0, 2_000_000), size=st.integers(1, 500))
@settings(deadline=None)
def test_every_clip_is_in_one_task_and_no_shard_in_two(clips: int, size: int) -> None:
    parts = align.task_rows(clips, size)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])][: len(parts)]
    assert (parts[-1].stop if parts else 0) == clips
    assert all(part.start % size == 0 for part in parts)
    shards = -(-clips // size)
    assert len(parts) <= align.MOST_TASKS
    # as many as shards while these are few, and never so few that a task does twice the work that it would have to
    assert len(parts) == shards if shards <= align.MOST_TASKS else len(parts) > align.MOST_TASKS // 2


def test_a_part_s_shards_are_those_of_the_whole_table(pipeline: Pipeline) -> None:
    clips, size = table(50), 7
    whole = [
        align.align_cache_key(faces(pipeline), shard, "detector").hash for shard in align.split_into_shards(clips, size)
    ]
    parts = [clips.iloc[rows.start : rows.stop] for rows in (range(21), range(21, 42), range(42, 50))]
    alone = [
        align.align_cache_key(faces(pipeline), shard[list(align.SOURCE_COLUMNS)], "detector").hash
        for part in parts
        for shard in align.split_into_shards(part, size)
    ]
    assert alone == whole


def test_a_shard_s_key_is_plain_json(pipeline: Pipeline) -> None:
    key = align.align_cache_key(faces(pipeline), table(2), "detector").key
    assert key["clips"] == [["set/0", "a/0.mp4", 0, 10**18], ["set/1", "a/1.mp4", 1, 10**18 + 1]]
    assert json.loads(json.dumps(key)) == key


@pytest.mark.parametrize("clips", [0, 1, 3, 4, 5, 9])
def test_a_table_has_the_same_digest_in_pieces(pipeline: Pipeline, clips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(clips)
    monkeypatch.setattr(ingest, "_ROWS_AT_A_TIME", 4)
    cache_key = ingest.cache_key(pipeline, "dfew", rows, IngestReport("dfew", "/", ()), None)
    assert cache_key.key["clips"] == hashlib.sha256(rows.to_json(orient="records").encode()).hexdigest()


def test_what_a_task_is_given_is_small(pipeline: Pipeline) -> None:
    ingested = StageResult(Output("ingest", "0" * 16, "1" * 32, "/work/ingest", {"clips": 10**6}), "", 0.0)
    arguments = (pipeline, faces(pipeline), "dfew", range(10**5, 2 * 10**5), ingested, "detector", None)
    assert len(pickle.dumps(arguments)) < 20_000


def made(why: str, stage: str = "align") -> StageResult:
    return StageResult(Output(stage, "0123456789abcdef", "1", str(Path("/work"))), why, 0.0)


def test_a_task_that_found_all_its_shards_is_cached() -> None:
    executed = [made(""), made("never run")]
    assert task_result(executed) is executed
    state = task_result([made(""), made("")])
    assert (state.name, state.message) == ("Cached", "align 01234567 and 1 more was there")
    assert task_result([made("")]).message == "align 01234567 was there"

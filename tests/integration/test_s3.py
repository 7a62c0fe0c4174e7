"""The demo pipeline with its work directory in an S3-compatible store: moto's server, as a process on loopback.

Several machines are several scratch folders: all that a machine has of its own lies below $DFER_CACHE.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import CONFIG, TINY

from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline
from dfer.evaluation import read_predictions
from dfer.faces.model_files import BUNDLED_MODEL, detector_file
from dfer.shards import open_shard
from dfer.storage import remote

ROOT = Path(__file__).parents[2]
SMALL = [*TINY, "pipelines.demo.arms=[midas]"]
SECRET = "test-secret-of-nobody"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

Done = dict[str, tuple[int, int]]
"""Stage -> how many of its outputs were made, and how many were there."""


@dataclass(frozen=True)
class Machines:
    """An S3 server with one bucket, and machines that use it."""

    log: Path
    folder: Path
    detector: Path

    def be(self, name: str) -> None:
        """From now on this process is on that machine, which has nothing but the detector at first."""
        cache = self.folder / name
        if not cache.exists():
            cache.mkdir()
            shutil.copy(self.detector, cache)
        os.environ["DFER_CACHE"] = str(cache)

    def scratch(self, name: str, prefix: str = "shared") -> Path:
        return self.folder / name / "remote" / "s3" / "bucket" / prefix

    def requests(self, since: int = 0) -> list[str]:
        """'GET /bucket/key' and so on, as the server has seen them; those after the first `since`."""
        return re.findall(r'"([A-Z]+ \S+) HTTP', self.log.read_text())[since:]

    def run(self, name: str, work: str | Path, *overrides: str) -> Done:
        """Run the demo on a machine."""
        from flows.midas import midas

        self.be(name)
        outcome = midas("demo", str(CONFIG), [*SMALL, f"work_dir={work}", *overrides])
        return {
            stage: (sum(one.executed for one in made), sum(not one.executed for one in made))
            for stage, made in outcome.stages.items()
        }


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    from prefect.testing.utilities import prefect_test_harness

    folder, detector = tmp_path_factory.mktemp("s3"), detector_file(BUNDLED_MODEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint, program = f"http://127.0.0.1:{port}", Path(sys.executable).with_name("moto_server")
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        with pytest.MonkeyPatch.context() as patch, prefect_test_harness(server_startup_timeout=300):
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("DFER_CACHE", str(folder))
            remote._filesystem.cache_clear()
            make_bucket(f"{endpoint}/bucket")
            yield Machines(folder / "server.log", folder, detector)
    finally:
        remote._filesystem.cache_clear()
        server.terminate()
        server.wait(30)


def make_bucket(url: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no server at {url}")


@pytest.fixture(scope="module")
def local(machines: Machines) -> Path:
    """The same pipeline with a work directory on a disk."""
    work = machines.folder / "local-work"
    machines.run("local", work)
    return work


@pytest.fixture(scope="module")
def shared(machines: Machines) -> Done:
    """What machine a did when it ran the pipeline with a work directory in the store."""
    return machines.run("a", "s3://bucket/shared")


Scores = dict[str, tuple[Any, pd.DataFrame]]


def scores(work: Path, *, seed: int = 0) -> Scores:
    """Metrics and predictions of the evaluations of one seed, by data set."""
    found = {}
    for path in work.glob("stages/evaluate/*/manifest.json"):
        manifest = json.loads(path.read_text())
        model = work / "stages" / "train" / manifest["made_from"][0]["hash"]
        if json.loads((model / "manifest.json").read_text())["key"]["train"]["seed"] == seed:
            metrics = json.loads((path.parent / "metrics.json").read_text())
            found[manifest["key"]["dataset"]] = metrics, read_predictions(path.parent / "predictions.parquet")
    return found


def assert_same(found: Scores, expected: Scores) -> None:
    assert found.keys() == expected.keys()
    assert len(found) == 2
    for dataset, (metrics, predictions) in expected.items():
        assert found[dataset][0] == metrics
        np.testing.assert_array_equal(np.stack(found[dataset][1]["logits"]), np.stack(predictions["logits"]))
        pd.testing.assert_frame_equal(found[dataset][1], predictions)


def table(work: Path) -> str:
    return (work / "reports" / "demo" / "results.csv").read_text()


def test_a_run_in_the_store_equals_one_on_disk(machines: Machines, local: Path, shared: Done) -> None:
    assert {there for _, there in shared.values()} == {0}
    here = machines.scratch("a")
    assert_same(scores(here), scores(local))
    assert table(here) == table(local)
    asked = machines.requests()
    assert "PUT /bucket/shared/reports/demo/report.html" in asked
    assert any(re.match(r"PUT /bucket/shared/mlflow/artifacts/demo/\S+/model\.safetensors", line) for line in asked)
    assert not any("mlflow.db" in line for line in asked)


def test_another_machine_has_nothing_to_do(machines: Machines, shared: Done) -> None:
    before = len(machines.requests())
    done = machines.run("b", "s3://bucket/shared")
    assert done == {stage: (0, made) for stage, (made, _) in shared.items()}
    assert not [line for line in machines.requests(before) if line.startswith("PUT /bucket/shared/stages/")]
    assert table(machines.scratch("b")) == table(machines.scratch("a"))


def test_another_machine_trains_on_shards_that_stay_where_they_are(
    machines: Machines, local: Path, shared: Done
) -> None:
    before = len(machines.requests())
    done = machines.run("c", "s3://bucket/shared", "train.seed=1")
    assert done["align"][0] == done["index"][0] == 0
    assert done["train"] == (1, 0)
    read = re.compile(r"GET /bucket/shared/stages/align/\w+/\w+/clips\.parquet")
    assert any(read.fullmatch(line) for line in machines.requests(before))
    assert not list(machines.scratch("c").rglob("stages/align/**/clips.parquet"))
    machines.run("local", local, "train.seed=1")
    assert_same(scores(machines.scratch("c"), seed=1), scores(local, seed=1))


def test_of_a_clip_no_more_than_its_bytes_is_sent(
    machines: Machines, shared: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    sent: list[int] = []
    fetch = s3fs.core._fetch_range

    def counted(*arguments: object, **options: object) -> bytes:
        content: bytes = fetch(*arguments, **options)
        sent.append(len(content))
        return content

    monkeypatch.setattr(s3fs.core, "_fetch_range", counted)
    machines.be("d")
    root = "s3://bucket/shared/stages/align"
    sizes = {name: said["size"] for name, said in remote.listing(root).items() if name.endswith("clips.parquet")}
    name = max(sizes, key=lambda name: sizes[name])
    shard = open_shard(f"{root}/{name.rpartition('/')[0]}")
    assert len(shard) > 0
    assert 0 < sum(sent) <= 2**16 + 2**14  # Parquet's footer is looked for in the last 64 KiB
    sent.clear()
    assert len(shard.frames(len(shard) // 2, [0])) == 1
    assert len(sent) == 1
    assert 0 < sent[0] < 2 * sizes[name] / len(shard)


@pytest.mark.slow
def test_killed_half_way_another_machine_goes_on(machines: Machines, local: Path) -> None:
    def committed() -> list[str]:
        manifest = re.compile(r"PUT /bucket/killed/stages/align/\w+/manifest-0001\.json")
        return [line for line in machines.requests() if manifest.fullmatch(line)]

    overrides = [word for value in (*SMALL, "work_dir=s3://bucket/killed") for word in ("--set", value)]
    code = "from dfer.cli import main; main()"
    machines.be("e")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "demo", *overrides], cwd=ROOT, start_new_session=True
    )
    while not committed():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = len(committed())
    done = machines.run("f", "s3://bucket/killed")
    assert done["demo-data"] == (0, 2)
    assert done["align"][1] >= there
    assert len(committed()) == sum(done["align"])  # each was written once
    assert_same(scores(machines.scratch("f", "killed")), scores(local))


def test_a_bucket_that_is_not_there_is_named_before_anything_starts(machines: Machines) -> None:
    machines.be("g")
    with pytest.raises(ConfigError, match="s3://no-such-bucket/work: The specified bucket does not exist"):
        load_pipeline("demo", CONFIG, ["work_dir=s3://no-such-bucket/work"])


def test_a_server_that_does_not_answer_is_named(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.be("g")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    remote._filesystem.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ConfigError, match=r"s3://bucket/work: .*Could not connect to the endpoint"):
            load_pipeline("demo", CONFIG, ["work_dir=s3://bucket/work"])
    finally:
        remote._filesystem.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()


def test_the_secret_is_in_no_file(machines: Machines, shared: Done) -> None:
    looked_at = [path for path in machines.folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert looked_at
    assert not [path for path in looked_at if SECRET.encode() in path.read_bytes()]

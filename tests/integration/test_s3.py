"""The demo pipeline with its work directory in an S3-compatible store: moto's server, as a process on loopback."""

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
from tiny import TINY

from dfer.evaluation import read_predictions
from dfer.faces.model_files import BUNDLED_MODEL, detector_file

ROOT = Path(__file__).parents[2]
CODE = "from dfer.cli import main; main()"
# counts the bytes that range requests bring
ONE_CLIP = """
import s3fs
from dfer import remote
from dfer.shards import open_shard

sent, fetch = [], s3fs.core._fetch_range
def counted(*arguments, **options):
    sent.append(len(content := fetch(*arguments, **options)))
    return content
s3fs.core._fetch_range = counted
root = "s3://bucket/shared/stages/align"
sizes = {name: said["size"] for name, said in remote.listing(root).items() if name.endswith("clips.parquet")}
name = max(sizes, key=sizes.get)
shard = open_shard(f"{root}/{name.rpartition('/')[0]}")
opening = sum(sent)
frames = shard.frames(len(shard) // 2, [0])
print(sizes[name], len(shard), opening, sum(sent) - opening, frames.shape[0])
"""
SMALL = [*TINY, "pipelines.demo.arms=[midas]"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]


@dataclass(frozen=True)
class Server:
    """An S3 server with one bucket, and what it was asked for."""

    endpoint: str
    log: Path
    folder: Path

    def environment(self, machine: str) -> dict[str, str]:
        """Of a machine with a scratch folder of its own, in which there is nothing but the detector."""
        cache = self.folder / machine
        if not cache.exists():
            cache.mkdir()
            shutil.copy(detector_file(BUNDLED_MODEL), cache)
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret-of-nobody",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DFER_CACHE": str(cache),
            "PREFECT_HOME": str(self.folder / "prefect"),
        }

    def requests(self, since: int = 0) -> list[str]:
        """'GET /bucket/key' and so on, those after the first `since`."""
        return re.findall(r'"([A-Z]+ \S+) HTTP', self.log.read_text())[since:]

    def start(self, *arguments: str, machine: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments],
            cwd=ROOT,
            env=self.environment(machine),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, work: str | Path, *overrides: str, machine: str) -> str:
        """What `dfer run demo` prints."""
        chosen = [word for value in (*SMALL, f"work_dir={work}", *overrides) for word in ("--set", value)]
        process = self.start("run", "demo", *chosen, machine=machine)
        said = process.communicate(timeout=1500)[0]
        assert process.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("moto_server")
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT"), timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield Server(endpoint, folder / "server.log", folder)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def local(server: Server) -> Path:
    """The same pipeline with a work directory on this machine's disk."""
    work = server.folder / "local"
    server.run(work, machine="local")
    return work


@pytest.fixture(scope="module")
def shared(server: Server) -> str:
    """A work directory in the store, into which machine a has run the pipeline. Returns what that said."""
    return server.run("s3://bucket/shared", machine="a")


def scratch(server: Server, machine: str, prefix: str = "shared") -> Path:
    return server.folder / machine / "remote" / "s3" / "bucket" / prefix


def executed(said: str) -> dict[str, tuple[int, int]]:
    """Stage -> how many were run, and how many were there."""
    rows = re.findall(r"^(demo-data|ingest|align|index|train|evaluate|report) +(\d+) +(\d+)", said, re.MULTILINE)
    return {stage: (int(run), int(there)) for stage, run, there in rows}


def scores(work: Path, *, seed: int = 0) -> dict[str, tuple[Any, pd.DataFrame]]:
    """Metrics and predictions of the evaluations of one seed, by data set."""
    found = {}
    for manifest in work.glob("stages/evaluate/*/manifest.json"):
        key = json.loads(manifest.read_text())
        model = work / "stages" / "train" / key["made_from"][0]["hash"]
        if json.loads((model / "manifest.json").read_text())["key"]["train"]["seed"] == seed:
            folder = manifest.parent
            metrics = json.loads((folder / "metrics.json").read_text())
            found[key["key"]["dataset"]] = metrics, read_predictions(folder / "predictions.parquet")
    return found


def assert_same(found: dict[str, tuple[Any, pd.DataFrame]], expected: dict[str, tuple[Any, pd.DataFrame]]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) == 2
    for dataset, (metrics, predictions) in expected.items():
        assert found[dataset][0] == metrics
        np.testing.assert_array_equal(np.stack(found[dataset][1]["logits"]), np.stack(predictions["logits"]))
        pd.testing.assert_frame_equal(found[dataset][1], predictions)


def table(work: Path) -> str:
    return (work / "reports" / "demo" / "results.csv").read_text()


def test_a_run_in_the_store_equals_one_on_disk(server: Server, local: Path, shared: str) -> None:
    assert {there for _, there in executed(shared).values()} == {0}
    here = scratch(server, "a")
    assert_same(scores(here), scores(local))
    assert table(here) == table(local)
    asked = server.requests()
    assert any(re.fullmatch(r"PUT /bucket/shared/reports/demo/report\.html", line) for line in asked)
    assert any(re.match(r"PUT /bucket/shared/mlflow/artifacts/demo/\S+/model\.safetensors", line) for line in asked)
    assert not any("mlflow.db" in line for line in asked)
    # a secret is in no file that was made
    for path in server.folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".yaml", ".log", ".html", ".db"):
            assert b"test-secret-of-nobody" not in path.read_bytes(), path


def test_another_machine_has_nothing_to_do(server: Server, shared: str) -> None:
    before = len(server.requests())
    done = executed(server.run("s3://bucket/shared", machine="b"))
    assert {run for run, _ in done.values()} == {0}
    assert {stage: there for stage, (_, there) in done.items()} == {
        stage: run for stage, (run, _) in executed(shared).items()
    }
    assert not [line for line in server.requests(before) if line.startswith("PUT /bucket/shared/stages/")]
    assert table(scratch(server, "b")) == table(scratch(server, "a"))


def test_another_machine_trains_on_shards_that_stay_where_they_are(server: Server, local: Path, shared: str) -> None:
    before = len(server.requests())
    done = executed(server.run("s3://bucket/shared", "train.seed=1", machine="c"))
    assert done["align"][0] == done["index"][0] == 0
    assert done["train"] == (1, 0)
    server.run(local, "train.seed=1", machine="local")
    assert_same(scores(scratch(server, "c"), seed=1), scores(local, seed=1))
    read = [line for line in server.requests(before) if re.match(r"GET /bucket/shared/stages/align/.*clips\.", line)]
    assert read
    assert not list(scratch(server, "c").glob("stages/align/*/clips.parquet"))


def test_of_a_clip_no_more_than_its_bytes_is_sent(server: Server, shared: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_CLIP],
        cwd=ROOT,
        env=server.environment("d"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    size, clips, opening, clip, frames = map(int, done.stdout.split())
    assert frames == 1
    assert 0 < opening <= 2**16 + 2**14  # Parquet's footer is looked for in the last 64 KiB
    assert 0 < clip < 2 * size / clips


def test_killed_half_way_another_machine_goes_on(server: Server, local: Path) -> None:
    chosen = [word for value in (*SMALL, "work_dir=s3://bucket/killed") for word in ("--set", value)]
    process = server.start("run", "demo", *chosen, machine="e")

    def committed() -> list[str]:
        manifest = re.compile(r"PUT /bucket/killed/stages/align/\w+/manifest-0001\.json")
        return [line for line in server.requests() if manifest.fullmatch(line)]

    while not committed():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    there = len(committed())
    done = executed(server.run("s3://bucket/killed", machine="f"))
    assert done["demo-data"] == (0, 1)
    assert done["align"][1] >= there
    assert len(committed()) == sum(done["align"])  # each was written once
    assert_same(scores(scratch(server, "f", "killed")), scores(local))


@pytest.mark.parametrize(
    ("url", "endpoint", "said"),
    [
        ("s3://no-such-bucket/work", None, "s3://no-such-bucket/work"),
        ("s3://bucket/work", "http://127.0.0.1:9", "Could not connect to the endpoint"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_anything_starts(
    server: Server, url: str, endpoint: str | None, said: str
) -> None:
    environment = server.environment("g")
    environment["AWS_ENDPOINT_URL"] = endpoint or server.endpoint
    for command in (["config", "check", "demo"], ["run", "demo"]):
        done = subprocess.run(
            [sys.executable, "-c", CODE, *command, "--set", f"work_dir={url}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "nothing was started" in done.stderr
        assert said in done.stderr
        assert "starting Prefect" not in done.stdout

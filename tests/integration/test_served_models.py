"""Registered models behind MLflow's own server, asked over HTTP: one with frames, one with an encoded video."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_network import Tracked
from small_model import portrait
from videos import write_video

import dfer
from benchmarks.services import free_port
from dfer.prediction.export import photographed
from dfer.prediction.models import SYNTHETIC, open_model
from dfer.prediction.recogniser import Recogniser
from tasks.tracking.registering import register

ROOT = Path(__file__).parents[2]
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    made = Tracked(tmp_path_factory.mktemp("served"))
    register(str(made.model), "faces", "champion", config=made.config)
    return made


@contextmanager
def served(tracked: Tracked, name: str, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a server of a registered model, which may still be starting, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # mlflow calls uvicorn by its name, as in an activated environment
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "MLFLOW_TRACKING_URI": tracked.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


@pytest.fixture(scope="module")
def servers(tracked: Tracked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both models' servers, started side by side."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(served(tracked, name, folder / f"{name}.log"))
            for name in ("faces", "faces-video")
        }
        until = time.monotonic() + 600
        for name, (address, process) in started.items():
            while not answers(address):
                running = process.poll() is None
                assert running and time.monotonic() < until, (folder / f"{name}.log").read_text()
                time.sleep(0.2)
        yield {name: address for name, (address, _) in started.items()}


def answers(address: str) -> bool:
    with suppress(OSError), DIRECT.open(f"{address}/ping", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def ask(address: str, question: dict[str, Any]) -> tuple[int, Any]:
    """The status and the answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", json.dumps(question).encode(), headers)
    try:
        with DIRECT.open(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_frames(servers: dict[str, str], tracked: Tracked) -> None:
    frames = photographed(2, 4, 32)
    status, answer = ask(servers["faces"], {"inputs": frames.tolist()})
    assert status == 200, answer
    expected = Recogniser(open_model(str(tracked.model)), device="cpu").probabilities(frames)
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-4)


def test_a_video(servers: dict[str, str], tracked: Tracked, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [portrait(number) for number in range(30)])
    encoded = base64.b64encode(video.read_bytes()).decode()
    question = {"dataframe_split": {"columns": ["video"], "data": [[encoded]]}, "params": {"window": 0.8}}
    status, answer = ask(servers["faces-video"], question)
    assert status == 200, answer
    expected = dfer.load(tracked.model, device="cpu").predict(video, window=0.8).table
    assert len(answer["predictions"]) == len(expected) > 0
    for said, row in zip(answer["predictions"], expected.to_dict(orient="records"), strict=True):
        assert said["warning"] == SYNTHETIC
        assert said["prediction"] == row["prediction"] and said["in_words"] == row["in_words"]
        numbers = [name for name in row if name.startswith("p_") or name in ("start", "end", "left", "top", "entropy")]
        np.testing.assert_allclose([said[name] for name in numbers], [row[name] for name in numbers], atol=1e-3)


def test_what_is_no_video_is_a_sentence(servers: dict[str, str]) -> None:
    encoded = base64.b64encode(b"no video at all").decode()
    question = {"dataframe_split": {"columns": ["video"], "data": [[encoded]]}}
    status, answer = ask(servers["faces-video"], question)
    assert status == 400
    assert "video 0: not_a_video" in answer["message"] and "/tmp" not in answer["message"]

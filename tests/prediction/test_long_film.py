"""A film of ten minutes: it takes no more memory than one of a minute, and a kill costs nothing but a little time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
from small_model import portrait
from videos import repeat, write_video

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    part = write_video(folder / "part.mp4", [portrait(number, width=640, height=360) for number in range(150)])
    return repeat(part, folder / "minute.mp4", 10)


@pytest.fixture(scope="module")
def ten_minutes(minute: Path) -> Path:
    return repeat(minute, minute.with_name("ten.mp4"), 10)


def predict(film: Path, model: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = ["predict", str(film), "--model", str(model), "--out", str(out), "--device", "cpu", "--video"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", "from dfer.cli import main; main()", *arguments], env=environment)


def saved_views(out: Path) -> list[Path]:
    """What the network has said so far, in the folder of a prediction that is under way."""
    return list(out.glob("videos/.*.partial/state/views-*.npz"))


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """The most memory that any of a command's processes has held, in bytes; waits for its end."""
    most: dict[int, int] = {}
    while process.poll() is None:
        for one in psutil.Process(process.pid).children(recursive=True):
            try:
                status = Path(f"/proc/{one.pid}/status").read_text()
            except OSError:
                continue
            peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            most[one.pid] = int(peak[0]) * 1024 if peak else most.get(one.pid, 0)
        time.sleep(0.2)
    assert process.returncode == 0
    return max(most.values())


def test_memory_does_not_grow_and_a_kill_changes_nothing(
    minute: Path, ten_minutes: Path, model_folder: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    short = peak_memory(predict(minute, model_folder, tmp_path / "minute"))
    long = peak_memory(predict(ten_minutes, model_folder, tmp_path / "whole"))
    for name, value in {"minute, MiB": short / 2**20, "ten minutes, MiB": long / 2**20}.items():
        record_property(name, round(value))
    assert long < 1.1 * short

    process = predict(ten_minutes, model_folder, tmp_path / "killed")  # some 1,200 windows, 64 in a file
    while len(saved_views(tmp_path / "killed")) < 9 and process.poll() is None:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=30)  # they do not outlive it
    assert 9 <= len(saved_views(tmp_path / "killed")) < 18, "it ended before it could be killed"
    assert not (tmp_path / "killed" / "index.parquet").exists()
    assert predict(ten_minutes, model_folder, tmp_path / "killed").wait() == 0
    tables = [pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("whole", "killed")]
    assert len(tables[0]) > 1000
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    texts = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("whole", "killed")]
    assert texts[0] == texts[1]

"""Two processes of one training (gloo, on the CPU) against one."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from gloo_step import step_in_bfloat16
from safetensors.torch import load_file
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.system import gpus
from dfer.system.gpus import Gpu
from dfer.system.processes import run_together
from dfer.training import (
    CheckpointError,
    Plan,
    Resources,
    TrainingData,
    TrainingError,
    TrainResult,
    distributed,
    train,
)
from dfer.training.job import read_job
from dfer.training.world import World

SOFT = ArmSettings(labels="soft")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")
TIMES = {"seconds", "clips_per_second", "data_seconds", "data_wait"}


def run(toy: ToySet, folder: Path, arm: ArmSettings = SOFT, *, clips: int = 21, **options: Any) -> TrainResult:
    """Batches of 8, 8 and 5 clips: shares of 4 and 4, and in the last batch of 3 and 2."""
    chosen = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", "selection": "validation"}
    network = {"name": "smooth_network:Smooth", "dropout": 0.0}
    plan = Plan(
        arm=arm,
        model=ModelSettings(**{**network, **options.pop("model", {})}, pretrained=None, input_size=32),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(**{**chosen, "validation_share": 0.3, **options.pop("settings", {})}),
    )
    data = TrainingData(toy.clips[: clips + 9], toy.clips[30:41], toy.index, toy.root)
    return train(plan, data, folder, card={}, resources=Resources(threads=1), **options)


def close(first: TrainResult, second: TrainResult, tolerance: float) -> None:
    for one, other in zip(first.history, second.history, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - TIMES:
            assert one[name] == pytest.approx(other[name], rel=tolerance), name
    weights = [load_file(result.folder / "model.safetensors") for result in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=tolerance, atol=tolerance)


def test_two_processes_come_to_what_one_does(toy_set: ToySet, tmp_path: Path) -> None:
    """Losses, looks at other clips, the epoch's choice, running statistics and weights, with an uneven last batch."""
    one = run(toy_set, tmp_path / "one")
    assert one.summary["clips"]["training"] % 8 not in (0, 1)
    rows: list[dict] = []
    two = run(toy_set, tmp_path / "two", settings={"processes": 2}, on_epoch=rows.append)
    close(one, two, 1e-5)
    assert (two.epoch, two.summary["processes"], one.summary["processes"]) == (one.epoch, 2, 1)
    assert rows == two.history
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


@pytest.mark.parametrize("network", ["resnet18_tsm", "resnet18_gru"])
def test_a_process_without_clips_keeps_up_in_bfloat16(network: str, tmp_path: Path) -> None:
    """Of a last batch of three clips the second process has none."""
    assert [World(rank, 2).share(range(3)) for rank in (0, 1)] == [[0, 1, 2], []]
    jobs = [{"store": tmp_path / "store", "world": World(rank, 2), "network": network, "count": 3} for rank in (0, 1)]
    first, second = run_together(step_in_bfloat16, jobs, threads=1)
    assert first == second
    assert all(math.isfinite(number) for number in first)


def test_more_processes_than_gpus_is_an_error_with_the_command_for_several_machines(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "visible_gpus", lambda: [Gpu("0", 2**30)])
    with pytest.raises(ValueError, match=r"processes is 2, but 1 GPUs are visible.*\n  torchrun --nnodes .*/job\n"):
        run(toy_set, tmp_path, settings={"processes": 2, "device": "auto"})
    assert read_job(tmp_path / "job").plan.train.processes == 2


def test_a_process_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks another process how many there are: CUDA, once touched, would keep to the first."""
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    monkeypatch.setattr(gpus, "_memory_of_each", lambda visible: (2**30,) * 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("CUDA was touched"))
    seen = []
    for rank in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
        assert distributed._choose_device("auto", distributed.ProcessRank(World(3 + rank, 6), rank, 3)) == "cuda"
        seen.append(distributed.os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "5", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert distributed._choose_device("cpu", distributed.ProcessRank(World(0, 2), 0, 2)) == "cpu"
    with pytest.raises(ValueError, match="4 processes were started here, but 3 GPUs are visible"):
        distributed._choose_device("cuda", distributed.ProcessRank(World(0, 4), 0, 4))


def processes_of(parent: psutil.Process) -> list[psutil.Process]:
    """Those that do a part of a training; multiprocessing keeps one more beside them."""
    return [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


class Killed(Exception):
    pass


def kill(row: dict) -> None:
    if row["epoch"] == 2:
        raise Killed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_killed_processes_go_on_to_the_same_numbers(toy_set: ToySet, tmp_path: Path) -> None:
    """With pairs, lambdas and dropout of each, and the network of the paper."""
    network = {"name": "resnet18_tsm", "width": 0.125, "dropout": 0.5}
    settings = {"processes": 2, "optimizer": "adamw", "learning_rate": 1e-3, "micro_batches": 2}
    options: dict[str, Any] = {"arm": MIDAS, "model": network, "settings": settings}
    whole = run(toy_set, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(toy_set, tmp_path / "killed", on_epoch=kill, **options)
    assert not (tmp_path / "killed" / "model.json").exists()
    rows: list[dict] = []
    resumed = run(toy_set, tmp_path / "killed", on_epoch=rows.append, **options)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert numbers(resumed) == numbers(whole)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not processes_of(psutil.Process())
    with pytest.raises(CheckpointError, match=r"train\.processes was 2, is None"):
        run(toy_set, tmp_path / "killed", **{**options, "settings": {**settings, "processes": 1}})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_errors_of_any_process_arrive_as_what_they_are(toy_set: ToySet, tmp_path: Path) -> None:
    two = {"processes": 2}
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 4 GiB") as caught:
        run(toy_set, tmp_path / "cramped", model={"name": "smooth_network:Cramped"}, settings=two)
    assert "in the process of" in caught.value.__notes__[0]
    with pytest.raises(TrainingError, match=r"SIGKILL; .*out of memory; it was one of 2 that train together"):
        run(toy_set, tmp_path / "mortal", model={"name": "smooth_network:Mortal"}, settings=two)
    assert not processes_of(psutil.Process())
    halves = {**two, "micro_batches": 2}
    small = run(toy_set, tmp_path / "cramped", model={"name": "smooth_network:Cramped"}, settings=halves)
    assert small.summary["micro_batches"] == 2


def start(folder: Path, toy: ToySet, epochs: int) -> subprocess.Popen:
    """A program that trains with two processes."""
    tests = Path(__file__).parents[1]
    toy.clips.to_parquet(folder / "clips.parquet")
    toy.index.to_parquet(folder / "index.parquet")
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(tests / "support")!r}, {str(tests / "training")!r}]
import pandas as pd
from test_distributed import run
from toy_set import ToySet
if __name__ == "__main__":
    folder = Path({str(folder)!r})
    clips, index = (pd.read_parquet(folder / f"{{name}}.parquet") for name in ("clips", "index"))
    toy = ToySet(clips, index, Path({str(toy.root)!r}))
    run(toy, folder / "training", settings={{"processes": 2, "epochs": {epochs}}})
"""
    script = folder / "program.py"
    script.write_text(code)
    return subprocess.Popen([sys.executable, str(script)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_with_the_program_that_waits_for_them_no_process_stays_behind(toy_set: ToySet, tmp_path: Path) -> None:
    program = start(tmp_path, toy_set, epochs=100_000)
    checkpoint = tmp_path / "training" / "checkpoint.pt"
    try:
        while not checkpoint.exists():
            assert program.poll() is None
            time.sleep(0.1)
        processes = processes_of(psutil.Process(program.pid))
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    assert len(processes) == 2
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_does_the_same_from_the_job_and_a_run_afterwards_takes_it_as_done(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(toy_set, tmp_path / "here", settings={"processes": 2})
    with monkeypatch.context() as elsewhere, pytest.raises(ValueError, match="torchrun"):
        elsewhere.setattr(distributed, "_check_gpus", refuse)
        run(toy_set, tmp_path / "there", settings={"processes": 2})
    job = tmp_path / "there" / "job"
    paths = [str(folder) for folder in (Path.cwd(), Path(__file__).parents[1] / "support")]
    monkeypatch.setenv("PYTHONPATH", ":".join([*paths, *sys.path]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, "-m", "dfer.training.distributed", str(job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3: loss ") == 1
    monkeypatch.setattr(distributed, "_launch", refuse)
    rows: list[dict] = []
    there = run(toy_set, tmp_path / "there", settings={"processes": 2}, on_epoch=rows.append)
    assert numbers(there) == numbers(here)
    assert rows == there.history
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("here", "there"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not job.exists()


def refuse(*_: Any) -> None:
    raise ValueError("to be started by torchrun")


def numbers(result: TrainResult) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in result.history]

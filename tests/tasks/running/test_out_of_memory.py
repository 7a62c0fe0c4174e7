"""A training without room is tried again in smaller parts, and nothing else is."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.system.processes import run_isolated
from dfer.training import Plan, Resources, TrainingData, TrainResult, run, train
from dfer.training.cache import CacheChoice, FrameCache
from dfer.training.gpu_memory import noting_what_could_go
from tasks.running.out_of_memory import with_less_memory


class Training:
    """Has room for parts of so many clips, and with frames on the GPU for `beside` clips fewer."""

    def __init__(self, room: int, beside: int = 0) -> None:
        self.room, self.beside = room, beside
        self.tried: list[int] = []
        self.frames_on_gpu: list[bool] = []
        self.slept: list[float] = []

    def __call__(self, settings: TrainSettings, frames_on_gpu: bool) -> str:
        self.tried.append(settings.micro_batches)
        self.frames_on_gpu.append(frames_on_gpu)
        cached = frames_on_gpu and self.beside > 0
        clips = settings.batch_size / settings.processes / settings.micro_batches
        if clips > self.room - (self.beside if cached else 0):
            with noting_what_could_go(frames_on_gpu=cached, recorded=False):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")
        return "done"

    def run(self, folder: Path, **settings: Any) -> str:
        chosen = TrainSettings(**settings)
        return with_less_memory(self, chosen, folder, title="midas", sleep=self.slept.append)


def test_parts_are_halved_until_they_fit_with_a_longer_pause_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(room=2)
    with caplog.at_level(logging.WARNING):
        assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.slept) == ([1, 2, 4, 8], [5.0, 10.0, 20.0])
    assert (
        "midas: the GPU's memory ran out; going on from the checkpoint in 5 s with every batch in 2 parts"
        in caplog.text
    )
    assert "Tried to allocate 2.00 GiB" in caplog.text
    assert "GPU 0 has" not in caplog.text


def test_frames_leave_the_gpu_before_batches_are_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = Training(room=16, beside=4)
    with caplog.at_level(logging.WARNING):
        assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.frames_on_gpu) == ([1, 1], [True, False])
    assert "in 5 s with decoded frames in RAM instead of there" in caplog.text


def test_then_batches_are_cut_as_well(tmp_path: Path) -> None:
    training = Training(room=8, beside=4)
    assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.frames_on_gpu) == ([1, 1, 2], [True, False, False])


def test_a_recorded_step_is_given_up_before_batches_are_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tried: list[tuple[int, str, bool]] = []

    def train(settings: TrainSettings, frames_on_gpu: bool) -> str:
        tried.append((settings.micro_batches, settings.cuda_graph, frames_on_gpu))
        with noting_what_could_go(frames_on_gpu=frames_on_gpu, recorded=settings.cuda_graph == "auto"):
            if len(tried) < 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert with_less_memory(train, TrainSettings(), tmp_path, title="midas", sleep=lambda _: None) == "done"
    assert tried == [(1, "auto", True), (1, "auto", False), (1, "off", False), (2, "off", False)]
    assert "with no CUDA graph" in caplog.text


def test_a_graph_that_was_asked_for_by_name_is_not_given_up_quietly(tmp_path: Path) -> None:
    training = Training(room=2)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        training.run(tmp_path, batch_size=8, cuda_graph="on")
    assert training.tried == [1]
    assert "set it to 'auto'" in caught.value.__notes__[-1]


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",  # a context, pinned memory
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "FIND was unable to find an engine to execute this computation",
        "CUDA driver error: out of memory",
        "NCCL error in: ProcessGroupNCCL.cpp, unhandled cuda error\nCuda failure 2 'out of memory'",
    ],
)
def test_memory_that_torchs_allocator_does_not_hand_out(message: str, tmp_path: Path) -> None:
    tried: list[int] = []

    def train(settings: TrainSettings, frames_on_gpu: bool) -> str:
        tried.append(settings.micro_batches)
        if len(tried) == 1:
            raise RuntimeError(message)
        return "done"

    assert with_less_memory(train, TrainSettings(), tmp_path, title="midas", sleep=lambda _: None) == "done"
    assert tried == [1, 2]


def fails_with_frames(*, send: Any) -> None:
    with noting_what_could_go(frames_on_gpu=True, recorded=False):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_note_comes_through_from_the_trainings_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    seen: list[bool] = []

    def train(settings: TrainSettings, frames_on_gpu: bool) -> str:
        seen.append(frames_on_gpu)
        if frames_on_gpu:
            run_isolated(fails_with_frames)
        return "done"

    assert with_less_memory(train, TrainSettings(), tmp_path, title="midas", sleep=lambda _: None) == "done"
    assert seen == [True, False]


def test_a_trainings_own_frames_leave_a_gpu_that_is_full(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with the CPU in the place of a GPU that has no room for frames."""
    places: list[str] = []
    fill = FrameCache.fill

    def choose(asked: str, num_bytes: int, device: torch.device, resources: Resources) -> CacheChoice:
        places.append("device" if resources.frames_on_gpu else "host")
        return CacheChoice(places[-1], num_bytes, "")  # type: ignore[arg-type]

    def fill_what_fits(cache: FrameCache, clips: Any) -> None:
        if places[-1] == "device":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 60.00 GiB")
        fill(cache, clips)

    monkeypatch.setattr(run, "choose_cache", choose)
    monkeypatch.setattr(FrameCache, "fill", fill_what_fits)
    chosen = TrainSettings(epochs=2, batch_size=8, device="cpu")

    def training(settings: TrainSettings, frames_on_gpu: bool) -> TrainResult:
        model = ModelSettings(name="smooth_network:Smooth", pretrained=None, input_size=32)
        sampling = SamplingSettings(num_segments=4)
        plan = Plan(arm=ArmSettings(labels="soft"), model=model, sampling=sampling, train=settings)
        data = TrainingData(toy_set.clips[:30], toy_set.clips[30:41], toy_set.index, toy_set.root)
        resources = Resources(threads=1, frames_on_gpu=frames_on_gpu)
        return train(plan, data, tmp_path, card={}, resources=resources)

    result = with_less_memory(training, chosen, tmp_path, title="midas", sleep=lambda _: None)
    assert places == ["device", "host"]
    assert (result.summary["cache"]["where"], result.summary["micro_batches"]) == ("host", 1)


def test_what_fits_is_not_tried_twice(tmp_path: Path) -> None:
    training = Training(room=16)
    assert training.run(tmp_path, batch_size=16) == "done"
    assert (training.tried, training.slept) == ([1], [])


@pytest.mark.parametrize(
    ("settings", "tried"),
    [({"batch_size": 8}, [1, 2, 4]), ({"batch_size": 12}, [1, 2, 4, 6]), ({"batch_size": 8, "processes": 2}, [1, 2])],
)
def test_two_clips_a_part_is_the_least(tmp_path: Path, settings: dict, tried: list[int]) -> None:
    training = Training(room=1)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        training.run(tmp_path, **settings)
    assert training.tried == tried
    assert f"computed in {tried[-1]} parts" in caught.value.__notes__[-1]


def test_a_later_run_begins_with_the_parts_that_fitted(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps({"summary": {"micro_batches": 4}, "epochs": []}))
    training = Training(room=2)
    assert training.run(tmp_path, batch_size=8) == "done"
    assert training.tried == [4]


def test_every_other_failure_is_raised_at_once(tmp_path: Path) -> None:
    tried: list[int] = []

    def train(settings: TrainSettings, frames_on_gpu: bool) -> None:
        tried.append(settings.micro_batches)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        with_less_memory(train, TrainSettings(), tmp_path, title="midas", sleep=lambda _: None)
    assert tried == [1]


def train_with_one_gibibyte(*, toy: ToySet, settings: TrainSettings, folder: Path, send: Any) -> int:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    plan = Plan(
        arm=ArmSettings(labels="soft"),
        model=ModelSettings(width=1.0, pretrained=None, input_size=112),
        sampling=SamplingSettings(num_segments=8),
        train=settings,
    )
    data = TrainingData(toy.clips, toy.clips, toy.index, toy.root)
    result = train(plan, data, folder, card={}, resources=Resources(threads=1))
    return len(result.history)


@pytest.mark.gpu
def test_a_gpu_whose_memory_really_runs_out(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "support"), *sys.path]))
    settings = TrainSettings(epochs=2, batch_size=32, device="cuda", precision="float32", cache="none")

    def in_a_process(settings: TrainSettings, frames_on_gpu: bool) -> int:
        return run_isolated(train_with_one_gibibyte, toy=toy_set, settings=settings, folder=tmp_path)

    with caplog.at_level(logging.WARNING):
        assert with_less_memory(in_a_process, settings, tmp_path, title="soft", sleep=lambda _: None) == 2
    assert "the GPU's memory ran out" in caplog.text
    assert json.loads((tmp_path / "history.json").read_text())["summary"]["micro_batches"] > 1


def train_beside_frames(*, toy: ToySet, settings: TrainSettings, frames_on_gpu: bool, folder: Path, send: Any) -> dict:
    """In one GiB of a GPU, of which frames take all but 32 MiB where they are kept there."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    fill, beside = FrameCache.fill, []

    def fill_and_more(cache: FrameCache, clips: Any) -> None:
        fill(cache, clips)
        if cache.device.type == "cuda":
            beside.append(torch.empty(2**30 - 2**25, dtype=torch.uint8, device=cache.device))

    FrameCache.fill = fill_and_more  # type: ignore[method-assign]
    plan = Plan(
        arm=ArmSettings(labels="soft"),
        model=ModelSettings(width=0.5, pretrained=None, input_size=64),
        sampling=SamplingSettings(num_segments=8),
        train=settings,
    )
    data = TrainingData(toy.clips, toy.clips, toy.index, toy.root)
    resources = Resources(threads=1, frames_on_gpu=frames_on_gpu)
    return train(plan, data, folder, card={}, resources=resources).summary


@pytest.mark.gpu
def test_frames_leave_a_gpu_whose_memory_really_runs_out(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "support"), *sys.path]))
    tried: list[bool] = []

    def in_a_process(settings: TrainSettings, frames_on_gpu: bool) -> dict:
        tried.append(frames_on_gpu)
        return run_isolated(
            train_beside_frames, toy=toy_set, settings=settings, frames_on_gpu=frames_on_gpu, folder=tmp_path
        )

    chosen = TrainSettings(epochs=2, batch_size=4, device="cuda", precision="float32")
    summary = with_less_memory(in_a_process, chosen, tmp_path, title="soft", sleep=lambda _: None)
    assert tried == [True, False]
    assert (summary["cache"]["where"], summary["micro_batches"]) == ("host", 1)

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dfer.system import gpus
from dfer.system.gpus import Gpu, training_places, trainings_at_a_time, visible_gpus

GIB = 2**30


def with_gpus(monkeypatch: pytest.MonkeyPatch, *memory: int) -> None:
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    monkeypatch.setattr(gpus, "_memory_of_each", lambda visible: tuple(memory))


def names() -> list[str]:
    return [gpu.name for gpu in visible_gpus()]


def test_without_a_driver_there_is_no_gpu_and_no_process_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with_gpus(monkeypatch, GIB)
    assert visible_gpus() == [Gpu("0", GIB)]
    monkeypatch.setattr(gpus, "_has_driver", lambda: False)
    monkeypatch.setattr(gpus, "_memory_of_each", lambda visible: pytest.fail("looked"))
    assert visible_gpus() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_another_process_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It touches CUDA; this one must not, before it knows which GPU is its own."""
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("CUDA was touched"))
    gpus._memory_of_each.cache_clear()
    assert visible_gpus() == []


def test_a_torch_that_cannot_use_the_gpu_is_said_and_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    gpus._memory_of_each.cache_clear()
    assert visible_gpus() == []
    assert "torch cannot use a GPU here" in caplog.text
    gpus._memory_of_each.cache_clear()


def test_a_driver_is_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"libcuda.so.1"}

    def load(name: str) -> None:
        if name not in installed:
            raise OSError(name)

    monkeypatch.setattr(gpus.ctypes, "CDLL", load)
    assert gpus._has_driver()
    installed.clear()
    assert gpus._has_driver() is (Path("/dev/kfd").exists() or sys.platform != "linux")


def test_gpus_that_were_given_to_this_process_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, *[GIB] * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert names() == ["0", "1", "2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab, 5,7,2")
    assert names() == ["GPU-ab", "5", "7", "2"]
    # what follows a GPU that is not there is not there either
    with_gpus(monkeypatch, GIB, GIB)
    assert names() == ["GPU-ab", "5"]


@pytest.mark.parametrize(
    ("memory", "processes", "places"),
    [([80], 1, 2), ([80, 80], 1, 4), ([80, 24], 1, 2), ([24], 1, 1), ([80, 80], 2, 2), ([], 1, 0)],
)
def test_two_trainings_on_a_large_gpu(memory: list[int], processes: int, places: int) -> None:
    assert training_places([Gpu(str(number), size * GIB) for number, size in enumerate(memory)], processes) == places


def test_a_number_that_was_asked_for_counts() -> None:
    assert trainings_at_a_time(3, 1, 8) == 3
    assert trainings_at_a_time(0, 1, 8) == 8
    assert trainings_at_a_time(0, 4, 2) == 1

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dfer.system import gpus
from dfer.system.gpus import visible_gpus


def test_without_a_driver_there_is_no_gpu_and_torch_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(gpus, "_has_driver", lambda: False)
    assert visible_gpus() == []
    assert "torch" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert len(visible_gpus()) == 4


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
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1", "2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab, 5,7,2")
    assert visible_gpus() == ["GPU-ab", "5", "7", "2"]
    # what follows a GPU that is not there is not there either
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["GPU-ab", "5"]

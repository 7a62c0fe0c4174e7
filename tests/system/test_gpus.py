from __future__ import annotations

import pytest
import torch

from dfer.system.gpus import visible_gpus


def test_gpus_that_were_given_to_this_process_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1", "2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab, 5,7,2")
    assert visible_gpus() == ["GPU-ab", "5", "7", "2"]
    # what follows a GPU that is not there is not there either
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["GPU-ab", "5"]

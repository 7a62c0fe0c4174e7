from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dfer.system.memory import available_memory, keep_freed_memory, total_memory


def test_a_limit_of_a_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "1000000",
        "memory.current": "600000",
        "memory.stat": "anon 1\ninactive_file 50000\n",
    }.items():
        (tmp_path / name).write_text(text)
    names = ("memory.max", "memory.current")
    monkeypatch.setattr("dfer.system.memory._control_groups", lambda: [(tmp_path, names), (tmp_path / "no", names)])
    assert (available_memory(), total_memory()) == (450000, 1000000)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 450000
    assert total_memory() > 1000000


def test_memory_that_is_kept_can_still_be_used() -> None:
    assert isinstance(keep_freed_memory(), bool)
    assert float(torch.ones(40 * 2**20).sum()) == 40 * 2**20

"""The command `dfer` in this process."""

from __future__ import annotations

import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dfer import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dfer(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs the command with some arguments; its status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dfer", *arguments])
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    return run


@pytest.fixture
def crema_d(tmp_path) -> Path:
    """CREMA-D as it is without its videos: the real vote table alone."""
    votes = tmp_path / "CREMA-D" / "processedResults" / "tabulatedVotes.csv"
    votes.parent.mkdir(parents=True)
    votes.write_bytes(lzma.decompress((ROOT / "tests/data/crema-d/tabulatedVotes.csv.xz").read_bytes()))
    return tmp_path / "CREMA-D"

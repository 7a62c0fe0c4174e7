from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from dfer.system import garbage

CYCLE = """
import gc
from dfer.system import garbage
class Cycle:
    def __del__(self):
        print("collected", flush=True)
gc.disable()
{}
cycle = Cycle()
cycle.itself = cycle
del cycle
"""


def test_nothing_is_collected_while_libraries_load_and_they_are_left_alone_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), garbage.loading():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        assert gc.get_freeze_count() <= before  # nothing was loaded
        with garbage.loading():
            import colorsys  # noqa: F401
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(("call", "printed"), [("", "collected\n"), ("garbage.not_at_exit()", "")])
def test_nothing_is_collected_when_a_process_ends(call: str, printed: str) -> None:
    command = [sys.executable, "-c", CYCLE.format(call)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout == printed

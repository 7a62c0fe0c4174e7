from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

import pytest

from dfer.faces.crashes import without_crashing_clips
from dfer.system.processes import ProcessDiedError, Workers, run_isolated

CLIPS = ["a", "b", "c", "d", "e"]


def align(*, deadly: Mapping[str, int], crashed: Mapping[str, str], send: Callable[[str], None]) -> list[str]:
    """Aligns all clips but those that are known to crash, and dies of each deadly one."""
    aligned = []
    for clip in CLIPS:
        if clip not in crashed:
            if clip in deadly:
                os.kill(os.getpid(), deadly[clip])
            aligned.append(clip)
        send(clip)
    return aligned


def survive(deadly: Mapping[str, int]) -> tuple[list[str], int]:
    """What is aligned in the end, and how many clips were counted."""
    done: list[None] = []

    def attempt(crashed: Mapping[str, str], on_message: Callable[[str], None]) -> list[str]:
        return run_isolated(align, on_message=on_message, deadly=deadly, crashed=crashed)

    return without_crashing_clips(attempt, CLIPS, lambda: done.append(None)), len(done)


def test_each_clip_that_crashes_costs_itself_alone() -> None:
    assert survive({"b": signal.SIGSEGV, "e": signal.SIGABRT}) == (["a", "c", "d"], 5)


def test_a_process_that_is_killed_is_no_fault_of_a_clip() -> None:
    with pytest.raises(ProcessDiedError, match="SIGKILL"):
        survive({"b": signal.SIGKILL})


def test_what_was_left_out_is_named(caplog: pytest.LogCaptureFixture) -> None:
    workers, crashed_in_the_end = Workers(), {}

    def attempt(crashed: Mapping[str, str], on_message: Callable[[str], None]) -> None:
        crashed_in_the_end.update(crashed)
        with workers.one() as worker:
            worker.call(align, on_message=on_message, deadly={"c": signal.SIGBUS}, crashed=crashed)

    without_crashing_clips(attempt, CLIPS, lambda: None)
    workers.close()
    assert crashed_in_the_end.keys() == {"c"}
    assert "SIGBUS" in crashed_in_the_end["c"]
    assert "clip c crashes the process" in caplog.text


def test_a_crash_after_the_last_clip_is_an_error() -> None:
    def attempt(crashed: Mapping[str, str], on_message: Callable[[str], None]) -> None:
        for clip in CLIPS:
            on_message(clip)
        raise ProcessDiedError("at the end", signal.SIGSEGV)

    with pytest.raises(ProcessDiedError, match="at the end"):
        without_crashing_clips(attempt, CLIPS, lambda: None)

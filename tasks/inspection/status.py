"""How far a pipeline is: every output it asks for, and its last runs. Looks only: nothing is started or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config.pipeline import Pipeline
from dfer.storage.store import Output, OutputProgress, State
from dfer.system import logs
from tasks.inspection.dry_run import dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.run_log import FOLDER
from tasks.running.stage import store_of

_TAIL = 256 * 1024  # bytes of a log in which its end and the last lines about progress are looked for


@dataclass(frozen=True)
class OutputState:
    """One output of a stage and how far it is (see `OutputProgress`). `why` is for people, in one line."""

    stage: str
    title: str
    state: State
    why: str = ""


@dataclass(frozen=True)
class RunState:
    """A run, as its log tells it.

    Attributes:
        began: UTC, as in the log.
        how: 'running', 'finished', 'failed: ...', or 'interrupted' for one that ended without a word.
        progress: of a run that is under way, how far its long stages are.
    """

    name: str
    log: Path
    began: str
    how: str
    progress: tuple[str, ...] = ()


def outputs(pipeline: Pipeline) -> list[OutputState]:
    """Every output that the pipeline asks for, in the order of the stages."""
    store, visited = store_of(pipeline), list[tuple[ExpectedOutput, OutputProgress]]()

    def visit(expected: ExpectedOutput) -> Output | None:
        if expected.cache_key is None:
            visited.append((expected, OutputProgress("missing", "what it is made of is not there yet")))
            return None
        existing = store.find(expected.cache_key)
        if isinstance(existing, Output):
            visited.append((expected, _too_many_failed(expected, existing) or OutputProgress("done")))
            return existing
        visited.append((expected, store.progress(expected.cache_key)))
        return None

    broken = dry_run(pipeline, visit, tolerant=True).broken
    states = []
    for expected, progress in visited:
        if expected.stage == "ingest" and expected.dataset in broken:
            progress = OutputProgress("failed", broken[expected.dataset])
        states.append(OutputState(expected.stage, expected.title, progress.state, _first_line(progress.why)))
    return states


def runs(pipeline: Pipeline, number: int) -> list[RunState]:
    """The last runs of the pipeline, the newest first."""
    states: list[RunState] = []
    for path in logs.newest(pipeline.work_dir / FOLDER, logs.KEPT):
        if len(states) == number:
            break
        lines = logs.read(path, last=_TAIL)
        if not lines or not any(line.get("pipeline") == pipeline.name for line in lines[-10:]):
            continue
        began = _began(lines) or _began(logs.read(path)) or lines[0]
        states.append(_run(path, str(began["time"]), lines))
    return states


def _began(lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The line with which the run began, for the last time if it was retried."""
    return next((line for line in reversed(lines) if line.get("event") == "began"), None)


def _run(path: Path, began: str, lines: Sequence[dict[str, Any]]) -> RunState:
    if logs.is_written(path):
        newest = {str(line["progress"]): str(line["message"]) for line in lines if "progress" in line}
        ended = {str(line.get("task")) for line in lines if "seconds" in line}
        # many tasks align a data set, and its index comes after all of them
        ended |= {title.replace("index ", "align ", 1) for title in ended}
        going_on = [line for title, line in newest.items() if title not in ended]
        return RunState(path.stem, path, began, "running", tuple(going_on))
    events = [line for line in lines if "event" in line]
    ended_well = bool(events) and events[-1]["event"] == "ended"
    return RunState(path.stem, path, began, str(events[-1]["how"]) if ended_well else "interrupted")


def _too_many_failed(expected: ExpectedOutput, output: Output) -> OutputProgress | None:
    """An index can exist and stop its pipeline all the same."""
    if expected.stage != "index" or expected.faces is None:
        return None
    clips, allowed = output.counts["given"], expected.faces.shards.max_failed_share
    failed = clips - output.counts["ok"]
    if failed <= allowed * clips:
        return None
    return OutputProgress(
        "failed", f"{failed} of {clips} clips have no usable face, more than shards.max_failed_share allows"
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""

"""What a failed, crashed or cancelled run says: which stage, which clip, which log, and how to go on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import Flow, Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, TaskRun
from prefect.exceptions import MissingResult, UnfinishedRun
from prefect.logging.loggers import flow_run_logger
from prefect.states import State

from dfer.config.problems import ConfigError
from dfer.config.reading import DEFAULT_CONFIG, read_config
from dfer.system.passwords import mask_passwords
from tasks.running import run_log

_STAGE = "stage: "
# errors name clips as "clip DATASET/NAME"
_CLIP = re.compile(r"\bclip ([^\s/]+/[^\s,;:]+)")
_NOT_DONE = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED, StateType.RUNNING]


def note_stage(task: Task[..., Any], task_run: TaskRun, state: State) -> None:
    """Hook of every stage's task: its error says from then on where it came from."""
    if error := _error(state):
        note(error, task_run.name)


def note(error: BaseException, task: str) -> None:
    """Let an error say which task it came from, once."""
    if _STAGE + task not in getattr(error, "__notes__", ()):
        error.add_note(_STAGE + task)


def say_how_to_go_on(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Hook of the flow: an artifact on the run's page, lines in its log, and a note on its error for the terminal."""
    error, ways = _error(state), ways_on(flow_run)
    with get_client(sync_client=True) as client:
        stages = _stages_of(error) or [
            task.name
            for task in client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])),
                task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_NOT_DONE))),
            )
        ]
        said = mask_passwords(explained(state, error, stages, log_of(flow_run), ways))
        flow_run_logger(flow_run, flow).error("%s", said)
        client.create_artifact(
            ArtifactCreate(
                key="how-to-go-on",
                type="markdown",
                description=f"{flow_run.name}: what happened, and how to go on",
                data=said,
                flow_run_id=flow_run.id,
            )
        )
    if error:
        error.add_note("\n".join(["To go on, when the cause is mended:", *(f"  {way}" for way in ways)]))


def explained(state: State, error: BaseException | None, stages: Sequence[str], log: str, ways: Sequence[str]) -> str:
    """All there is to say of a run that did not finish, as Markdown that can be read as plain text, too."""
    lines = [f"**{state.name}**: {first_line(error) if error else state.message}", ""]
    lines += [f"- stage: {', '.join(stages) or 'none had begun'}"]
    if clip := clip_of(error):
        lines.append(f"- clip: {clip}")
    lines += [f"- log: {log}", "", "To go on, when the cause is mended, one of:", ""]
    return "\n".join([*lines, *(f"    {way}" for way in ways)])


def ways_on(run: FlowRun) -> list[str]:
    """The commands that go on where a run has stopped."""
    again = command({"since": run.created, **{k: v for k, v in run.parameters.items() if v is not None}})
    if run.deployment_id is None:
        return [again]
    # whoever reads this in a page is in no folder
    return [f"prefect flow-run retry {run.name}", f"cd {shlex.quote(str(Path.cwd()))} && {again}"]


def command(parameters: Mapping[str, Any]) -> str:
    """`dfer run` with the parameters of a flow run (those that were not given have their defaults), for a shell."""
    words = ["dfer", "run", str(parameters.get("pipeline", "demo"))]
    if (config := _config(parameters)) != DEFAULT_CONFIG:
        words += ["--config", str(config)]
    for option, values in (("--set", parameters.get("overrides", ())), ("--only", parameters.get("only", ()))):
        words += [word for value in values for word in (option, value)]
    if parameters.get("start_from"):
        words += ["--from", parameters["start_from"]]
        if since := parameters.get("since"):  # or all that was made again would be made once more
            moment = datetime.fromisoformat(since) if isinstance(since, str) else since
            words += ["--since", f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"]
    return shlex.join(words)


def clip_of(error: BaseException | None) -> str | None:
    """The clip that an error names, if it names one."""
    found = _CLIP.search(str(error)) if error else None
    return found.group(1) if found else None


def _error(state: State) -> BaseException | None:
    """The error that a state stands for, in the process in which it was raised; None elsewhere."""
    try:
        found = state.result(raise_on_failure=False)
    except (MissingResult, UnfinishedRun):
        return None
    return found if isinstance(found, BaseException) else None


def _stages_of(error: BaseException | None) -> list[str]:
    notes = getattr(error, "__notes__", [])
    return [note.removeprefix(_STAGE) for note in notes if note.startswith(_STAGE)]


def reason(state: State) -> str:
    """Why a task that has ended in this state, and not well, did so, in one line."""
    error = _error(state)
    return first_line(error) if error else str(state.message)


def first_line(error: BaseException) -> str:
    """Of what kind an error is, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _config(parameters: Mapping[str, Any]) -> Path:
    return Path(parameters.get("config", DEFAULT_CONFIG))


def log_of(run: FlowRun) -> str:
    """Where to read on: the run's own log under the work directory if there is one, and what Prefect keeps."""
    kept = f"`prefect flow-run logs {run.id}`"
    try:
        _, pipelines = read_config(_config(run.parameters), run.parameters.get("overrides", ()))
    except ConfigError:
        return kept
    name = run.parameters.get("pipeline", "demo")
    paths = [run_log.log_of(pipeline, run.name) for pipeline in pipelines if pipeline.name == name]
    return ", ".join([*(f"`{path}`" for path in paths if path.is_file()), kept])

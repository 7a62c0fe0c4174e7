"""What a run that stopped has to say."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import write_config
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import Cancelled, Cancelling, Crashed, Failed
from typer.testing import CliRunner

from dfer.config.reading import load_pipeline
from dfer.shards import ShardError
from dfer.storage.store import ForceRerun
from tasks.demo_data import make_demo_data
from tasks.running import run_log
from tasks.running.failures import clip_of, command, explained, log_of, note_stage, ways_on

PARAMETERS = {"pipeline": "demo", "config": "pipeline_config.yaml", "overrides": [], "only": [], "start_from": None}


def test_the_command_has_what_was_asked_for_and_nothing_else():
    assert command(PARAMETERS) == "dfer run demo"
    assert command({}) == "dfer run demo"
    everything = {
        "pipeline": "paper",
        "config": "my configs/paper.yaml",
        "overrides": ["train.epochs=2", "pipelines.paper.arms=[hard, midas]"],
        "only": ["table-5", "figure-6"],
        "start_from": "evaluate",
    }
    assert command(everything) == (
        "dfer run paper --config 'my configs/paper.yaml' --set train.epochs=2 "
        "--set 'pipelines.paper.arms=[hard, midas]' --only table-5 --only figure-6 --from evaluate"
    )


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]))))
def test_a_shell_reads_every_override_as_it_was(overrides):
    words = shlex.split(command({**PARAMETERS, "overrides": overrides}))
    assert words == ["dfer", "run", "demo", *(word for override in overrides for word in ("--set", override))]


def test_the_command_is_one_that_dfer_knows(monkeypatch):
    from dfer.cli.app import app

    monkeypatch.setattr("dfer.cli.run._print_forecast", lambda loaded, measure: None)
    words = shlex.split(command({**PARAMETERS, "overrides": ["mixing.alpha=0.2"], "start_from": "train"}))
    assert CliRunner().invoke(app, [*words[1:], "--plan"]).exit_code == 0


def test_what_was_made_again_is_not_made_again_by_the_command_of_the_failed_run(monkeypatch):
    from dfer.cli.app import app

    created = datetime(2026, 11, 22, 15, 57, 13, 400_000, tzinfo=UTC)
    run = FlowRun(name="amber-mole", flow_id=uuid4(), parameters={**PARAMETERS, "start_from": "train"}, created=created)
    (said,) = ways_on(run)
    assert said == "dfer run demo --from train --since 2026-11-22T15:57:13Z"
    seen = []
    monkeypatch.setattr("dfer.cli.run._print_forecast", lambda loaded, measure: seen.append(loaded.force_rerun))
    assert CliRunner().invoke(app, [*shlex.split(said)[1:], "--plan"]).exit_code == 0
    assert seen == [ForceRerun("train", int(created.timestamp()))]
    # and so does the one after that
    again = run.model_copy(update={"parameters": {**run.parameters, "since": "2026-11-22T15:57:13Z"}, "created": None})
    assert ways_on(again) == [said]


def test_since_goes_with_from():
    from dfer.cli.app import app

    assert CliRunner().invoke(app, ["run", "demo", "--since", "2026-11-22T15:57:13Z", "--plan"]).exit_code == 2


def test_the_log_is_asked_for_by_what_prefect_takes():
    """Its `logs` knows ids alone, where `retry` knows names."""
    run = FlowRun(name="amber-mole", flow_id=uuid4(), parameters={**PARAMETERS, "config": "nowhere.yaml"})
    assert log_of(run) == f"`prefect flow-run logs {run.id}`"


def test_the_log_of_a_run_whose_name_is_no_file_name(tmp_path):
    config = write_config(tmp_path)
    log = run_log.log_of(load_pipeline("on-a", config), "a run: of mine")
    log.parent.mkdir(parents=True)
    log.touch()
    parameters = {"pipeline": "on-a", "config": str(config)}
    run = FlowRun(name="a run: of mine", flow_id=uuid4(), parameters=parameters)
    assert log_of(run) == f"`{log}`, `prefect flow-run logs {run.id}`"


def test_only_a_deployment_has_a_retry():
    run = FlowRun(name="amber-mole", flow_id=uuid4(), parameters=PARAMETERS)
    assert ways_on(run) == ["dfer run demo"]
    deployed = run.model_copy(update={"deployment_id": uuid4()})
    retry, again = ways_on(deployed)
    assert retry == "prefect flow-run retry amber-mole"
    assert again.startswith("cd /") and again.endswith(" && dfer run demo")


@pytest.mark.parametrize(
    ("error", "clip"),
    [
        (ShardError("/work/clips.parquet: clip demo-dfew/00012 (row 3) cannot be read: truncated"), "demo-dfew/00012"),
        (ShardError("clip afew/Happy/001.avi has frames of 64x64 pixels"), "afew/Happy/001.avi"),
        (ValueError("none of 12 clips has aligned faces"), None),
        (None, None),
    ],
)
def test_the_clip_is_named_where_one_is_to_blame(error, clip):
    assert clip_of(error) == clip


def test_stage_clip_log_and_commands_are_said():
    error = ShardError("clip demo-dfew/00012 cannot be read\nand more lines")
    said = explained(Failed(), error, ["train midas fold 1"], "`work/logs/amber-mole.jsonl`", ["dfer run demo"])
    assert "**Failed**: ShardError: clip demo-dfew/00012 cannot be read\n" in said
    assert "- stage: train midas fold 1\n" in said
    assert "- clip: demo-dfew/00012\n" in said
    assert "- log: `work/logs/amber-mole.jsonl`\n" in said
    assert said.endswith("\n    dfer run demo")


def test_a_run_that_was_killed_has_no_error_to_show():
    said = explained(Crashed(message="Flow run process exited with status -9"), None, ["align dfew 3"], "x", ["y"])
    assert "**Crashed**: Flow run process exited with status -9\n" in said
    assert "clip" not in said


@pytest.mark.parametrize("state", [Cancelling(), Cancelled(), Crashed(), Failed()], ids=lambda state: state.name)
def test_hooks_live_with_states_that_hold_no_error(state):
    run = TaskRun(name="demo-data", task_key="demo-data", dynamic_key="0")
    note_stage(make_demo_data, run, state)


def test_an_error_says_from_then_on_which_stage_it_came_from():
    error = ValueError("no videos")
    run = TaskRun(name="train midas fold 1", task_key="train", dynamic_key="0")
    note_stage(make_demo_data, run, Failed(data=error))
    assert error.__notes__ == ["stage: train midas fold 1"]

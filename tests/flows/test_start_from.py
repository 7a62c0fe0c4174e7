"""A stage that is asked for again is run again, with exactly what depends on it, and once for each request."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline
from dfer.storage.store import ForceRerun
from tasks import stages
from tasks.stages import stages_of, starting_from

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"

pytestmark = pytest.mark.timeout(600)

# of the demo, which has no other folds than its own; for `split` see test_splits_and_lengths.py
STAGES = tuple(stage for stage in stages.STAGES if stage != "split")

AFTER = {
    "report": {"report": 1},
    "evaluate": {"evaluate": 2, "report": 1},
    "train": {"train": 1, "evaluate": 2, "report": 1},
    "index": {"index": 2, "train": 1, "evaluate": 2, "report": 1},
    "align": {"align": 4, "index": 2, "train": 1, "evaluate": 2, "report": 1},
    # faces do not depend on labels
    "ingest": {"ingest": 2, "train": 1, "evaluate": 2, "report": 1},
    # the videos are new files
    "demo-data": {"demo-data": 2, "ingest": 2, "align": 4, "index": 2, "train": 1, "evaluate": 2, "report": 1},
}
EARLY = [stage for stage in STAGES if stage not in ("evaluate", "report")]


def executed(outcome) -> dict[str, int]:
    return {stage: n for stage, made in outcome.stages.items() if (n := sum(m.executed for m in made))}


@pytest.fixture(scope="module")
def run(demo_of_module):
    """The demo with one arm and one epoch; what was executed."""
    from flows.midas import midas

    overrides = [*demo_of_module.overrides, "pipelines.demo.arms=[midas]", "train.epochs=1"]

    def run(start_from: str | None = None, **options: object) -> dict[str, int]:
        return executed(midas("demo", str(CONFIG), overrides, start_from=start_from, **options))

    run.parameters = {"pipeline": "demo", "config": str(CONFIG), "overrides": overrides}  # type: ignore[attr-defined]
    run()
    return run


def test_each_stage_has_its_case():
    assert set(AFTER) == set(STAGES)


# those that come early take the rest of the pipeline with them
@pytest.mark.parametrize("stage", ["report", "evaluate", *(pytest.param(s, marks=pytest.mark.slow) for s in EARLY)])
def test_the_stage_and_what_depends_on_it_run_again_and_nothing_else(run, stage):
    assert run(stage) == AFTER[stage]


def test_without_a_request_nothing_is_run_again(run):
    assert run() == {}


def test_a_retry_of_the_same_run_does_not_make_again_what_it_has_made_again(run):
    from flows.midas import midas

    parameters = {**run.parameters, "start_from": "evaluate"}
    with get_client(sync_client=True) as client:
        asked = client.create_flow_run(midas, parameters=parameters, state=Scheduled())
        first = executed(run_flow(midas, flow_run=asked, parameters=parameters))
        client.set_flow_run_state(asked.id, Scheduled(), force=True)
        retried = executed(run_flow(midas, flow_run=client.read_flow_run(asked.id), parameters=parameters))
    assert (first, retried) == (AFTER["evaluate"], {})


def test_a_pipeline_knows_its_stages(tmp_path):
    root = [f"datasets.{name}.root={tmp_path}" for name in ("dfew", "afew", "ferv39k")]
    assert stages_of(load_pipeline("demo", CONFIG)) == STAGES
    assert stages_of(load_pipeline("dfew-full", CONFIG, root)) == STAGES[1:]
    assert stages_of(load_pipeline("paper", CONFIG, root, only=["figure-4"])) == ("ingest", "report")


@pytest.mark.parametrize(("stage", "said"), [("evalute", "did you mean evaluate"), ("demo-data", "it has ingest")])
def test_a_stage_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path, stage, said):
    pipeline = load_pipeline("dfew-full", CONFIG, [f"datasets.{name}.root={tmp_path}" for name in ("dfew", "afew")])
    with pytest.raises(ConfigError, match=said) as raised:
        starting_from(pipeline, stage, since=0.0)
    assert all(name in str(raised.value) for name in STAGES[1:])


def test_the_request_is_not_part_of_what_ran():
    pipeline = load_pipeline("demo", CONFIG)
    again = starting_from(pipeline, "train", since=7.0)
    assert again.force_rerun == ForceRerun("train", 7.0)
    assert again.as_dict() == pipeline.as_dict()


def test_the_form_in_the_page_has_types_defaults_descriptions_and_choices():
    from flows.midas import midas

    form = midas.parameters.properties
    assert form["start_from"]["anyOf"][0]["enum"] == list(stages.STAGES)
    assert {name: entry["default"] for name, entry in form.items()} == {
        "pipeline": "demo",
        "config": "pipeline_config.yaml",
        "overrides": [],
        "only": [],
        "start_from": None,
        "since": None,
    }
    assert form["since"]["anyOf"][0]["format"] == "date-time"
    for name in ("overrides", "only"):
        assert (form[name]["type"], form[name]["items"]) == ("array", {"type": "string"})
    assert all(entry["description"] for entry in form.values())

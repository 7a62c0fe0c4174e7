"""The graph that the flow runs and that plan, status, forecast and clean visit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from made_up import make, write_config
from tiny import CONFIG, EXAMPLES

from dfer.config.pipeline import Pipeline
from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline, read_config
from dfer.storage.store import Output
from tasks import stages
from tasks.inspection.dry_run import dry_run
from tasks.inspection.forecast import forecast
from tasks.inspection.status import outputs
from tasks.running.graph import ExpectedOutput


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def expected_outputs(pipeline: Pipeline) -> list[ExpectedOutput]:
    """All outputs, as if every one existed."""
    visited: list[ExpectedOutput] = []

    def visit(expected: ExpectedOutput) -> Output:
        visited.append(expected)
        assert expected.cache_key is not None
        return Output(expected.stage, expected.cache_key.hash, "build", "/nowhere")

    dry_run(pipeline, visit)
    return visited


def test_every_stage_has_a_name_of_its_own_and_no_node_reads_a_later_one(config):
    assert len(set(stages.STAGES)) == len(stages.STAGES)
    pipeline = load_pipeline("on-a", config)
    tables = {expected.dataset: expected.table for expected in expected_outputs(pipeline) if expected.table is not None}
    before = set()
    for phase in stages.graph_of(pipeline, tables.get).phases():
        for node in phase:
            for nodes in node.inputs.values():
                read = nodes.values() if isinstance(nodes, dict) else nodes if isinstance(nodes, list) else [nodes]
                assert before.issuperset(read)
            before.add(node)


def test_two_alignments_of_a_data_set_stand_in_one_graph(config):
    pipeline = load_pipeline("on-a", config)
    home, across, *others = pipeline.experiments
    similarity = {
        name: settings.model_copy(
            update={"alignment": settings.alignment.model_copy(update={"transform": "similarity"})}
        )
        for name, settings in home.settings.items()
    }
    both = replace(pipeline, experiments=(home, across, replace(home, name="similar", settings=similarity), *others))
    usual, visited = expected_outputs(pipeline), expected_outputs(both)
    titles = [expected.title for expected in visited if expected.stage == "index"]
    assert titles == ["index a", "index a (alignment.transform=similarity)", "index b"]
    counts = Counter(expected.stage for expected in visited)
    assert (counts["align"], counts["train"], counts["evaluate"]) == (21, 2, 3)
    hashes = [expected.cache_key.hash for expected in visited]
    assert len(set(hashes)) == len(hashes)
    # the first alignment is what it is alone
    assert {e.cache_key.hash for e in usual if e.stage != "report"} < set(hashes)
    trained = [expected for expected in visited if expected.stage == "train"]
    assert len({expected.cache_key.inputs[1].hash for expected in trained}) == 2


def test_a_stage_that_is_asked_for_again(config):
    pipeline = load_pipeline("on-a", config)
    make(config, "on-a")
    again = stages.starting_from(pipeline, "train", since=4e9)
    assert {one.stage for one in outputs(again) if one.state != "done"} == {"train", "evaluate", "report"}
    with pytest.raises(ConfigError, match="did you mean train"):
        stages.starting_from(pipeline, "tran", since=0.0)


def test_a_pipeline_has_the_stages_that_it_needs(config, tmp_path):
    usual = tuple(stage for stage in stages.STAGES if stage != "split")
    assert stages.stages_of(load_pipeline("on-a", config)) == usual[1:]
    assert stages.stages_of(load_pipeline("demo", CONFIG)) == usual
    assert stages.stages_of(load_pipeline("leakage-demo", CONFIG)) == stages.STAGES
    root = [f"datasets.{name}.root={tmp_path}" for name in ("dfew", "afew", "ferv39k")]
    assert stages.stages_of(load_pipeline("paper", CONFIG, root, only=["figure-4"])) == ("ingest", "report")


def test_a_stage_of_ones_own_is_planned_like_the_others(config, monkeypatch):
    """What docs/examples/own_stage.py says is all it takes: its module, and a name in the phases."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_stage

    *phases, last = stages.PHASES
    monkeypatch.setattr(stages, "PHASES", (*phases, (own_stage.STAGE,), last))
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES[:-1], "count", "report"))
    pipeline = read_config(config)[1][0]
    assert stages.stages_of(pipeline)[-2:] == ("count", "report")
    make(config, "on-a")
    states = {one.title: one.state for one in outputs(pipeline)}
    assert states["count a"] == states["count b"] == "done"
    again = stages.starting_from(pipeline, "count", since=4e9)
    assert {one.stage for one in outputs(again) if one.state != "done"} == {"count"}
    assert forecast(again).stages["count"].to_run == 2

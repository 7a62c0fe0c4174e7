"""Tables and figures as experiments, on a few synthetic videos: what they share and say, what is not run again."""

from __future__ import annotations

import json
import re
from html import unescape

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tiny import CONFIG

from dfer.config.problems import InputError
from dfer.config.reading import load_pipeline
from dfer.evaluation import read_predictions

pytestmark = pytest.mark.timeout(600)

ONLY = ["table-4", "figure-5", "temporal", "test-fold"]


@pytest.fixture(scope="module")
def overrides(demo_of_module):
    small = [value for value in demo_of_module.overrides if not value.startswith("pipelines.")]
    return [*small, "pipelines.paper-demo.arms=[hard, midas]", "train.monitor_every=1"]


@pytest.fixture(scope="module")
def plan(overrides):
    return load_pipeline("paper-demo", CONFIG, overrides).only(ONLY)


@pytest.fixture(scope="module")
def before(plan):
    from tasks.inspection.forecast import forecast

    return forecast(plan)


@pytest.fixture(scope="module")
def paper(before, overrides):
    from flows.midas import midas

    return midas("paper-demo", str(CONFIG), overrides, ONLY)


def executed(outcome) -> dict[str, int]:
    return {stage: n for stage, made in outcome.stages.items() if (n := sum(m.executed for m in made))}


def evaluations(outcome) -> dict[str, pd.DataFrame]:
    made = {}
    for evaluation in outcome.stages["evaluate"]:
        manifest = json.loads((evaluation.output.path / "manifest.json").read_text())
        key = manifest["key"]
        made[manifest["made_from"][0]["hash"], key["frames"], key["weights"]] = read_predictions(
            evaluation.output.path / "predictions.parquet"
        )
    return made


def test_tables_share_their_trainings(paper):
    # hard and midas-hard on FERV39k, hard and midas on DFEW, of which midas is in two tables
    assert len(paper.stages["train"]) == 4
    # table-4: 2; temporal: 4, one of them in order; test-fold: 2
    assert len(paper.stages["evaluate"]) == 8
    table = pd.read_csv(paper.report.output.path / "results.csv")
    assert table.groupby("experiment", sort=False).size().to_dict() == {"table-4": 2, "temporal": 4, "test-fold": 2}


def test_the_forecast_is_what_happens(before, paper, plan):
    from tasks.inspection.forecast import forecast

    expected = {name: stage.to_run for name, stage in before.stages.items() if stage.to_run}
    # shards of a data set that is not made yet cannot be counted
    happened = {stage: n for stage, n in executed(paper).items() if stage != "report"}
    for stage in ("train", "evaluate"):
        assert expected[stage] == happened[stage]
    after = forecast(plan)
    assert {stage.to_run for stage in after.stages.values()} == {0}
    assert {name: stage.exist for name, stage in after.stages.items()} == {
        name: len(made) for name, made in paper.stages.items() if made and name != "report"
    }
    assert after.trainings == {"table-4": (2, 2), "temporal": (1, 1), "test-fold": (2, 2)}
    assert after.seconds == 0


def test_what_was_measured_makes_the_estimate(paper, overrides):
    from tasks.inspection.forecast import forecast

    twice, four_times = (
        forecast(load_pipeline("paper-demo", CONFIG, [*overrides, f"train.epochs={n}"]).only(["table-4"]))
        for n in (4, 8)
    )
    assert (twice.stages["train"].to_run, twice.stages["train"].unmeasured) == (2, 0)
    assert four_times.stages["train"].seconds == pytest.approx(2 * twice.stages["train"].seconds)
    assert twice.stages["train"].seconds > 0


def test_nothing_is_trained_the_second_time(paper, overrides):
    from flows.midas import midas

    assert executed(midas("paper-demo", str(CONFIG), overrides, ONLY)) == {}


def test_a_table_alone_trains_nothing_that_it_does_not_show(paper, overrides):
    from flows.midas import midas

    alone = midas("paper-demo", str(CONFIG), overrides, ["figure-5"])
    assert executed(alone) == {"report": 1}
    assert {stage for stage, made in alone.stages.items() if made} == {"demo-data", "ingest", "report"}
    assert "coexist" in (alone.report.output.path / "report.html").read_text().lower()


def test_the_best_epoch_on_the_test_fold_is_that_of_the_history(paper):
    looked_at = 0
    for (model, frames, weights), predictions in evaluations(paper).items():
        (made,) = [made for made in paper.stages["train"] if made.output.hash == model]
        summary = json.loads((made.output.path / "history.json").read_text())["summary"]
        if frames == "in order" and weights == "best on the test fold":
            accuracy = (predictions["prediction"] == predictions["label"]).mean()
            assert accuracy == pytest.approx(summary["best_on_test_fold"]["war"])
            looked_at += 1
    assert looked_at == 2


def test_the_order_of_frames_changes_what_is_predicted(paper):
    by_order = {frames: table for (_, frames, weights), table in evaluations(paper).items() if weights == "chosen"}
    logits = {frames: table["logits"].tolist()[0].tolist() for frames, table in by_order.items()}
    assert len({str(values) for values in logits.values()}) == 4


def test_every_cell_leads_to_a_run_that_mlflow_has(paper, plan):
    client = MlflowClient(plan.tracking_uri)
    page = (paper.report.output.path / "report.html").read_text()
    ids = set(re.findall(r"/runs/([0-9a-f]{32})", unescape(page)))
    table = pd.read_csv(paper.report.output.path / "runs.csv")
    assert {url.rsplit("/", 1)[1] for url in table["url"]} <= ids
    for run_id in ids:
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["dfer.pipeline"] == "paper-demo"
    for row in table.to_dict(orient="records"):
        run = client.get_run(row["url"].rsplit("/", 1)[1])
        assert (run.data.tags["dfer.arm"], run.data.tags["dfer.model"]) == (row["arm"], row["model"])
        odd = "_best-on-test-fold" if row["protocol"] == "paper" else ""
        odd = f"_{row['frames']}" if row["frames"] != "in order" else odd
        assert run.data.metrics[f"{row['evaluated_on']}{odd}/WAR"] == pytest.approx(row["war"])


def test_runs_are_found_by_name_and_compared(paper, plan):
    from tasks.inspection.compare import find, pairs

    hard, midas = find(["paper-demo/hard", "paper-demo/resnet18_tsm/midas"], [plan], "demo-dfew_best-on-test-fold")
    assert (hard.runs, midas.runs) == (1, 1)
    ((first, second, comparison, corrected),) = pairs([hard, midas])
    assert (first.name, second.name) == ("paper-demo/hard", "paper-demo/resnet18_tsm/midas")
    assert comparison.clips == len(hard.predictions)
    right = [(one.predictions["prediction"] == one.predictions["label"]).mean() for one in (hard, midas)]
    assert comparison.differences["war"].estimate == pytest.approx(right[1] - right[0])
    assert corrected["war"] >= comparison.p_values["war"]
    # the same arm is trained on two data sets; --on chooses, and otherwise the pipeline's own counts
    (elsewhere,) = find(["paper-demo/hard"], [plan], "demo-ferv39k")
    assert set(elsewhere.predictions["dataset"]) == {"demo-ferv39k"}
    client = MlflowClient(plan.tracking_uri)
    experiment = client.get_experiment_by_name("paper-demo").experiment_id
    run = client.search_runs([experiment], "tags.`dfer.arm` = 'midas-hard'")[0]
    (by_id,) = find([run.info.run_id], [plan], None)
    assert set(by_id.predictions["dataset"]) == {"demo-ferv39k"}


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("0" * 32, None, "no run has this id"),
        ("nowhere/midas", None, "no pipeline 'nowhere'; there are paper-demo"),
        ("paper-demo/none", None, "no finished run of resnet18_tsm with the arm none"),
        ("paper-demo/midas", "ferv39k", "was not evaluated on ferv39k; it was on .*demo-dfew"),
    ],
)
def test_runs_that_cannot_be_found_are_said(paper, plan, name, dataset, message):
    from tasks.inspection.compare import find

    with pytest.raises(InputError, match=message):
        find([name], [plan], dataset)


def test_the_report_shown_is_that_of_the_last_command(paper, overrides, plan):
    from flows.midas import midas

    page = plan.work_dir / "reports" / "paper-demo.figure-5" / "report.html"
    midas("paper-demo", str(CONFIG), overrides, ["figure-5"])
    first = page.read_text()
    other = [*overrides, 'pipelines.paper-demo.experiments.figure-5.title="Another title"']
    midas("paper-demo", str(CONFIG), other, ["figure-5"])
    assert "Another title" in page.read_text()
    assert executed(midas("paper-demo", str(CONFIG), overrides, ["figure-5"])) == {}
    assert page.read_text() == first


def test_more_votes_than_there_are_is_said_before_anything_is_trained(paper, overrides):
    from flows.midas import midas

    with pytest.raises(ValueError, match=r"annotators: soft-3-votes takes 99 votes .* has clips with 10"):
        midas("paper-demo", str(CONFIG), [*overrides, "arms.soft-3-votes.votes=99"], ["annotators"])


def test_arms_that_want_votes_are_refused_for_a_data_set_without(paper, overrides):
    from flows.midas import midas

    with pytest.raises(ValueError, match=r"table-4: demo-ferv39k has no votes, which midas needs"):
        midas(
            "paper-demo",
            str(CONFIG),
            [*overrides, "pipelines.paper-demo.experiments.table-4.arms=[midas]"],
            ["table-4"],
        )

"""The outcome as plain tables, from reports about random predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_factory import aligned, arm, content, facts, toy_data

from dfer import metrics
from dfer.report import results
from dfer.report.content import ExperimentResult, ReportContent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    toy = toy_data(tmp_path_factory.mktemp("results"), "toy-dfew", clips_per_class=10)
    clips = aligned(toy)
    folds = [
        arm(clips, f"resnet18_tsm/{name}", skill=1.5, folds=(1, 2, 3), seeds=(0, 4), part="3 folds")
        for name in ("hard", "midas")
    ]
    across = arm(
        clips.assign(dataset="away"), "r3d_18/hard", skill=1, folds=(1, 2), same_clips=True, trained_on="toy-dfew"
    )
    shuffled = arm(clips, "resnet18_tsm/midas", skill=1, frames="shuffled", protocol="paper")
    table = ExperimentResult("table-2", "Two", "", "scores", "toy-dfew", tuple(folds))
    others = ExperimentResult("odd", "Odd", "", "scores", "toy-dfew", (across, shuffled))
    figure = ExperimentResult("figure-4", "Four", "", "class-distribution", "toy-dfew", ())
    return content(toy.root, table, others, figure, datasets=(facts(toy),))


def test_a_row_a_run_with_its_scores(made):
    runs = results.per_run(made)
    assert len(runs) == 2 * 6 + 2 + 1
    first, row = made.experiments[0].rows[0].runs[0], runs.iloc[0]
    right = first.predictions["prediction"] == first.predictions["label"]
    assert (row["fold"], row["seed"], row["url"]) == (first.fold, first.seed, first.url)
    assert row["war"] == pytest.approx(right.mean())
    assert row["recall_happy"] == pytest.approx(right[first.predictions["label"] == 0].mean())


def test_means_and_spread_over_folds_and_seeds(made):
    runs, table = results.per_run(made), results.summary(results.per_run(made))
    assert table[["experiment", "model", "arm", "runs"]].values.tolist() == [
        ["table-2", "resnet18_tsm", "hard", 6],
        ["table-2", "resnet18_tsm", "midas", 6],
        ["odd", "r3d_18", "hard", 2],
        ["odd", "resnet18_tsm", "midas", 1],
    ]
    own = runs[(runs["experiment"] == "table-2") & (runs["arm"] == "hard")]
    assert table["UAR"][0] == pytest.approx(own["uar"].mean())
    for of in ("fold", "seed"):
        assert table[f"UAR_sd_over_{of}s"][0] == pytest.approx(np.std(own.groupby(of)["uar"].mean(), ddof=1))
    assert np.isnan(table["WAR_sd_over_folds"][3])
    assert np.isnan(table["WAR_sd_over_seeds"][2])
    assert not any(name.endswith("_sd") for name in table)


def test_folds_that_differ_are_no_spread_over_seeds():
    """Two seeds that agree in each of two folds, which are 40 points apart."""
    arm = dict.fromkeys(("experiment", "show", "model", "arm", "trained_on", "evaluated_on", "part"), "x")
    other = {"war_all_listed": 0.6, "uar_all_listed": 0.5, "nll": 1.0, "ece": 0.1, "coverage": 1.0, "training_war": 1.0}
    runs = pd.DataFrame(
        {
            **arm,
            "protocol": "last",
            "frames": "in order",
            "split": "official",
            "epochs": np.nan,
            "missing_runs": 0,
            "fold": fold,
            "seed": seed,
            "war": war,
            "uar": war,
            **other,
        }
        for fold, war in ((1, 0.5), (2, 0.9))
        for seed in (0, 1)
    )
    (row,) = results.summary(runs).to_dict(orient="records")
    assert (row["WAR"], row["WAR_sd_over_seeds"]) == (0.7, 0)
    assert row["WAR_sd_over_folds"] == pytest.approx(0.4 / np.sqrt(2))
    (cells,) = results.as_text(results.summary(runs))
    assert cells[3] == "70.0 ± 28.3 over folds ± 0.0 over seeds"


def test_clips_without_a_face_count_as_wrong_in_scores_of_their_own(made):
    known, unknown = made.experiments[0].rows
    halves = {"war_all_listed": 0.5, "uar_all_listed": 0.4}
    runs = [replace(run, metrics={**run.metrics, **halves}) for run in known.runs]
    two = replace(made.experiments[0], rows=(replace(known, runs=tuple(runs)), unknown))
    table = results.summary(results.per_run(replace(made, experiments=(two,))))
    assert table[["WAR_all_listed", "UAR_all_listed"]].iloc[0].tolist() == pytest.approx([0.5, 0.4])
    assert table["WAR_all_listed"].isna().tolist() == [False, True]
    assert [cells[6] for cells in results.as_text(table)] == ["50.0 / 40.0", ""]
    assert [cells[6] for cells in results.as_text(table.assign(coverage=1.0))] == ["", ""]


def test_folds_taken_together_hold_every_clip_once(made):
    summed = results.summed_over_folds(made)
    # neither across nor with a single fold
    assert summed[["arm", "seed"]].values.tolist() == [["hard", 0], ["hard", 4], ["midas", 0], ["midas", 4]]
    predictions = made.experiments[0].rows[0].predictions
    one = predictions[predictions["seed"] == 4]
    assert one["clip_id"].is_unique
    true, predicted = one["label"].to_numpy("int64"), one["prediction"].to_numpy("int64")
    assert summed["uar"][1] == pytest.approx(metrics.uar(true, predicted, 7))
    assert summed["num_scored"][1] == len(one)


def test_cells_say_what_is_out_of_the_ordinary(made):
    cells = results.as_text(results.summary(results.per_run(made)))
    assert [line[1] for line in cells] == [
        "hard",
        "midas",
        "r3d_18 hard",
        "midas, frames shuffled (best on the test fold)",
    ]
    assert " ± " in cells[0][3]
    assert " ± " not in cells[3][3]
    assert cells[0][-1].endswith("%")


def test_figures_alone_have_no_scores(made, tmp_path: Path):
    figure = content(tmp_path, made.experiments[2], datasets=made.datasets)
    runs = results.per_run(figure)
    assert runs.empty
    results.summary(runs).to_csv(tmp_path / "results.csv")
    assert results.as_text(pd.read_csv(tmp_path / "results.csv")) == []
    assert results.summed_over_folds(figure).empty

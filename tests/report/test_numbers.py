from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_factory import aligned, arm, content, facts, toy_data

from dfer import metrics
from dfer.analysis import statistics
from dfer.labels import EMOTIONS
from dfer.report.content import ExperimentResult, ReportContent
from dfer.report.numbers import compute


def experiment(*rows, show="scores", name="table-x", dataset="toy-dfew"):
    return ExperimentResult(name, f"Title of {name}", "", show, dataset, rows)


def report(toy, *experiments) -> ReportContent:
    return content(toy.root, *experiments, datasets=(facts(toy),))


def test_scores_are_those_of_the_metrics_averaged_over_folds_and_seeds(toy):
    given = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0, folds=(1, 2), seeds=(0, 1))
    (numbers,) = compute(report(toy, experiment(given))).arms
    war = []
    for run in given.runs:
        table = run.predictions.dropna(subset="label")
        war.append(metrics.war(table["label"].to_numpy("int64"), table["prediction"]))
    assert numbers.intervals["war"].estimate == pytest.approx(np.mean(war))
    assert numbers.intervals["uar"].estimate == pytest.approx(np.mean([run.metrics["uar"] for run in given.runs]))
    assert numbers.intervals["war"].low <= numbers.intervals["war"].estimate <= numbers.intervals["war"].high
    assert numbers.confusion.sum() == sum(run.metrics["num_scored"] for run in given.runs)
    assert (numbers.scored, numbers.listed) == (28, 30)


def test_clips_that_every_fold_predicts_are_listed_once(toy):
    given = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0, folds=(1, 2, 3), same_clips=True)
    (numbers,) = compute(report(toy, experiment(given))).arms
    assert (numbers.scored, numbers.listed) == (28, 29)


def test_an_arm_of_several_experiments_is_computed_once(toy, monkeypatch):
    clips = aligned(toy)
    hard, midas = (arm(clips, f"resnet18_tsm/{name}", skill=1.0) for name in ("hard", "midas"))
    calls = []
    genuine = statistics.bootstrap, statistics.compare
    monkeypatch.setattr(statistics, "bootstrap", lambda table: calls.append("arm") or genuine[0](table, draws=200))
    monkeypatch.setattr(statistics, "compare", lambda a, b: calls.append("pair") or genuine[1](a, b, draws=200))
    again = replace(midas, runs=tuple(midas.runs))
    numbers = compute(report(toy, experiment(hard, midas), experiment(hard, again, name="table-y")))
    assert sorted(calls) == ["arm", "arm", "pair"]
    assert numbers.experiments[0].arms[1] is numbers.experiments[1].arms[1]


def test_arms_of_one_name_over_other_clips_are_kept_apart(toy):
    clips = aligned(toy)
    rows = arm(clips, "resnet18_tsm/midas", skill=1.0), arm(clips.iloc[:20], "resnet18_tsm/midas", skill=1.0)
    assert len(compute(report(toy, experiment(rows[0]), experiment(rows[1], name="table-y"))).arms) == 2


def test_pairs_are_the_comparisons_corrected_together_and_sorted(toy):
    clips = aligned(toy)
    rows = [arm(clips, f"resnet18_tsm/{name}", skill=skill) for name, skill in (("a", 0.0), ("b", 1.0), ("c", 4.0))]
    pairs = compute(report(toy, experiment(*rows))).experiments[0].pairs
    assert len(pairs) == 3
    raw = [pair.comparison.p_values[name] for pair in pairs for name in ("war", "uar")]
    corrected = [pair.corrected[name] for pair in pairs for name in ("war", "uar")]
    assert corrected == pytest.approx(statistics.holm(raw))
    assert [pair.strength for pair in pairs] == sorted(pair.strength for pair in pairs)
    strongest = pairs[0]
    assert (strongest.first.result.arm, strongest.second.result.arm) == ("a", "c")
    alone = statistics.compare(strongest.first.result.predictions, strongest.second.result.predictions)
    assert strongest.comparison.differences["war"] == alone.differences["war"]


def test_a_temporal_audit_compares_each_order_with_the_right_one_of_the_same_model(toy):
    clips = aligned(toy)
    rows = [
        arm(clips, f"resnet18_tsm/{name}", skill=1.0, frames=frames)
        for name in ("hard", "midas")
        for frames in ("shuffled", "in order", "peak")
    ]
    pairs = compute(report(toy, experiment(*rows, show="temporal"))).experiments[0].pairs
    compared = {(pair.first.result.name, pair.first.result.frames, pair.second.result.frames) for pair in pairs}
    assert compared == {
        (f"resnet18_tsm/{name}", "in order", frames) for name in ("hard", "midas") for frames in ("shuffled", "peak")
    }
    assert all(pair.first.result.name == pair.second.result.name for pair in pairs)


def test_of_many_networks_only_the_arms_of_each_are_compared(toy):
    names = ["gca/hard", "gca/midas", "resnet18_tsm/hard", "resnet18_tsm/midas"]
    rows = [arm(aligned(toy), name, skill=1.0) for name in names]
    (numbers,) = compute(report(toy, experiment(*rows, show="networks"))).experiments
    pairs = [(pair.first.result, pair.second.result) for pair in numbers.pairs]
    assert {(first.model, first.arm, second.model, second.arm) for first, second in pairs} == {
        ("gca", "hard", "gca", "midas"),
        ("resnet18_tsm", "hard", "resnet18_tsm", "midas"),
    }


def test_arms_over_different_sets_are_not_compared(toy):
    clips = aligned(toy)
    elsewhere = clips.assign(dataset="other", clip_id="other/" + clips["clip_id"])
    rows = arm(clips, "resnet18_tsm/hard", skill=1.0), arm(elsewhere, "resnet18_tsm/midas", skill=1.0)
    assert compute(report(toy, experiment(*rows))).experiments[0].pairs == ()


def test_arms_of_different_folds_are_not_compared(toy):
    clips = aligned(toy)
    rows = (
        arm(clips, "resnet18_tsm/hard", skill=1.0, folds=(1,)),
        arm(clips, "resnet18_tsm/midas", skill=1.0, folds=(2,)),
        arm(clips, "resnet18_tsm/soft", skill=1.0, folds=(1,)),
    )
    pairs = compute(report(toy, experiment(*rows))).experiments[0].pairs
    assert [(pair.first.result.arm, pair.second.result.arm) for pair in pairs] == [("hard", "soft")]


def test_a_class_without_clips_has_no_recall(toy):
    clips = aligned(toy)
    clips = clips[clips["label"] != EMOTIONS.index("disgust")]
    (numbers,) = compute(report(toy, experiment(arm(clips, "resnet18_tsm/midas", skill=1.0)))).arms
    assert np.isnan(numbers.intervals["disgust"].estimate)
    assert np.isfinite(numbers.intervals["uar"].estimate)


def test_hardest_clips_have_the_lowest_probability_of_their_label(toy):
    given = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0, folds=(1, 2), same_clips=True)
    (hardest,) = compute(report(toy, experiment(given))).hardest
    table = given.predictions
    right = [row[label] for row, label in zip(table["probabilities"], table["label"], strict=True)]
    by_clip = pd.Series(-np.log(right)).groupby(table["clip_id"].to_numpy()).mean()
    assert [clip.clip_id for clip in hardest.clips] == by_clip.nlargest(len(hardest.clips)).index.tolist()
    first = hardest.clips[0]
    assert first.nll == pytest.approx(by_clip.max())
    place = toy.index.set_index("clip_id").loc[first.clip_id]
    assert (first.shard, first.row) == (place["shard"], place["row"])
    assert first.probabilities.sum() == pytest.approx(1)


def test_the_main_arm_is_never_one_chosen_on_the_test_fold(toy):
    clips = aligned(toy)
    flagged = arm(clips, "resnet18_tsm/hard", skill=5.0, protocol="paper")
    honest = arm(clips, "resnet18_tsm/midas", skill=0.0)
    (hardest,) = compute(report(toy, experiment(flagged, honest), experiment(flagged, name="table-y"))).hardest
    assert hardest.arm.result.arm == "midas"


def test_clips_without_aligned_faces_are_counted_by_reason(toy):
    (dataset,) = compute(report(toy)).datasets
    assert (dataset.clips, dataset.aligned) == (29, 28)
    (left_out,) = dataset.left_out
    assert (left_out.reason, left_out.clips) == ("no_face", 1)
    assert left_out.examples == (("toy-dfew/028", "no face in any of 40 frames"),)


def test_no_voters_no_numbers_about_voters(tmp_path: Path):
    silent = toy_data(tmp_path, "ferv", clips_per_class=3, votes=False)
    given = arm(aligned(silent), "resnet18_tsm/hard", skill=1.0, folds=(None,), part="test")
    numbers = compute(report(silent, experiment(given, dataset="ferv")))
    assert numbers.arms[0].voters is None
    assert numbers.datasets[0].coexistence is None
    assert numbers.hardest[0].clips[0].voters is None

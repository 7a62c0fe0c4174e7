"""Arms whose training clips lack something: a clear one of a class, for groups of clear or mixed clips, or votes."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from tiny import CONFIG

from dfer.config.experiments import Training, evaluations_of, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline
from dfer.config.settings import ArmSettings
from dfer.datasets.table import SHARES, ClipRow, from_rows
from dfer.datasets.trainable import can_be_trained_on, check_group, check_votes, findings_on_trainings
from tasks.stages import graph_of

DISGUST = 5


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Table 6 of the paper on demo data: the arms clear and mixed, clear above 0.7, fold 1."""
    return load_pipeline("paper-demo", CONFIG, only=["table-6"])


def clips(clear_disgust: int, *, clips_per_class: int = 6) -> pd.DataFrame:
    """Two folds of clips, each with nine of ten votes for its label; but of disgust so many, the others with six."""
    rows = []
    for label in range(7):
        for number in range(2 * clips_per_class):
            most = 6 if label == DISGUST and number >= 2 * clear_disgust else 9
            votes = [most if other == label else 0 for other in range(7)]
            votes[(label + 1) % 7] = 10 - most
            name = f"{label}-{number:02d}"
            rows.append(
                ClipRow(f"demo-dfew/{name}", "demo-dfew", name, tuple(votes), label, fold=1 + number % 2, source_size=1)
            )
    return from_rows(rows)


def trainings(pipeline: Pipeline, **train: object) -> list[Training]:
    rows = [row for experiment in pipeline.experiments for row in experiment.rows(has_folds=True)]
    found = trainings_of(evaluations_of(rows))
    changed = [one.settings.model_copy(update={"train": one.settings.train.model_copy(update=train)}) for one in found]
    return [replace(one, settings=settings) for one, settings in zip(found, changed, strict=True)]


def test_a_class_without_clear_clips_is_named_with_the_way_out(pipeline) -> None:
    for training, group in zip(trainings(pipeline), ("clear", "mixed"), strict=True):
        check_group(training, clips(1))
        with pytest.raises(ValueError, match="no training clip") as error:
            check_group(training, clips(0))
        assert str(error.value) == (
            "demo-dfew, fold 1: no training clip of disgust has a share of its votes above groups.clear_above, 0.7, so "
            f"that the arm {group} cannot be trained on a group of {group} clips of all classes: lower "
            "groups.clear_above, add clips, or leave the arm out"
        )


def test_arms_on_all_clips_need_no_clear_ones(pipeline) -> None:
    (one, *_) = trainings(pipeline)
    check_group(replace(one, arm=one.arm.model_copy(update={"clips": "all"})), clips(0))


def test_a_clear_clip_without_a_face_is_none(pipeline) -> None:
    table, training = clips(1), trainings(pipeline)[0]
    (clear,) = table["clip_id"][(table["label"] == DISGUST) & (table["fold"] == 2) & table["votes"].map(max).eq(9)]
    everyone = set(table["clip_id"])
    check_group(training, table, everyone)
    with pytest.raises(ValueError, match="no training clip with an aligned face of disgust"):
        check_group(training, table, everyone - {clear})


def test_a_clear_clip_that_chooses_the_epoch_is_not_trained_on(pipeline) -> None:
    """Of six clips of a class, the validation part takes three; the only clear one is among them for some seeds."""
    table = clips(1)
    everyone, refused = set(table["clip_id"]), []
    for seed in range(8):
        training = trainings(pipeline, selection="validation", validation_share=0.5, seed=seed)[0]
        try:
            check_group(training, table, everyone)
        except ValueError:
            refused.append(seed)
    assert 0 < len(refused) < 8


def test_the_check_of_the_configuration_finds_it_by_the_lists_alone(pipeline) -> None:
    assert not findings_on_trainings(pipeline.experiments, {"demo-dfew": clips(1)})
    (finding,) = findings_on_trainings(pipeline.experiments, {"demo-dfew": clips(0)})
    assert (finding.code, finding.severity, finding.count) == ("no_clear_clips", "error", 1)
    assert "lower groups.clear_above" in finding.message
    assert finding.examples == ("demo-dfew, fold 1: disgust (none above 0.7)",)


def test_clips_that_soft_labels_leave_out_are_counted(pipeline) -> None:
    table = clips(1)
    train = table.index[table["fold"] != 1]
    table["votes"] = table["votes"].where(~table.index.isin(train[:2]), None)
    (finding,) = findings_on_trainings(pipeline.experiments, {"demo-dfew": table})
    assert (finding.code, finding.severity) == ("without_votes", "warning")
    assert finding.examples == (f"demo-dfew, fold 1: 2 of {len(train)}",)


@pytest.mark.parametrize(("loss", "left_out"), [("cross_entropy", 2), ("dirichlet_multinomial", 4)])
def test_shares_stand_in_for_votes_where_the_loss_takes_them(pipeline, loss: str, left_out: int) -> None:
    """As of MAFW, whose clips have confidences, and some of them none; here a few clips have votes as well."""
    (experiment,) = pipeline.experiments
    arm = ArmSettings(labels="soft", loss=loss)
    table = clips(1)
    train = table.index[table["fold"] != 1]
    table["votes"] = table["votes"].where(~table.index.isin(train[:4]), None)
    shares = [None if row in train[:2] else (0.4, *[0.1] * 6) for row in table.index]
    table[SHARES.name] = pd.Series(shares, index=table.index, dtype=object)
    found = findings_on_trainings([replace(experiment, arms={"soft": arm})], {"demo-dfew": table})
    assert [one.examples for one in found if one.code == "without_votes"] == [
        (f"demo-dfew, fold 1: {left_out} of {len(train)}",)
    ]
    assert int((~can_be_trained_on(table, arm)).sum()) == left_out
    assert can_be_trained_on(table.assign(votes=None, **{SHARES.name: None}), arm).all()


def test_a_loss_of_counts_is_not_trained_on_shares(pipeline) -> None:
    (experiment,) = pipeline.experiments
    table = clips(1).assign(votes=None)
    table[SHARES.name] = [(0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)] * len(table)
    soft, counts = ArmSettings(labels="soft"), ArmSettings(labels="soft", loss="dirichlet_multinomial")
    check_votes(replace(experiment, arms={"soft": soft}), table)
    with pytest.raises(ValueError, match="has no votes, which counts needs"):
        check_votes(replace(experiment, arms={"counts": counts}), table)


def test_a_run_stops_before_faces_are_aligned(pipeline) -> None:
    phases = graph_of(pipeline, clips=lambda name: clips(0)).phases()
    assert {node.stage for node in next(phases)} == {"demo-data", "ingest"}
    with pytest.raises(ValueError, match="no training clip of disgust"):
        next(phases)


def test_a_run_stops_before_any_training_where_the_clear_clips_have_no_face(pipeline) -> None:
    table = clips(1)
    aligned = set(table["clip_id"][table["votes"].map(max).eq(6) | (table["label"] != DISGUST)])
    phases = graph_of(pipeline, clips=lambda name: table, aligned=lambda faces: aligned).phases()
    assert {node.stage for _ in range(2) for node in next(phases)} == {"demo-data", "ingest", "align", "index"}
    with pytest.raises(ValueError, match="no training clip with an aligned face of disgust"):
        next(phases)

"""Tables and figures: what has to be trained and evaluated for them."""

from __future__ import annotations

from config_texts import SHIPPED, TWO, pipelines

from dfer.config.experiments import Faces, Training, evaluations_of, trainings_of
from dfer.config.pipeline import Pipeline
from dfer.config.reading import read_config
from dfer.config.settings import ArmSettings, StageSettings


def trainings(pipeline: Pipeline, *names: str) -> list[Training]:
    chosen = [e for e in pipeline.experiments if not names or e.name in names]
    return trainings_of(evaluations_of(row for e in chosen for row in e.rows(has_folds=True)))


def test_a_card_says_how_faces_are_made():
    settings = StageSettings.model_validate({"shards": {"frames_per_segment": 2, "clips_per_shard": 7}})
    written = Faces.of("toy", settings).for_card()
    assert list(written) == ["detection", "tracking", "alignment", "shards"]
    assert written["shards"] == {"format": "parquet", "segments": 8, "frames_per_segment": 2, "jpeg_quality": 95}
    assert StageSettings.model_validate(written).alignment == settings.alignment


def test_an_arm_of_two_tables_is_trained_once(tmp_path):
    paper = pipelines(tmp_path)["paper"]
    titles = [training.title for training in trainings(paper)]
    assert titles == ["hard fold 1", "hard fold 2", "midas fold 1", "midas fold 2", "soft fold 1", "soft fold 2"]


def test_two_names_for_the_same_arm_are_one_training(tmp_path):
    text = TWO.replace("arms: [midas, soft]", "arms: [same-midas, strong]")
    made = trainings(pipelines(tmp_path, text)["paper"], "first", "second")
    assert [training.title for training in made if training.fold == 1] == [
        "hard fold 1",
        "midas fold 1",
        "strong fold 1",
    ]
    assert [training.settings.mixing.alpha for training in made if training.fold == 1][1:] == [0.4, 2]


def test_both_splits_are_rows_with_trainings_of_their_own(tmp_path):
    text = TWO.replace("first: {title: First}", "first: {title: First, split: both}")
    first, *others = pipelines(tmp_path, text)["paper"].experiments
    rows = first.rows(has_folds=True)
    order = [("official", "hard"), ("official", "midas"), ("disjoint", "hard"), ("disjoint", "midas")]
    assert [(row.split, row.arm) for row in rows] == order
    made = trainings_of(evaluations_of(rows))
    assert [training.title for training in made if training.fold == 1] == [
        "hard fold 1",
        "midas fold 1",
        "hard disjoint fold 1",
        "midas disjoint fold 1",
    ]
    # those of the data set's own folds are the other tables', too
    of_others = trainings_of(evaluations_of(row for e in others for row in e.rows(has_folds=True)))
    assert {training.split for training in of_others} == {"official"}
    assert set(made) & set(of_others) and set(made) - set(of_others)


def test_seeds_are_a_dimension(tmp_path):
    made = trainings(pipelines(tmp_path)["less"], "first")
    assert [(training.fold, training.seed) for training in made] == [(f, s) for s in (0, 3) for f in range(1, 6)]
    assert made[-1].title == "hard fold 5 seed 3"


def test_the_length_of_the_training_is_a_dimension(tmp_path):
    text = TWO.replace("first: {title: First}", "first: {title: First, epochs: [20, 450]}")
    paper = pipelines(tmp_path, text)["paper"]
    assert paper.settings.train.epochs == 450
    first, *others = paper.experiments
    rows = first.rows(has_folds=True)
    assert [(row.epochs, row.arm) for row in rows] == [(20, "hard"), (20, "midas"), (450, "hard"), (450, "midas")]
    made = trainings(paper, "first")
    assert {training.settings.train.epochs for training in made} == {20, 450}
    assert next(training.title for training in made if training.fold == 1) == "hard fold 1 20 epochs"
    # as long as all others of the pipeline: one training for both tables
    assert len(trainings(paper)) == len(made) + len(
        {t for e in others for t in trainings(paper, e.name) if t.arm_name not in ("hard", "midas")}
    )
    assert {row.epochs for e in others for row in e.rows(has_folds=True)} == {None}


def test_a_data_set_with_splits_is_trained_on_once_a_seed(tmp_path):
    (row,) = pipelines(tmp_path)["less"].experiments[0].rows(has_folds=False)
    assert [(e.training.fold, e.training.seed) for e in row.evaluations] == [(None, 0), (None, 3)]
    assert row.evaluations[0].training.title == "hard dfew"


def test_a_figure_about_votes_trains_nothing(tmp_path):
    assert trainings(pipelines(tmp_path)["paper"], "figure") == []


def test_the_epoch_chosen_on_the_test_fold_needs_no_training_of_its_own(tmp_path):
    paper = pipelines(tmp_path, TWO.replace("first: {title: First}", "first: {title: First, protocol: paper}"))["paper"]
    last, best = paper.experiments[1], paper.experiments[0]
    assert best.protocol == "paper"
    midas = [row for row in best.rows(has_folds=True) if row.arm == "midas"]
    assert {e.weights for row in midas for e in row.evaluations} == {"best on the test fold"}
    assert {e.training for row in midas for e in row.evaluations} <= set(trainings(paper, last.name))


def test_an_inner_validation_part_is_a_training_of_its_own(tmp_path):
    text = TWO.replace("first: {title: First}", "first: {title: First, protocol: validation}")
    paper = pipelines(tmp_path, text)["paper"]
    assert {t.settings.train.selection for t in trainings(paper, "first")} == {"validation"}
    assert len(trainings(paper)) == 10


def test_a_temporal_audit_evaluates_one_training_in_four_ways():
    demo = next(p for p in read_config(SHIPPED)[1] if p.name == "paper-demo")
    audit = next(e for e in demo.experiments if e.name == "temporal")
    rows = audit.rows(has_folds=True)
    assert [row.frames for row in rows] == ["in order", "shuffled", "reversed", "peak"]
    assert len(trainings_of(evaluations_of(rows))) == 1
    assert len({e.short for row in rows for e in row.evaluations}) == 4


def test_a_training_is_known_by_what_it_is_made_of():
    settings = StageSettings()
    one, other = (Training("dfew", 1, ArmSettings(labels="hard"), settings, arm_name=name) for name in ("a", "b"))
    assert one == other
    assert len({one, other}) == 1

"""Tables and figures: what they name, and what has to be trained for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfer.config.experiments import Training, evaluations_of, trainings_of
from dfer.config.reading import ConfigError, Pipeline, load_pipeline, read_config
from dfer.config.settings import ArmSettings, StageSettings

SHIPPED = Path(__file__).parents[2] / "pipeline_config.yaml"

TWO = """\
datasets:
  dfew: {layout: dfew, root: DFEW}
  afew: {layout: afew, root: AFEW}
  other: {layout: afew, root: OTHER}
networks:
  r3d_18: {model: {pretrained: kinetics400}}
arms:
  hard: {labels: hard}
  soft: {labels: soft}
  midas: {labels: soft, mixing: midas, normalize: softmax}
  same-midas: {labels: soft, mixing: midas, normalize: softmax, alpha: 0.4}
  strong: {labels: soft, mixing: midas, normalize: softmax, alpha: 2}
pipelines:
  paper:
    description: Tables
    dataset: dfew
    folds: [1, 2]
    arms: [hard, midas]
    stand_ins: {afew: other}
    experiments: &tables
      first: {title: First}
      second: {title: Second, arms: [midas, soft]}
      across: {title: Across, evaluate_on: afew}
      figure: {title: Figure, show: coexistence}
  less:
    description: Fewer tables
    dataset: dfew
    arms: [hard]
    seeds: [0, 3]
    experiments:
      <<: *tables
      across: null
      second: {title: Other, models: [r3d_18, resnet18_tsm]}
"""


def pipelines(tmp_path: Path, text: str = TWO, *overrides: str) -> dict[str, Pipeline]:
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(text)
    return {pipeline.name: pipeline for pipeline in read_config(path, overrides)[1]}


def trainings(pipeline: Pipeline, *names: str) -> list[Training]:
    chosen = [e for e in pipeline.experiments if not names or e.name in names]
    return trainings_of(evaluations_of(row for e in chosen for row in e.rows(has_folds=True)))


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


def test_names_stand_for_other_data_sets_where_that_is_said(tmp_path):
    both = pipelines(tmp_path)
    across = next(e for e in both["paper"].experiments if e.name == "across")
    assert across.evaluate_on == "other"
    assert {evaluation.across for row in across.rows(has_folds=True) for evaluation in row.evaluations} == {True}
    assert list(both["paper"].datasets) == ["dfew", "other"]


def test_tables_merged_in_are_left_out_and_replaced(tmp_path):
    less = pipelines(tmp_path)["less"]
    assert [e.name for e in less.experiments] == ["first", "second", "figure"]
    assert less.experiments[1].given.title == "Other"
    assert list(less.datasets) == ["dfew"]


def test_every_network_gets_its_own_frames_size_and_weights(tmp_path):
    second = pipelines(tmp_path)["less"].experiments[1]
    seen = {
        name: (s.sampling.num_segments, s.model.input_size, s.model.pretrained) for name, s in second.settings.items()
    }
    assert seen == {"r3d_18": (16, 112, "kinetics400"), "resnet18_tsm": (8, 224, "imagenet")}


def test_the_command_line_wins_over_a_network_s_own_settings(tmp_path):
    second = pipelines(tmp_path, TWO, "model.input_size=32", "model.pretrained=null")["less"].experiments[1]
    assert {(s.model.input_size, s.model.pretrained) for s in second.settings.values()} == {(32, None)}


def test_seeds_are_a_dimension(tmp_path):
    made = trainings(pipelines(tmp_path)["less"], "first")
    assert [(training.fold, training.seed) for training in made] == [(f, s) for s in (0, 3) for f in range(1, 6)]
    assert made[-1].title == "hard fold 5 seed 3"


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


def test_only_what_is_asked_for_is_needed(tmp_path):
    paper = pipelines(tmp_path)["paper"].only(["figure"])
    assert (list(paper.datasets), paper.selected) == (["dfew"], ("figure",))
    with pytest.raises(ConfigError, match="did you mean figure"):
        pipelines(tmp_path)["paper"].only(["figur"])


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "message"),
    [
        ("arms: [midas, soft]", "arms: [midsa]", 22, "pipelines.paper.experiments.second.arms.0", "mean midas"),
        ("evaluate_on: afew", "evaluate_on: ferv", 23, "pipelines.paper.experiments.across.evaluate_on", "not defined"),
        ("show: coexistence", "show: coexistance", 24, "pipelines.paper.experiments.figure.show", "did you mean"),
        ("models: [r3d_18,", "models: [r3d_19,", 33, "pipelines.less.experiments.second.models.0", "mean r3d_18"),
        ("title: Other,", "settings: {alignment: {size: 64}}, title: Other,", 33,
         "pipelines.less.experiments.second.settings.alignment", "put it under pipelines.less.settings"),
        ("title: Other,", "settings: {train: {epocs: 2}}, title: Other,", 33,
         "pipelines.less.experiments.second.settings.train.epocs", "did you mean epochs?"),
        ("stand_ins: {afew: other}", "stand_ins: {afw: other}", 19, "pipelines.paper.stand_ins.afw", "names 'afw'"),
        ("seeds: [0, 3]", "seeds: [3, 3]", 29, "pipelines.less.seeds", "3 is named twice"),
        ("hard: {labels: hard}", "hard: {labels: hard, votes: 3}", 8, "arms.hard", "but this arm has labels: hard"),
        ("soft: {labels: soft}", "soft: {labels: soft, alpha: 1}", 9, "arms.soft", "which only an arm with mixing"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path, before, after, line, key, message):
    assert before in TWO
    with pytest.raises(ConfigError) as caught:
        pipelines(tmp_path, TWO.replace(before, after, 1))
    found = {(problem.line, problem.key): problem.message for problem in caught.value.problems}
    assert message in found[line, key]


def test_what_a_pipeline_s_networks_and_tables_ask_for_is_looked_for(tmp_path):
    for name in ("DFEW", "OTHER"):
        (tmp_path / name).mkdir()
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(TWO.replace("title: Second,", "title: Second, published: table-9,"))
    with pytest.raises(ConfigError, match=r"'table-9' is not among table-1"):
        load_pipeline("paper", path)
    path.write_text(TWO.replace("pretrained: kinetics400", "pretrained: imagenet"))
    with pytest.raises(ConfigError, match=r"'imagenet': r3d_18 has kinetics400"):
        load_pipeline("less", path)


def test_the_shipped_paper_names_every_table_and_figure():
    by_name = {pipeline.name: pipeline for pipeline in read_config(SHIPPED)[1]}
    numbered = {*(f"table-{n}" for n in range(1, 8)), *(f"figure-{n}" for n in range(4, 7))}
    assert numbered <= {e.name for e in by_name["paper"].experiments}
    assert [e.name for e in by_name["paper-demo"].experiments] == [e.name for e in by_name["paper"].experiments]
    assert numbered - {e.name for e in by_name["crema-d"].experiments} == {"table-4", "table-5"}
    for name in ("paper", "paper-demo"):
        for experiment in by_name[name].experiments:
            published = experiment.given.published
            assert published is None or published == experiment.name


def test_a_training_is_known_by_what_it_is_made_of():
    settings = StageSettings()
    one, other = (Training("dfew", 1, ArmSettings(labels="hard"), settings, arm_name=name) for name in ("a", "b"))
    assert one == other
    assert len({one, other}) == 1

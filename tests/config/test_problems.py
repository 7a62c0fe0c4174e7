"""How mistakes are reported: with line, key, what was found and what was expected."""

from __future__ import annotations

from textwrap import dedent

import pytest
from config_texts import TWO, VALID, pipelines, problems

from dfer.config.problems import ConfigError
from dfer.config.reading import read_config


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "message"),
    [
        ("num_segments: 8", "num_segmants: 8", 4, "sampling.num_segmants", "did you mean num_segments?"),
        ("alpha: 0.4", "alpha: -0.2", 6, "mixing.alpha", "-0.2, expected a number above 0"),
        ("epochs: 10", "epochs: ten", 8, "train.epochs", "'ten', expected a whole number"),
        ("layout: dfew", "layout: dfwe", 2, "datasets.dfew.layout", "did you mean dfew?"),
        ("arms: [midas]", "arms: [midsa]", 15, "pipelines.one.arms.0", "did you mean midas?"),
        ("dataset: dfew", "dataset: afew", 14, "pipelines.one.dataset", "'afew' is not defined"),
        ("epochs: 3", "epocs: 3", 17, "pipelines.one.settings.train.epocs", "did you mean epochs?"),
        ("    arms: [midas]\n", "    arms: [midas]\n    folds: [0]\n", 16, "pipelines.one.folds.0", "at least 1"),
        ("mixing:\n  alpha: 0.4", "mixing:\n  alpha: 0.4\n  alpha: 0.5", 7, "mixing.alpha", "already given in line 6"),
        ("arms: [midas]", "arms: [midas, midas]", 15, "pipelines.one.arms", "midas is named twice"),
        (
            "dataset: dfew",
            "dataset: dfew\n    cross_datasets: [dfew]",
            15,
            "pipelines.one.cross_datasets",
            "trained on",
        ),
        ("alpha: 0.4", "alpha: .inf", 6, "mixing.alpha", "finite"),
        ("labels: soft", "labels: [soft]", 10, "arms.midas.labels", "expected 'hard', 'soft' or 'vote'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, before, after, line, key, message):
    assert before in VALID
    found = problems(tmp_path, VALID.replace(before, after, 1))
    assert [(line, key)] == [(at, name) for at, name, _ in found]
    assert message in found[0][2]


def test_all_mistakes_are_reported_together(tmp_path):
    text = VALID.replace("num_segments", "num_segmants").replace("alpha: 0.4", "alpha: x").replace("[midas]", "[none]")
    found = problems(tmp_path, text, "train.momentum=3", "nonsense", "trian.epochs=2")
    assert {key for _, key, _ in found} == {
        "sampling.num_segmants",
        "mixing.alpha",
        "pipelines.one.arms.0",
        "train.momentum",
        "nonsense",
        "trian",
    }


def test_the_report_can_be_read_by_a_person(tmp_path):
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(VALID.replace("alpha: 0.4", "alpha: -0.2").replace("num_segments", "num_segmants"))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    expected = f"""\
        {path}: 2 problems, nothing was started
          line 4  sampling.num_segmants  unknown key; did you mean num_segments?
          line 6  mixing.alpha           -0.2, expected a number above 0"""
    assert str(caught.value) == dedent(expected)


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "message"),
    [
        ("arms: [midas, soft]", "arms: [midsa]", 22, "pipelines.paper.experiments.second.arms.0", "mean midas"),
        ("evaluate_on: afew", "evaluate_on: ferv", 23, "pipelines.paper.experiments.across.evaluate_on", "not defined"),
        ("show: coexistence", "show: coexistance", 24, "pipelines.paper.experiments.figure.show", "did you mean"),
        ("models: [r3d_18,", "models: [r3d_19,", 33, "pipelines.less.experiments.second.models.0", "mean r3d_18"),
        ("title: Other,", "settings: {detection: {input_size: 64}}, title: Other,", 33,
         "pipelines.less.experiments.second.settings.detection", "put it under pipelines.less.settings"),
        ("title: Other,", "settings: {train: {epocs: 2}}, title: Other,", 33,
         "pipelines.less.experiments.second.settings.train.epocs", "did you mean epochs?"),
        ("stand_ins: {afew: other}", "stand_ins: {afw: other}", 19, "pipelines.paper.stand_ins.afw", "names 'afw'"),
        ("seeds: [0, 3]", "seeds: [3, 3]", 29, "pipelines.less.seeds", "3 is named twice"),
        ("seeds: [0, 3]", "folds: [1, 1]", 29, "pipelines.less.folds", "1 is named twice"),
        ("title: Other,", "epochs: [2, 2], title: Other,", 33,
         "pipelines.less.experiments.second.epochs", "2 is named twice"),
        ("hard: {labels: hard}", "hard: {labels: hard, votes: 3}", 8, "arms.hard", "but this arm has labels: hard"),
        ("soft: {labels: soft}", "soft: {labels: soft, alpha: 1}", 9, "arms.soft", "which only an arm with mixing"),
    ],
)  # fmt: skip
def test_mistakes_in_experiments_are_named_with_their_line(tmp_path, before, after, line, key, message):
    assert before in TWO
    with pytest.raises(ConfigError) as caught:
        pipelines(tmp_path, TWO.replace(before, after, 1))
    found = {(problem.line, problem.key): problem.message for problem in caught.value.problems}
    assert message in found[line, key]


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "message"),
    [
        ("  dfew: {layout: dfew,", "  int: {layout: dfwe,", 2, "datasets.int.layout", "did you mean dfew?"),
        ("  dfew: {layout: dfew,", "  int: {layot: dfew,", 2, "datasets.int.layot", "did you mean layout?"),
        ("description: A pipeline", "description: 3", 13, "pipelines.int.description", "3, expected a text"),
        ("arms: [midas]", "arms: [midsa]", 15, "pipelines.int.arms.0", "did you mean midas?"),
    ],
)
def test_an_entry_that_is_called_as_a_type_is_named(tmp_path, before, after, line, key, message):
    """Pydantic puts the types of a union between the keys of an error."""
    text = VALID.replace("  one:", "  int:")
    found = {(at, name): words for at, name, words in problems(tmp_path, text.replace(before, after, 1))}
    assert message in found[line, key]


@pytest.mark.parametrize("value", ["some", "0", "[1]", "{int: 1}", "1.5"])
def test_a_value_of_no_type_of_a_union_is_one_problem(tmp_path, value):
    found = problems(tmp_path, VALID, f"shards.frames_per_segment={value}")
    assert [(line, key) for line, key, _ in found] == [(0, "shards.frames_per_segment")]


def test_an_unknown_key_of_an_experiment_has_a_suggestion(tmp_path):
    found = problems(tmp_path, TWO.replace("title: Second,", "titel: Second,"))
    assert ("pipelines.paper.experiments.second.titel", "unknown key; did you mean title?") in [f[1:] for f in found]


def test_a_name_that_is_a_number_is_reported(tmp_path):
    found = problems(tmp_path, VALID.replace("  one:", "  1:").replace("[midas]", "[midsa]"))
    assert {key for _, key, _ in found} >= {"pipelines.1", "pipelines.1.arms.0"}


def test_credentials_in_a_work_dir_are_not_repeated(tmp_path):
    ((_, key, message),) = problems(tmp_path, VALID, "work_dir=s3://key:s3 c'ret@bucket/x")
    assert key == "work_dir"
    assert "credentials do not belong here" in message
    assert "s3 c" not in message


def test_a_list_that_is_too_short_is_named_by_the_place_of_what_is_missing(tmp_path):
    found = problems(tmp_path, VALID + "      labels: {merge: [[]]}\n")
    assert {key for _, key, _ in found} == {"labels.merge.0.0", "labels.merge.0.1"}
    assert {message for _, _, message in found} == {"missing"}

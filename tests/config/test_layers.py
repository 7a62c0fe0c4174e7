"""What lies over what: sections, networks, pipelines, experiments, --set."""

from __future__ import annotations

from dataclasses import replace

from config_texts import TWO, VALID, pipelines

from dfer.config import catalogue
from dfer.config.reading import read_config


def test_a_pipeline_lays_its_settings_over_the_sections(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path)[1]
    assert pipeline.settings.train.epochs == 3
    assert pipeline.settings.sampling.num_segments == 8


def test_the_command_line_wins_over_file_and_pipeline(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path, ["train.epochs=2", "mixing.alpha=0.1", "pipelines.one.folds=[2, 3]"])[1]
    assert pipeline.settings.train.epochs == 2
    assert pipeline.settings.mixing.alpha == 0.1
    assert pipeline.folds == (2, 3)


def test_every_network_gets_its_own_frames_size_and_weights(tmp_path):
    second = pipelines(tmp_path)["less"].experiments[1]
    seen = {
        name: (s.sampling.num_segments, s.model.input_size, s.model.pretrained) for name, s in second.settings.items()
    }
    assert seen == {"r3d_18": (16, 112, "kinetics400"), "resnet18_tsm": (8, 224, "imagenet")}


def test_the_command_line_wins_over_a_network_s_own_settings(tmp_path):
    second = pipelines(tmp_path, TWO, "model.input_size=32", "model.pretrained=null")["less"].experiments[1]
    assert {(s.model.input_size, s.model.pretrained) for s in second.settings.values()} == {(32, None)}


def test_an_experiment_may_align_faces_in_its_own_way(tmp_path):
    own = TWO.replace("title: Other,", "settings: {alignment: {transform: similarity}}, title: Other,")
    first, second, *_ = pipelines(tmp_path, own)["less"].experiments
    assert {s.alignment.transform for s in first.settings.values()} == {"clip-affine"}
    assert {s.alignment.transform for s in second.settings.values()} == {"similarity"}
    (row, *_) = second.rows(has_folds=True)
    (evaluation, *_) = row.evaluations
    assert evaluation.faces.alignment.transform == evaluation.training.faces.alignment.transform == "similarity"


def test_a_network_s_recipe_lies_over_the_sections_and_under_all_else(tmp_path, monkeypatch):
    recipe = {"train": {"epochs": 77, "learning_rate": 0.5, "schedule": "step"}, "sampling": {"num_segments": 4}}
    tsm = replace(catalogue.NETWORKS["resnet18_tsm"], recipe=recipe)
    monkeypatch.setitem(catalogue.NETWORKS, "resnet18_tsm", tsm)
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path, ["train.learning_rate=0.25"])[1]
    train = pipeline.settings.train
    assert (train.schedule, train.learning_rate, train.epochs) == ("step", 0.25, 3)  # 3: of the pipeline
    assert pipeline.settings.sampling.num_segments == 4

"""The settings, their defaults and what does not fit together."""

from __future__ import annotations

import pytest
from config_texts import SHIPPED, VALID, problems
from pydantic import ValidationError

from dfer.config.reading import read_config
from dfer.config.settings import ArmSettings, TrainSettings


def test_the_paper_s_values_are_the_defaults_for_real_data():
    settings = next(p for p in read_config(SHIPPED)[1] if p.name == "dfew-full").settings
    train = settings.train
    assert (settings.mixing.alpha, settings.sampling.num_segments, settings.alignment.size) == (0.4, 8, 224)
    assert (train.epochs, train.batch_size, train.optimizer, train.learning_rate) == (450, 8, "sgd", 0.02)
    assert (train.momentum, train.schedule, settings.model.dropout) == (0.9, "cosine", 0.5)
    assert (settings.model.name, settings.model.pretrained) == ("resnet18_tsm", "imagenet")


def test_a_cluster_is_for_runners_that_have_one(tmp_path):
    found = problems(tmp_path, VALID, "run.cluster=tcp://127.0.0.1:8786")
    assert [(key, message) for _, key, message in found] == [
        ("run", "cluster is for task_runner: dask or ray, but it is threads")
    ]
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path, ["run.task_runner=dask", "run.cluster=tcp://127.0.0.1:8786"])[1]
    assert pipeline.run.cluster == "tcp://127.0.0.1:8786"


@pytest.mark.parametrize("written", ["auto", "on", "off"])
def test_on_and_off_are_what_they_say_also_without_quotes(tmp_path, written: str) -> None:
    """YAML reads them as true and false."""
    path = tmp_path / "c.yaml"
    path.write_text(VALID.replace("train:\n", f"train:\n  cuda_graph: {written}\n", 1))
    assert read_config(path)[0].train.cuda_graph == written
    path.write_text(VALID)
    assert read_config(path, [f"train.cuda_graph={written}"])[0].train.cuda_graph == written


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"temperature": 0.5}, "temperature is for normalize: softmax, sharpen, but this arm has normalize: none"),
        ({"normalize": "softmax", "smoothing": 0.2}, "smoothing is for normalize: smooth"),
        ({"focal_gamma": 1.0}, "focal_gamma is for loss: focal, but this arm has loss: cross_entropy"),
        ({"normalize": "sharpen"}, "sharpen does nothing at temperature 1"),
        ({"labels": "hard", "loss": "dirichlet_multinomial"}, "counts of votes: it needs labels: soft"),
        ({"method": "scn", "mixing": "midas"}, "method: scn is about each clip's own label"),
    ],
)
def test_options_of_an_arm_that_go_together(arm: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ArmSettings(**{"labels": "soft", **arm})


def test_calibration_needs_an_inner_part() -> None:
    assert "train.selection to validation" in TrainSettings(calibrate="temperature").problem_with_calibration()
    assert not TrainSettings(calibrate="temperature", selection="validation").problem_with_calibration()
    assert not TrainSettings().problem_with_calibration()

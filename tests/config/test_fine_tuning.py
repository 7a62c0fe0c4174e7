"""Trainings that start from a model that was trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from config_texts import TWO

from dfer.config import fine_tuning
from dfer.config.experiments import Experiment
from dfer.config.reading import read_config

Model = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Makes the folder of a trained model, as far as it is looked at here."""

    def make(name: str, dataset: str, fold: int | None, start: str | None = None) -> str:
        folder = tmp_path / name
        folder.mkdir()
        card = {"model": "resnet18_tsm", "width": 1.0, "classes": [], "dataset": dataset, "fold": fold}
        (folder / "model.json").write_text(json.dumps(card | fine_tuning.for_card(start)))
        (folder / "model.safetensors").write_bytes(b"weights")
        return str(folder)

    return make


def experiment(tmp_path: Path, pretrained: str, name: str = "first") -> Experiment:
    """One of the pipeline `paper`: trained on folds 1 and 2 of dfew, started from that model."""
    path = tmp_path / "c.yaml"
    path.write_text(TWO)
    pipeline = read_config(path, [f"model.pretrained={pretrained}"])[1][0]
    return next(one for one in pipeline.experiments if one.name == name)


def test_a_card_names_every_model_that_the_weights_come_from(model: Model) -> None:
    first = model("first", "dfew", 2)
    second = model("second", "own", None, start=first)
    assert [one.seen for one in fine_tuning.ancestors(second)] == ["own", "dfew, fold 2"]
    assert fine_tuning.for_card(f"{second}/model.safetensors")["fine_tuned_from"][1]["folder"] == first
    for other in (None, "imagenet", "no/weights.pth", str(Path(first).parent)):
        assert fine_tuning.for_card(other) == {}


@pytest.mark.parametrize(
    ("dataset", "fold", "has_folds", "said"),
    [
        ("dfew", 1, True, "fold 2 is tested on"),
        ("dfew", 3, True, "folds 1, 2 are tested on"),
        ("dfew", None, False, ""),
        ("dfew", 1, False, "the test part is tested on"),
        ("other", 1, True, ""),
    ],
)
def test_test_clips_that_the_model_was_trained_on_are_said(
    tmp_path: Path, model: Model, dataset: str, fold: int | None, has_folds: bool, said: str
) -> None:
    one = experiment(tmp_path, model("m", dataset, fold))
    found = fine_tuning.leaks([one, one], {"dfew": has_folds})
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_so_are_those_of_another_data_set_and_of_a_model_further_back(tmp_path: Path, model: Model) -> None:
    first = model("first", "other", 1)
    one = experiment(tmp_path, model("second", "dfew", 1, start=first), "across")
    assert one.evaluate_on == "other"
    (found,) = fine_tuning.leaks([one], {})
    assert found.startswith(f"{first} was trained on other, fold 1, and of other all folds are tested on")
    assert not fine_tuning.leaks([replace(one, evaluate_on="afew")], {})

"""What the name of a model stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfer.config.problems import ConfigError, InputError
from dfer.config.reading import read_config
from dfer.prediction.references import find

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's configuration, with a work directory of its own."""
    folder = tmp_path_factory.mktemp("project")
    written = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())
    written["pipelines"] = {name: written["pipelines"][name] for name in ("demo", "paper-demo")}
    (folder / "pipeline_config.yaml").write_text(yaml.safe_dump(written))
    return folder / "pipeline_config.yaml"


@pytest.fixture
def stages(config: Path) -> Any:
    import shutil

    folder = config.parent / "work" / "stages" / "train"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(config.parent / "work")


def card_of(config: Path, arm: str = "soft", **train: Any) -> dict[str, Any]:
    """The card of a training of an arm of the pipeline `demo`, with some other settings of `train`."""
    _, pipelines = read_config(config)
    (demo,) = (pipeline for pipeline in pipelines if pipeline.name == "demo")
    rows = [row for experiment in demo.experiments for row in experiment.rows(has_folds=True) if row.arm == arm]
    training = rows[0].evaluations[0].training
    settings = training.settings.model_dump(mode="json")
    sections = {name: settings[name] for name in ("mixing", "model", "sampling", "groups", "train", "labels")}
    sections["train"] = {**sections["train"], "precision": "float32", "threads": 7, **train}
    return {
        "model": training.model,
        "dataset": training.dataset,
        "fold": training.fold,
        "settings": {"arm": training.arm.model_dump(mode="json"), **sections},
    }


def finish(stages: Path, name: str, card: dict[str, Any], finished: float) -> Path:
    folder = stages / name
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(card))
    (folder / "manifest.json").write_text(json.dumps({"finished": finished}))
    return folder


def test_the_latest_training_with_the_pipelines_settings(config: Path, stages: Path) -> None:
    finish(stages, "a", card_of(config), 100)
    latest = finish(stages, "b", card_of(config), 300)
    finish(stages, "c", card_of(config), 200)
    finish(stages, "d", card_of(config, "midas"), 500)
    finish(stages, "e", card_of(config, epochs=3), 600)  # newer, but with other settings
    found = find("demo/soft", config=config)
    assert (found.folder, found.notes) == (latest, ())
    assert find("demo/resnet18_tsm/soft", config=config).folder == latest
    assert find("demo/midas", config=config).folder == stages / "d"


def test_without_one_the_latest_of_the_arm_and_that_is_said(config: Path, stages: Path) -> None:
    finish(stages, "a", card_of(config, epochs=3), 100)
    latest = finish(stages, "b", card_of(config, epochs=4), 200)
    found = find("demo/soft", config=config)
    assert found.folder == latest
    assert "other settings" in found.notes[0]


def test_of_several_folds_and_seeds_the_first_and_that_is_said(config: Path, stages: Path) -> None:
    written = yaml.safe_load(config.read_text())
    written["pipelines"]["demo"] |= {"folds": [1, 2], "seeds": [0, 1]}
    several = config.with_name("several.yaml")
    several.write_text(yaml.safe_dump(written))
    card = card_of(config)
    for fold in (2, 1):
        for seed in (1, 0):
            finish(stages, f"{fold}{seed}", {**card_of(config, seed=seed), "fold": fold}, 100)
    found = find("demo/soft", config=several)
    assert found.folder.name == "10"
    assert "4 trainings: taken is that of fold 1, seed 0" in found.notes[0]
    assert "demo/soft@fold2@seed1" in found.notes[0]
    assert find("demo/soft@fold2", config=several).folder.name == "20"
    assert find("demo/soft@fold2@seed1", config=several).folder.name == "21"
    with pytest.raises(InputError, match="no such training"):
        find("demo/soft@fold3", config=several)
    assert card["fold"] == 1


def test_a_training_on_the_data_sets_own_folds_rather_than_on_disjoint_ones(config: Path, stages: Path) -> None:
    written = yaml.safe_load(config.read_text())
    written["pipelines"]["demo"]["experiments"] = {"both": {"title": "Both", "split": "both"}}
    both = config.with_name("both.yaml")
    both.write_text(yaml.safe_dump(written))
    disjoint = finish(stages, "b", {**card_of(config), "split": "disjoint"}, 200)
    with pytest.raises(InputError, match="no such training"):
        find("demo/soft", config=config)  # which has no disjoint folds
    assert find("demo/soft", config=both).folder == disjoint
    own = finish(stages, "a", card_of(config), 100)
    assert find("demo/soft", config=both).folder == own


def test_trainings_that_cannot_be_read_are_left_out(config: Path, stages: Path) -> None:
    (stages / "x").mkdir()
    (stages / "x" / "model.json").write_text("{")
    (stages / "y").mkdir()
    (stages / "y" / "model.json").write_text("{}")
    good = finish(stages, "z", card_of(config), 1)
    assert find("demo/soft", config=config).folder == good


def test_a_folder_or_a_file_in_it(tmp_path: Path, config: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    for name in (str(tmp_path), str(tmp_path / "model.json"), str(tmp_path / "model.safetensors")):
        assert find(name, config=config).folder == tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/model", "does not exist. Expected PIPELINE/ARM"),
        ("soft", "does not exist. Expected PIPELINE/ARM"),
        ("demo/sft", "demo has no arm sft; it has hard, midas, soft"),
        ("demo/soft", "no such training is finished in .*; run it with: dfer run demo"),
        ("demo/soft@best", "expected PIPELINE/ARM"),
        ("runs:/0", "nothing was tracked"),
    ],
)
def test_names_that_stand_for_nothing(name: str, message: str, config: Path) -> None:
    with pytest.raises(InputError, match=message):
        find(name, config=config)


def test_an_unknown_pipeline_and_a_folder_without_a_model(tmp_path: Path, config: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean demo"):
        find("demoo/soft", config=config)
    with pytest.raises(InputError, match=r"holds no model\.json"):
        find(str(tmp_path), config=config)
    with pytest.raises(InputError, match="is not here, which would say what it is"):
        find("demo/soft", config=tmp_path / "pipeline_config.yaml")

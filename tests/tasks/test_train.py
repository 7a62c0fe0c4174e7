"""What determines a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfer.config.experiments import Training, evaluations_of, trainings_of
from dfer.config.reading import load_pipeline
from dfer.config.settings import ArmSettings
from dfer.storage.store import CacheKey, Output
from tasks.train import cache_key, shorter_of

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"
INPUT = Output("ingest", "0" * 16, "build", "folder")


def made_by(*overrides: str) -> CacheKey:
    settings = load_pipeline("demo", CONFIG, overrides, ()).settings
    return cache_key(Training("demo-dfew", 1, ArmSettings(labels="hard"), settings, "hard"), INPUT, INPUT)


@pytest.mark.parametrize("name", ["processes", "micro_batches"])
def test_more_than_one_makes_another_model_and_one_is_not_spoken_of(name: str) -> None:
    assert name not in made_by().key["train"]
    assert made_by(f"train.{name}=1").hash == made_by().hash
    assert made_by(f"train.{name}=2").hash != made_by().hash
    assert made_by(f"train.{name}=2").key["train"][name] == 2


@pytest.mark.parametrize("speed", ["train.cache=none", "train.loader_workers=2", "train.threads=3", "train.device=cpu"])
def test_what_decides_the_speed_alone_makes_the_same_model(speed: str) -> None:
    assert made_by(speed).hash == made_by().hash


def test_a_loss_of_ones_own_makes_another_model_and_the_default_is_not_spoken_of() -> None:
    def key(**arm: str) -> CacheKey:
        settings = load_pipeline("demo", CONFIG, (), ()).settings
        return cache_key(Training("demo-dfew", 1, ArmSettings(labels="hard", **arm), settings, "hard"), INPUT, INPUT)

    assert "loss" not in key(loss="cross_entropy").key["arm"]
    assert key(loss="own:loss").hash != key().hash


def test_only_what_a_table_compares_in_length_is_gone_on_with(tmp_path: Path) -> None:
    def trainings(*overrides: str) -> list[Training]:
        lengths = [
            f"datasets.dfew.root={tmp_path}",
            "pipelines.votes.experiments.length.epochs=[10, 15, 40]",
            "train.monitor_every=5",
        ]
        pipeline = load_pipeline("votes", CONFIG, [*lengths, *overrides], ["length"])
        rows = pipeline.experiments[0].rows(has_folds=True)
        return [one for one in trainings_of(evaluations_of(rows)) if (one.fold, one.seed) == (2, 1)]

    def shorter(made: list[Training]) -> dict[str, str]:
        named = {one.title: shorter_of(one, made) for one in made}
        return {title: one.title for title, one in named.items() if one is not None}

    assert shorter(trainings()) == {}  # a cosine of another length is another schedule
    by_step = trainings("train.schedule=step")
    assert shorter(by_step) == {
        "soft fold 2 seed 1 15 epochs": "soft fold 2 seed 1 10 epochs",
        "soft fold 2 seed 1 40 epochs": "soft fold 2 seed 1 15 epochs",
        "midas fold 2 seed 1 15 epochs": "midas fold 2 seed 1 10 epochs",
        "midas fold 2 seed 1 40 epochs": "midas fold 2 seed 1 15 epochs",
    }
    # after 15 epochs the shorter one looks at its test fold, and the longer one does not
    looking = trainings("train.schedule=step", "train.monitor_every=10")
    assert set(shorter(looking).values()) == {"soft fold 2 seed 1 10 epochs", "midas fold 2 seed 1 10 epochs"}

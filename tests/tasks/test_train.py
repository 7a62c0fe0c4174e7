"""What determines a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfer.config.experiments import Training
from dfer.config.reading import load_pipeline
from dfer.config.settings import ArmSettings
from dfer.storage.store import CacheKey, Output
from tasks.train import cache_key

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

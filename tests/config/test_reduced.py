"""What the report says of a pipeline that is not the paper's."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CONFIG

from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline, pipeline_named, read_config
from dfer.config.reduced import reduced

DEMO = (
    "12 clips of demo-dfew, 12 clips of demo-afew; 1 of 5 folds; 0.25 of the width instead of 1; 64 pixels instead of "
    "224; 120 epochs instead of 450; adamw instead of sgd; onecycle instead of cosine; learning rate 0.004 instead of "
    "0.02; weight decay 0.02 instead of 0.0005; dropout 0.2 instead of 0.5; not pretrained"
)


def pipeline(name: str, *overrides: str) -> Pipeline:
    """Also of data that is not here."""
    return pipeline_named(name, read_config(CONFIG, overrides)[1], CONFIG)


def said(pipeline: Pipeline, folds: int = 5) -> str:
    """Of data sets that have so many folds, and 12 clips each."""
    return reduced(pipeline, dict.fromkeys(pipeline.datasets, 12), dict.fromkeys(pipeline.datasets, folds))


@pytest.mark.parametrize("name", ["dfew-full", "ferv39k", "mafw"])
def test_nothing_is_said_of_the_paper_s_settings(name: str) -> None:
    assert said(pipeline(name), 1) == ""


def test_every_difference_of_the_demo_is_named() -> None:
    assert said(load_pipeline("demo", CONFIG)) == DEMO


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("train.learning_rate=0.03", "learning rate 0.03 instead of 0.02"),
        ("train.batch_size=16", "batches of 16 instead of 8"),
        ("model.dropout=0.2", "dropout 0.2 instead of 0.5"),
        ("train.weight_decay=0.01", "weight decay 0.01 instead of 0.0005"),
        ("train.momentum=0.8", "momentum 0.8 instead of 0.9"),
        ("train.augment.min_scale=0.5", "crops from 0.5 of the side instead of 0.8"),
        ("train.augment.horizontal_flip=0", "mirrored with probability 0 instead of 0.5"),
        ("mixing.alpha=0.2", "alpha 0.2 instead of 0.4"),
        ("train.epochs=500", "500 epochs instead of 450"),
    ],
)
def test_each_setting_of_a_training_that_differs_is_named(override: str, difference: str) -> None:
    assert said(pipeline("dfew-full", override)) == difference


def test_a_network_is_measured_by_the_recipe_that_it_was_published_with() -> None:
    assert said(pipeline("dfew-full", "model.name=former_dfer")) == ""
    text = said(pipeline("dfew-full", "model.name=former_dfer", "train.learning_rate=0.02"))
    assert text == "learning rate 0.02 instead of 0.01"


def test_what_only_some_networks_have_is_said_of_those() -> None:
    parts = said(load_pipeline("paper-demo", CONFIG)).split("; ")
    assert "20 epochs instead of 450" in parts
    assert "48 pixels instead of 112 (resnet18_3d)" in parts
    assert "64 pixels instead of 224 (resnet18_gru, resnet18_tsm)" in parts
    assert "clear expressions above 0.7 instead of 0.9" in parts


@pytest.mark.parametrize(("folds", "part"), [(5, "1 of 5 folds"), (2, "1 of 2 folds"), (1, ""), (0, "")])
def test_folds_are_counted_by_the_data_set_s_own_number(folds: int, part: str) -> None:
    text = said(replace(load_pipeline("demo", CONFIG), folds=(1,)), folds)
    assert part in text
    assert ("folds" in text) == bool(part)


def test_where_weights_come_from_is_said(tmp_path: Path) -> None:
    card = {"model": "resnet18_tsm", "width": 1.0, "classes": [], "dataset": "demo-dfew", "fold": 3}
    card["fine_tuned_from"] = [{"folder": "earlier", "dataset": "dfew", "fold": 1}]
    (tmp_path / "model.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    change = [f"model.pretrained={tmp_path}", "model.width=1.0"]
    text = said(load_pipeline("demo", CONFIG, change), 5)
    assert f"fine-tuned from {tmp_path}, trained on demo-dfew, fold 3, before that on dfew, fold 1" in text
    assert "of demo-dfew fold 1 is tested on: test clips are among those that it was trained on" in text


def test_of_many_networks_their_number_is_said() -> None:
    parts = said(pipeline("networks-demo")).split("; ")
    assert "adamw instead of sgd (12 of 15 networks)" in parts
    assert any(re.fullmatch(r"\d+ epochs instead of 450, 300 or 100 \(\d+ of 15 networks\)", part) for part in parts)
    assert "crops from 0.8 of the side instead of 0.28 or 0.92 (m3dfel, former_dfer, gca)" in parts

"""Names of the configuration: what they stand for, and what is said of one that stands for nothing."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any

import pytest

from dfer.config import catalogue
from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline
from dfer.config.settings import ArmSettings

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("mixing", "midsa", "expected {names}{own}; did you mean midas?"),
        ("normalize", "softmx", "expected {names}{own}; did you mean softmax?"),
        (
            "loss",
            "crossentropy",
            "expected {names}{own}; did you mean cross_entropy?",
        ),
        ("mixing", "x", "expected {names}{own}"),
    ],
)
def test_an_unknown_name_is_a_mistake_in_the_configuration(key: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_pipeline("demo", CONFIG, [f"arms.midas.{key}={name}"], ())
    (problem,) = caught.value.problems
    assert problem.key == f"arms.midas.{key}"
    known = {"mixing": catalogue.MIXINGS, "normalize": catalogue.NORMALIZATIONS, "loss": catalogue.LOSSES}[key]
    message = message.format(names=", ".join(known), own=", or your own as module:attribute")
    assert problem.message == f"{name!r}, {message}"


def test_a_module_that_cannot_be_found_is_one_too() -> None:
    with pytest.raises(ConfigError, match=r"(?s)arms\.midas\.mixing.*there is no module 'nowhere'"):
        load_pipeline("demo", CONFIG, ["arms.midas.mixing=nowhere:mix", "model.pretrained=null"])


def test_lambda_s_options_are_for_mixings_that_draw_it() -> None:
    for options in ({"alpha": 1.0}, {"ratio": "batch"}):
        with pytest.raises(ValueError, match=r"about lambda, which only an arm with mixing: midas, mixup, .* draws"):
            ArmSettings(labels="soft", **options)
        ArmSettings(labels="soft", mixing="midas", **options)
        ArmSettings(labels="soft", mixing="own:mix", **options)


def test_the_loss_is_written_only_where_it_is_not_the_default() -> None:
    """Cache keys, fingerprints and cards from before arms had a loss stay the same."""
    dumps: list[dict[str, Any]] = [
        ArmSettings(labels="soft").model_dump(mode="json"),
        ArmSettings(labels="soft", loss="cross_entropy").model_dump(exclude={"alpha"}),
    ]
    assert all("loss" not in dump for dump in dumps)
    assert list(dumps[0]) == ["labels", "mixing", "normalize", "alpha", "ratio", "votes", "clips", "ambiguous"]
    assert ArmSettings(labels="soft", loss="own:loss").model_dump()["loss"] == "own:loss"


def test_ial_s_weight_is_for_that_loss_and_written_only_where_it_is_not_the_default() -> None:
    for loss in ("cross_entropy", "own:loss"):
        with pytest.raises(ValueError, match=f"ial_weight is for loss: ial, but this arm has loss: {loss}"):
            ArmSettings(labels="soft", loss=loss, ial_weight=0.5)
    assert ArmSettings(labels="soft", loss="ial", ial_weight=0.5).model_dump()["ial_weight"] == 0.5
    for arm in (ArmSettings(labels="soft"), ArmSettings(labels="soft", loss="ial")):
        assert "ial_weight" not in arm.model_dump()
    with pytest.raises(ValueError, match="greater than 0"):
        ArmSettings(labels="soft", loss="ial", ial_weight=0)


def test_names_are_chosen_from_a_dict_or_loaded() -> None:
    assert catalogue.choose("one", {"one": 1}, "number") == 1
    assert catalogue.choose("os.path:join", {}, "function") is os.path.join
    with pytest.raises(ValueError, match=r"unknown number 'on': expected one, .*; did you mean one\?"):
        catalogue.choose("on", {"one": 1}, "number")
    with pytest.raises(ValueError, match="has no 'nothing'"):
        catalogue.choose("os.path:nothing", {}, "function")
    with pytest.raises(ValueError, match="no module 'nowhere'"):
        catalogue.choose("nowhere:mix", {}, "function")


def test_one_s_own_mixing_takes_all_options() -> None:
    assert catalogue.mixing("own:mix") == catalogue.Mixing("own:mix", ("alpha", "ratio"))
    assert catalogue.mixing("none").options == ()


def test_one_s_own_loss_takes_none() -> None:
    assert catalogue.loss("own:loss") == catalogue.Loss("own:loss", ())
    assert catalogue.loss("ial").options == ("ial_weight",)
    with pytest.raises(ValueError, match="unknown loss 'ail': expected cross_entropy, ial"):
        catalogue.loss("ail")

"""The card of a model for people."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_factory import predictions
from toy_set import ToySet

from dfer.analysis import statistics
from dfer.certainty import Certainty
from dfer.config import licences
from dfer.config.experiments import Faces
from dfer.config.settings import StageSettings
from dfer.evaluation import score
from dfer.labels import EMOTIONS
from dfer.prediction.words import about
from dfer.report.model_card import CardFacts, ScoredOn, model_card
from dfer.report.results import SYNTHETIC

CARD = {
    "model": "resnet18_tsm",
    "num_segments": 8,
    "input_size": 64,
    "classes": list(EMOTIONS),
    "settings": {"arm": {"labels": "soft", "mixing": "midas", "normalize": "softmax"}, "train": {"seed": 3}},
    "epoch": 120,
    "chosen_by": "last epoch",
    "versions": {"dfer": "0.1.0"},
    "weights_sha256": "0123456789abcdef0123",
    "dataset": "toy",
    "fold": 1,
    "synthetic_data": True,
}


@pytest.fixture(scope="module")
def facts(toy_set: ToySet) -> CardFacts:
    clips = toy_set.clips.iloc[:-1]
    table = predictions(clips, skill=2.0, seed=1)
    metrics = {**score(table, num_listed=71), "part": "fold 1"}
    return CardFacts(
        title="demo, midas fold 1",
        card=CARD,
        summary={"clips": {"training": 219}, "left_out": {"without aligned face": 5, "without single label": 0}},
        faces=Faces.of("toy", StageSettings()),
        scored=[ScoredOn("toy", "fold 1", table, metrics)],
        certainty=None,
        licences=[licences.GENERATED, licences.of_detector("scrfd-2.5g"), licences.CODE],
    )


def test_everything_that_a_user_must_know_is_there(facts: CardFacts) -> None:
    text = model_card(facts)
    assert text.startswith("# Model card: demo, midas fold 1\n\n> **Synthetic data")
    for part in (
        SYNTHETIC,
        "not a felt emotion",
        "219 clips of toy, without fold 1. Left out: 5 without aligned face.",
        "the shares of annotators' votes, mixed by midas, targets normalised by softmax",
        "`clip-affine`",
        about(None),
        "public domain",
        "non-commercial research alone",
        "Apache License 2.0",
    ):
        assert part in text
    for name in EMOTIONS:
        assert f"| {name} |" in text


def test_its_numbers_are_the_reports_own(facts: CardFacts) -> None:
    (one,) = facts.scored
    table = one.predictions.assign(fold=1, seed=0).astype({"fold": "Int64"})
    interval = statistics.bootstrap(table).interval("war")
    text = model_card(facts)
    shown = f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    assert f"| toy (fold 1) | {shown} |" in text
    assert f"{100 * one.metrics['war']:.1f}" == f"{100 * interval.estimate:.1f}"
    assert "70 of 71" in text
    assert "### By how far people agree" in text


def test_without_votes_and_without_numbers(facts: CardFacts) -> None:
    (one,) = facts.scored
    unvoted = one.predictions.assign(votes=None)
    unvoted.attrs = dict(one.predictions.attrs)
    text = model_card(replace(facts, scored=[replace(one, predictions=unvoted)]))
    assert "By how far people agree" not in text and "### By class" in text
    assert "Nothing was measured." in model_card(replace(facts, scored=[]))


def test_a_model_of_real_data_with_an_inner_part(facts: CardFacts) -> None:
    card = {**CARD, "synthetic_data": False, "fine_tuned_from": [{"folder": "x", "dataset": "dfew", "fold": 1}]}
    summary = {"clips": {"training": 200, "validation": 19}, "left_out": {}}
    certainty = Certainty("an inner validation part", 19, 19, 0.8, None, None, None, (0.5,), (0.4,))
    text = model_card(replace(facts, card=card, summary=summary, certainty=certainty))
    assert SYNTHETIC not in text
    assert "19 more chose its epoch" in text
    assert "Before that it was trained on dfew." in text
    assert "19 clips (an inner validation part)" in text


def test_faces_that_nobody_looked_for(facts: CardFacts) -> None:
    settings = StageSettings.model_validate({"alignment": {"transform": "none", "size": 48}})
    assert "Frames are faces already" in model_card(replace(facts, faces=Faces.of("toy", settings)))


@pytest.mark.parametrize(
    ("layout", "generated", "said"),
    [
        ("dfew", False, "academic research alone"),
        ("dfew", True, "public domain"),
        ("table", False, "mine: a data set of its user's own"),
        ("module:function", False, "mine: a data set of its user's own"),
    ],
)
def test_the_terms_of_data_sets(layout: str, generated: bool, said: str) -> None:
    assert said in licences.of_dataset(layout, "mine", generated=generated)


def test_the_terms_of_weights() -> None:
    assert licences.of_weights(None) == ""
    assert "ImageNet" in licences.of_weights("imagenet")
    assert "/x/y.pth" in licences.of_weights("/x/y.pth")
    assert "user's own" in licences.of_detector("/x/own.onnx")


def test_every_layout_has_its_terms() -> None:
    from dfer.config.catalogue import LAYOUTS

    assert set(LAYOUTS) - {"table"} == set(licences.OF_LAYOUTS)


def test_names_do_not_break_the_page(facts: CardFacts) -> None:
    nasty = replace(facts, title="a|b <script>", card={**CARD, "dataset": "x_*y*"})
    text = model_card(nasty)
    assert "<script>" not in text and "\\<script\\>" in text

"""A table in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from html_page import HtmlPage
from report_factory import aligned, arm, content, facts

from dfer import report
from dfer.analysis import statistics
from dfer.analysis.statistics import Interval
from dfer.report.content import ExperimentResult
from dfer.report.in_words import needed, sentence
from dfer.report.numbers import ExperimentNumbers, Pair, compute
from dfer.report.page import in_brief

NAMES = ("hard", "soft", "midas", "mixup", "cutmix")


@pytest.fixture(scope="module")
def numbers(toy) -> ExperimentNumbers:
    """A table of five arms; what a test says of their differences replaces what was computed."""
    with pytest.MonkeyPatch.context() as patch:
        genuine = statistics.compare
        patch.setattr(statistics, "compare", lambda a, b: genuine(a, b, draws=200))
        rows = tuple(arm(aligned(toy), f"resnet18_tsm/{name}", skill=1.0) for name in NAMES)
        experiment = ExperimentResult("t", "T", "", "scores", "toy-dfew", rows)
        return compute(content(toy.root, experiment, datasets=(facts(toy),))).experiments[0]


def said(numbers: ExperimentNumbers, **differences: tuple[float, float, float, float]) -> str:
    """The sentence of a table with some arms: of each, the difference of WAR to the first, its ends, and Holm's p."""
    arms = [one for one in numbers.arms if one.result.arm in ("hard", *differences)]
    pairs = []
    for pair in numbers.pairs:
        if pair.first is arms[0] and pair.second in arms:
            estimate, low, high, p = differences[pair.second.result.arm]
            war = {"war": Interval(estimate, low, high)}
            changed = replace(pair.comparison, differences={**pair.comparison.differences, **war})
            pairs.append(replace(pair, comparison=changed, corrected={"war": p, "uar": 1.0}))
    result = replace(numbers.result, rows=tuple(one.result for one in arms))
    return sentence(replace(numbers, result=result, arms=tuple(arms), pairs=tuple(pairs)))


def test_who_is_ahead_and_who_cannot_be_told_apart(numbers) -> None:
    assert said(numbers, midas=(0.031, 0.004, 0.058, 0.04), soft=(0.005, -0.019, 0.028, 1)) == (
        "midas is ahead of hard by 3.1 points of WAR [0.4, 5.8]; "
        "soft (+0.5 [−1.9, +2.8]) cannot be told apart from hard."
    )


def test_an_arm_behind_has_its_distance_as_a_number_above_zero(numbers) -> None:
    assert said(numbers, midas=(-0.031, -0.058, -0.004, 0.01)) == (
        "midas is behind hard by 3.1 points of WAR [0.4, 5.8]."
    )


def test_the_largest_difference_comes_first_and_the_first_number_says_of_what_it_is(numbers) -> None:
    ahead = {"soft": (0.02, 0.01, 0.03, 0.01), "midas": (0.1, 0.05, 0.15, 0.01), "mixup": (0.03, 0.01, 0.05, 0.02)}
    assert said(numbers, **ahead, cutmix=(-0.04, -0.07, -0.01, 0.03)) == (
        "ahead of hard are midas by 10.0 points of WAR [5.0, 15.0], mixup by 3.0 [1.0, 5.0] and soft by 2.0 "
        "[1.0, 3.0]; cutmix is behind hard by 4.0 [1.0, 7.0]."
    )


def test_a_difference_that_does_not_pass_the_correction_is_none(numbers) -> None:
    text = said(numbers, soft=(0.083, 0.014, 0.167, 0.17), midas=(0, -0.1, 0.1, 1))
    assert text == (
        "soft (+8.3 points of WAR [+1.4, +16.7], but after correction p is 0.170) and midas (0.0 [−10.0, +10.0]) "
        "cannot be told apart from hard."
    )


def test_what_could_be_chance_says_how_many_clips_it_would_need(numbers) -> None:
    furthest = max((p for p in numbers.pairs if p.first is numbers.arms[0]), key=lambda p: abs(difference(p)))
    text = needed(numbers)
    assert text.startswith(f"Cannot be told apart ({furthest.second.result.arm}, the furthest away): a difference of ")
    size = f"{100 * abs(difference(furthest)):.1f} points would need about"
    assert size in text and "to be seen with 80 % power; here are " in text
    for pair in numbers.pairs:
        brief = in_brief(pair, numbers)
        for claim in brief.claims:
            assert bool(claim.needs) == ("could be chance" in claim.text)
            assert claim.needs in str(brief)
    alone = replace(numbers, pairs=tuple(p for p in numbers.pairs if p is furthest))
    assert needed(alone).startswith("Cannot be told apart: ")
    assert clips_in(needed(alone)) < clips_in(text)  # a single pair needs no correction for the others
    real = replace(furthest.comparison, differences={"war": Interval(0.1, 0.05, 0.15), "uar": Interval(0, 0, 0)})
    sure = replace(furthest, comparison=real, corrected={"war": 0.001, "uar": 1.0})
    assert needed(replace(numbers, pairs=(sure,))) == ""
    assert needed(replace(numbers, pairs=())) == ""


def difference(pair: Pair) -> float:
    return pair.comparison.differences["war"].estimate


def clips_in(text: str) -> int:
    return int(text.split("about ")[1].split(" clips")[0].replace(",", ""))


def test_one_arm_a_missing_first_one_and_other_tables_have_no_sentence(numbers) -> None:
    assert said(numbers) == ""
    gone = replace(numbers.result.rows[0], runs=(), missing_runs=1)
    first_is_gone = replace(numbers.result, rows=(gone, *numbers.result.rows[1:]))
    assert sentence(replace(numbers, result=first_is_gone, arms=numbers.arms[1:])) == ""
    for show in ("temporal", "networks", "confusion", "coexistence"):
        assert sentence(replace(numbers, result=replace(numbers.result, show=show))) == ""
    assert sentence(replace(numbers, result=replace(numbers.result, show="per-class")))


def test_the_sentence_is_below_its_table_wherever_that_is_written(numbers, toy, tmp_path) -> None:
    two = replace(numbers.result, rows=numbers.result.rows[:2])
    report.write(content(toy.root, two, datasets=(facts(toy),)), tmp_path)
    text = json.loads((tmp_path / "in_words.json").read_text())["t"]
    assert "cannot be told apart from hard." in text or "hard by" in text
    assert text in HtmlPage((tmp_path / "report.html").read_text()).text
    assert text in (tmp_path / "report.md").read_text()
    for name in ("report.html", "report.md", "tables/t.md", "tables/t.tex"):
        written = (tmp_path / name).read_text()
        assert "clips to be seen with 80" in " ".join(HtmlPage(written).text.split() if "html" in name else [written])
    assert text in (tmp_path / "tables" / "t.md").read_text()
    assert "points of WAR" in (tmp_path / "tables" / "t.tex").read_text()
    assert "points of WAR" not in (tmp_path / "tables" / "t.csv").read_text()

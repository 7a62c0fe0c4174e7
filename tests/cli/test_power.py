"""`dfer power`, on made-up predictions of finished runs."""

from __future__ import annotations

import re

import pytest
from arm_factory import toy_arm

from tasks.inspection import compare
from tasks.inspection.compare import Compared


@pytest.fixture
def finished(monkeypatch):
    """Makes `find` give two arms with so many seeds."""

    def made(seeds: int) -> None:
        arms = {"demo/soft": 0, "demo/midas": 1}

        def find(names, pipelines, dataset):
            return [Compared(n, 3 * seeds, toy_arm(240, seeds=seeds, strength=1, model=arms[n])) for n in names]

        monkeypatch.setattr(compare, "find", find)

    return made


def test_a_table_of_clips_folds_and_seeds_and_how_many_clips_are_needed(dfer, finished):
    finished(3)
    status, text = dfer("power", "demo/soft", "demo/midas", "--difference", "5")
    assert status == 0, text
    text = " ".join(text.split())
    war, uar = text.split("midas against demo/soft, UAR")
    assert "demo/midas against demo/soft, WAR, on 213 clips, 3 folds, 3 seeds" in war
    assert "Share of experiments that would see a difference of 5.0 points" in war
    rows = re.findall(r"([\d,]+) (1|2|5|10|20|50) (\d+) % (\d+) % (\d+) %", war)
    assert [row[1] for row in rows] == ["1", "2", "5", "10", "20", "50"]
    assert rows[1][0] == "142"
    for column in (2, 3, 4):  # more clips see more
        shares = [int(row[column]) for row in rows]
        assert shares == sorted(shares) and shares[0] < 40 < shares[-1]
    assert int(rows[2][4]) > int(rows[2][2])  # so do more seeds
    assert re.search(r"With 3 seeds, a difference of 5.0 points would need about [\d,]+ clips to be seen", uar)
    assert re.search(r"The runs at hand show a difference of \d+\.\d points or more", uar)
    assert "From seed to seed, the difference varies by" in uar


def test_one_seed_says_nothing_about_others(dfer, finished):
    finished(1)
    status, text = dfer("power", "demo/soft", "demo/midas")
    assert status == 0, text
    assert "3 seeds" not in text
    assert "Train with two seeds or more" in text


def test_a_difference_that_too_many_clips_would_show_is_not_blamed_on_trainings(dfer, finished):
    finished(1)
    status, text = dfer("power", "demo/soft", "demo/midas", "--difference", "0.01")
    text = " ".join(text.split())
    assert status == 0, text
    assert "would see a difference of 0.01 points" in text
    assert "With 1 seed, a difference of 0.01 points would need more than 10,000,000 clips to be seen" in text
    assert "no number of clips" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo/soft"], "two different runs, found demo/soft"),
        (["demo/soft", "demo/midas", "--difference", "0"], "expected points above 0 and below 100"),
        (["demo/soft", "demo/midas", "--set", "work_dir={tmp}"], "run it with: dfer run demo"),
    ],
)
def test_what_cannot_be_is_said(dfer, tmp_path, arguments, message):
    status, text = dfer("power", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert status == 2
    assert message in " ".join(text.split())


def test_arms_that_do_not_differ_say_nothing(dfer, finished, monkeypatch):
    monkeypatch.setattr(compare, "find", lambda names, *_: [Compared(name, 3, toy_arm(90)) for name in names])
    status, text = dfer("power", "demo/soft", "demo/midas")
    assert status == 2
    assert "nothing is known about where they differ" in " ".join(text.split())

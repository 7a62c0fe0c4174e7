"""Who is killed when is decided by the seed, and spread; what differs in the end is said."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fault_evidence import differences
from benchmarks.fault_victims import COMPONENTS
from benchmarks.faults import KILLS_PER_FOLDER, STAGES, Kill, Killed, Log, as_markdown, plan


@given(kills=st.integers(1, 60), seed=st.integers(0, 1000))
def test_kills_are_spread_over_components_and_stages_in_the_stages_order(kills, seed):
    folders = plan(kills, seed)
    every = [kill for folder in folders for kill in folder]
    assert len(every) == kills
    assert plan(kills, seed) == folders
    for counts, names in ((Counter(k.component for k in every), COMPONENTS), (Counter(k.stage for k in every), STAGES)):
        numbers = [counts[name] for name in names]
        assert max(numbers) - min(numbers) <= 1
    for folder in folders:
        assert len(folder) <= KILLS_PER_FOLDER
        places = [STAGES.index(kill.stage) for kill in folder]
        assert places == sorted(places)


def test_differences_are_named():
    assert differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == [
        "b differs",
        "c is missing",
        "d is new",
    ]
    assert differences({"a": "1"}, {"a": "1"}) == []


def test_the_table_counts_what_was_hit_and_says_what_was_lost():
    kills = [
        Killed(Kill("flow", "train", 1.0), folder=1, hit="process 7 of 1", seconds=12.0),
        Killed(Kill("flow", "align", 1.0), folder=1, hit="", seconds=2.0),
        Killed(Kill("mlflow", "train", 1.0), folder=2, hit="mlflow", seconds=4.0),
    ]
    said = as_markdown(Log(0, 100.0, kills, lost={"folder 1": ["results differs"]}), "the command")
    assert "2 kills in 2 runs of the pipeline, 1 lost" in said
    assert "| flow |  |  |  |  | 1 |  |  | 1 | 12, 12 |" in said
    assert "- folder 1: results differs" in said

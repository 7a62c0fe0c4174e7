"""The rule by which the ablation of alignments is decided, on made-up predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation import Tables, decided, over_seeds_and_clips
from dfer.analysis.statistics import Interval


def tables(ahead: float, *, seeds: int = 7, of_seeds: float = 0.0, world: int = 0) -> Tables:
    """Two sets and arms; clip-affine is right `ahead` more often than affine, by seeds with so large a deviation."""
    generator = np.random.default_rng(world)
    shifts = ahead + of_seeds * generator.normal(size=seeds)

    def table(dataset: str, clips: int, chances: np.ndarray) -> pd.DataFrame:
        rows = [
            {"clip_id": f"{dataset}/{clip}", "label": 1, "prediction": int(generator.random() < chance), "seed": seed}
            for seed, chance in enumerate(chances)
            for clip in range(clips)
        ]
        return pd.DataFrame(rows)

    return {
        (dataset, arm): {
            "clip-affine": table(dataset, clips, 0.7 + shifts),
            "affine": table(dataset, clips, np.full(seeds, 0.7)),
        }
        for dataset, clips in (("a", 94), ("b", 72))
        for arm in ("midas", "soft")
    }


def test_the_mean_is_that_of_all_cells_and_a_large_difference_is_seen() -> None:
    made = tables(-0.15)
    wars = {
        key: {name: (table["prediction"] == table["label"]).mean() for name, table in by.items()}
        for key, by in made.items()
    }
    interval = over_seeds_and_clips(made, "affine")
    expected = np.mean([by["clip-affine"] - by["affine"] for by in wars.values()])
    assert interval.estimate == pytest.approx(expected)
    assert interval.low < interval.estimate < interval.high < 0


def test_without_a_difference_the_interval_holds_zero_though_seeds_differ() -> None:
    """Each at 97.5 %; a bootstrap over seven seeds is a little too narrow."""
    held = [
        one.low <= 0 <= one.high
        for world in range(60)
        for one in [over_seeds_and_clips(tables(0.0, of_seeds=0.05, world=world), "affine", draws=500)]
    ]
    assert np.mean(held) >= 0.85
    assert not all(over_seeds_and_clips(tables(0.2, world=w), "affine", draws=500).low <= 0 for w in range(3))


def test_the_default_changes_only_for_one_that_is_ahead_beyond_its_interval() -> None:
    level, behind, far = Interval(-0.01, -0.04, 0.02), Interval(-0.03, -0.05, -0.01), Interval(-0.06, -0.1, -0.02)
    assert decided({"affine": level, "similarity": level}) == "clip-affine"
    assert decided({"affine": Interval(0.05, 0.02, 0.08), "similarity": level}) == "clip-affine"
    assert decided({"affine": behind, "similarity": level}) == "affine"
    assert decided({"affine": behind, "similarity": far}) == "similarity"


def test_seeds_and_clips_have_to_be_the_same() -> None:
    made = tables(0.0)
    made["a", "midas"]["affine"] = made["a", "midas"]["affine"].iloc[1:]
    with pytest.raises(ValueError, match="the same clips for every seed"):
        over_seeds_and_clips(made, "affine")
    made = tables(0.0)
    made["a", "midas"] = {name: table[table["seed"] > 0] for name, table in made["a", "midas"].items()}
    with pytest.raises(ValueError, match="a: expected the same seeds and clips"):
        over_seeds_and_clips(made, "affine")

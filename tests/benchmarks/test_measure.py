from __future__ import annotations

import os
from pathlib import Path

import bench_variants
import pytest

from benchmarks.measure import Measured, MeasurementError, Variant, alone, interleaved


def variant(name: str, function: str, /, **arguments: object) -> Variant:
    return Variant(name, getattr(bench_variants, function), 1, arguments, libraries=())


def test_variants_take_turns_and_the_order_alternates(tmp_path: Path) -> None:
    log = tmp_path / "log"
    measured = interleaved([variant(name, "noting", name=name, log=log) for name in "ab"], rounds=3)
    warm_up, *rounds = [log.read_text().split()[place : place + 2] for place in range(0, 8, 2)]
    assert warm_up == ["a", "b"]
    assert rounds == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert [len(measured[name].seconds) for name in "ab"] == [3, 3]


def test_times_are_per_unit_and_the_first_turn_does_not_count() -> None:
    measured = alone(variant("steady", "steady", units=4, seconds=2.0), rounds=2)
    assert measured.seconds == [0.5, 0.5]
    assert measured.median == 0.5


@pytest.mark.parametrize("turn", [0, 2])
def test_a_failing_variant_is_reported_and_stops_nobody(turn: int) -> None:
    variants = [variant("bad", "raising", turn=turn), variant("good", "steady", units=1, seconds=1.0)]
    measured = interleaved(variants, rounds=3)
    assert measured["bad"].error == "ValueError: no clips on a Sunday"
    assert measured["good"].error == ""
    assert len(measured["good"].seconds) == 3
    assert measured["bad"].median != measured["bad"].median  # nan


def test_a_process_that_dies_is_reported() -> None:
    assert "status 3" in interleaved([variant("bad", "dying")], rounds=1)["bad"].error
    with pytest.raises(MeasurementError, match=r"bad: .* ended with status 3"):
        alone(variant("bad", "dying"))


def test_thread_counts_are_what_was_asked_for() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    assert alone(Variant("threads", bench_variants.threads, 3)).results == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "torch": 3,
        "cv2": 3,
    }
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_memory_of_children_counts() -> None:
    small = alone(variant("small", "hungry_child", megabytes=1)).peak_bytes
    large = alone(variant("large", "hungry_child", megabytes=200)).peak_bytes
    assert 180 * 2**20 < large - small < 220 * 2**20


def test_names_are_unique() -> None:
    same = variant("same", "steady", units=1, seconds=1.0)
    with pytest.raises(ValueError, match="same name"):
        interleaved([same, same], rounds=1)


def test_nothing_measured_is_not_a_number() -> None:
    assert Measured("x", 1).median != Measured("x", 1).median

from __future__ import annotations

import json
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import page
from benchmarks.growth import Curve
from benchmarks.machine import Machine
from benchmarks.measure import Measured
from benchmarks.page import Results
from benchmarks.rows import Row

MACHINE = Machine("A processor", 2, 2**33, "", "3.11.7", {"torch": "2.14.1"}, {1: 60.0, 2: 120.0}, 20.0)


def timing(*seconds: float, name: str = "ours", error: str = "") -> Measured:
    return Measured(name, 2, list(seconds), 2**28, error=error)


ROW = Row("loading", "ready | batches", "clip", timing(0.1, 0.2, 0.3), timing(1.0, 1.2, 1.5, name="folder"), target=7.0)
CURVE = Curve("preprocessing", "clips", (10, 100, 1000), (1.0, 10.0, 100.0), (2**28, 2**28, 2**28), 1.0, "all alike")


def results(*rows: Row, when: str = "2026-01-02T03:04:05+00:00", commit: str = "abc1234") -> Results:
    return Results(when, commit, MACHINE, rows or (ROW,), (CURVE,), ("gpu: not measured.",), {"loading": 3.0})


def test_ratio_is_of_medians_and_its_range_of_the_same_rounds() -> None:
    assert ROW.ratio == pytest.approx(6.0)
    assert ROW.ratio_range == (pytest.approx(5.0), pytest.approx(10.0))
    assert ROW.met is False
    assert ROW.shortfall == pytest.approx(7 / 6)
    assert replace(ROW, target=5.9).met is True
    assert replace(ROW, target=None).met is None


@pytest.mark.parametrize(
    ("row", "value", "shown"),
    [
        (replace(ROW, measure="seconds", target=0.1), 0.2, "missed by 2.00x"),
        (replace(ROW, measure="floor", floor=0.05, target=5.0), 4.0, "met"),
        (replace(ROW, measure="share", share=0.03, target=0.02), 0.03, "missed by 1.50x"),
    ],
)
def test_other_targets_are_upper_bounds(row: Row, value: float, shown: str) -> None:
    assert row.value == pytest.approx(value)
    assert page.verdict(row) == shown


def test_what_failed_is_never_met() -> None:
    row = replace(ROW, theirs=timing(1.0, name="folder", error="KeyError: 'x'"))
    assert row.met is False
    assert page.verdict(row) == "failed: folder: KeyError: 'x'"
    assert math.isnan(row.ratio)
    assert results(row).failed == ["loading, ready | batches: folder: KeyError: 'x'"]
    json.dumps(row.as_dict(), allow_nan=False)


def test_exponents_of_curves() -> None:
    assert CURVE.slope == pytest.approx(1.0)
    assert CURVE.memory_slope == pytest.approx(0.0)
    assert math.isnan(replace(CURVE, points=(10,), seconds=(1.0,), peak_bytes=(1,)).slope)


def test_the_page_shows_everything_and_nothing_of_who_made_it(tmp_path: Path) -> None:
    failing = replace(ROW, name="another", ours=timing(error="ValueError: bad"))
    folder = page.write(results(ROW, failing), tmp_path)
    assert folder.name == "2026-01-02-abc1234"
    text = (folder / "README.md").read_text()
    assert "**6.00x** [5.00–10.00]" in text
    assert "≥ 7x | missed by 1.17x" in text
    assert "failed: ours: ValueError: bad" in text
    assert "ready \\| batches" in text
    assert "A processor, 2 cores, 8 GiB, no GPU" in text
    for picture in ("ratios.png", "growth-1.png"):
        assert f"({picture})" in text
        assert (folder / picture).stat().st_size > 1000
    stored = (folder / "results.json").read_text()
    assert json.loads(stored)["schema_version"] == page.SCHEMA_VERSION
    for secret in (socket.gethostname(), str(tmp_path), str(Path.home())):
        assert secret not in text + stored


def test_a_page_is_compared_with_the_one_before(tmp_path: Path) -> None:
    page.write(results(when="2025-01-01T00:00:00+00:00"), tmp_path)
    slow = replace(ROW, ours=timing(0.4, 0.4, 0.4))
    page.write(results(slow, when="2026-01-01T00:00:00+00:00"), tmp_path)
    page.write(results(replace(ROW, ours=timing(9.0, 9.0, 9.0)), when="2027-01-01T00:00:00+00:00"), tmp_path)
    before = page.previous(tmp_path, "2026-01-02T00:00:00+00:00", MACHINE)
    assert before is not None
    assert before["when"].startswith("2026-01-01")
    assert page.change(ROW, before) == "2.00x faster"
    assert page.change(replace(ROW, ours=timing(0.8)), before) == "2.00x slower"
    assert page.change(replace(ROW, ours=timing(0.36)), before) == "not established"
    assert page.change(replace(ROW, name="never seen"), before) == "new"
    assert page.change(ROW, None) == ""
    text = (page.write(results(), tmp_path) / "README.md").read_text()
    assert "Compared with the page of 2026-01-01, commit abc1234" in text
    assert "2.00x faster" in text


def test_pages_are_never_overwritten(tmp_path: Path) -> None:
    page.write(results(), tmp_path)
    with pytest.raises(FileExistsError):
        page.write(results(), tmp_path)


def test_pages_of_another_schema_are_passed_over(tmp_path: Path) -> None:
    folder = page.write(results(), tmp_path)
    stored = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(stored | {"schema_version": 0}))
    assert page.previous(tmp_path, "2027-01-01T00:00:00+00:00", MACHINE) is None


def test_pages_of_other_machines_are_not_compared_with(tmp_path: Path) -> None:
    page.write(results(), tmp_path)
    assert page.previous(tmp_path, "2027-01-01T00:00:00+00:00", MACHINE) is not None
    assert page.previous(tmp_path, "2027-01-01T00:00:00+00:00", replace(MACHINE, cores=4)) is None


def test_the_terminal_shows_the_same() -> None:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    page.show(results(), None, console)
    text = console.export_text()
    assert "6.00x" in text
    assert "missed by 1.17x" in text
    assert "gpu: not measured." in text

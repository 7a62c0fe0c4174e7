from __future__ import annotations

import pytest

from dfer.analysis.statistics import Interval
from dfer.report.table import (
    DASH,
    NO_CLIPS,
    Cell,
    Column,
    Link,
    build,
    difference,
    number,
    p_value,
    percent,
    points,
    shortened,
)

NAN = float("nan")


def share(text: str) -> Cell:
    return Cell(text, small=("first", "second"), url="http://127.0.0.1/", value=None if text == "–" else float(text))


def of(values: list[str], **options):
    columns = [Column("method", lambda value: Cell(f"m{value}"), text=True), Column("WAR", share, **options)]
    return build("t", "T", columns, values, notes=("a note", "Published: another"))


def test_a_line_has_the_cells_of_the_columns():
    table = of(["0.5", "0.7"])
    assert (table.columns, table.text_columns) == (("method", "WAR"), 1)
    assert [[cell.text for cell in line.cells] for line in table.lines] == [["m0.5", "0.5"], ["m0.7", "0.7"]]
    assert of([]).lines == ()


@pytest.mark.parametrize(
    ("values", "best"),
    [
        (["0.5", "0.7", "0.7", "–"], [False, True, True, False]),
        (["0.5", "0.5"], [False, False]),
        (["0.5"], [False]),
        (["0.5", "–"], [False, False]),
    ],
)
def test_the_largest_number_of_a_column_is_the_best_unless_all_are_the_same(values, best):
    assert [line.cells[1].best for line in of(values, mark_best=True).lines] == best
    assert not any(line.cells[1].best for line in of(values).lines)


def test_the_short_table_has_scores_and_their_intervals_alone():
    columns = [
        Column("method", lambda _: Cell("m", small=("where", "more")), text=True),
        Column("happy", share),
        Column("UAR: difference", share),
        Column("runs", lambda _: Cell("", links=(Link("fold 1", ""),))),
    ]
    table = shortened(build("t", "T", columns, ["0.5"], notes=("a note", "Published: another")))
    assert table.columns == ("method", "UAR: difference")
    assert table.lines[0].cells == (Cell("m", small=("where",)), Cell("0.5", small=("first",), value=0.5))
    assert table.notes == ("a note",)


def test_numbers_in_words():
    assert (percent(0.5744), percent(NAN)) == ("57.4", "–")
    assert [points(value) for value in (0.019, -0.019, 0.0004, -0.0004, NAN)] == ["+1.9", "−1.9", "0.0", "0.0", "–"]
    assert [p_value(value) for value in (0.0004, 0.04, NAN)] == ["< 0.001", "0.040", "–"]
    assert [p_value(value, at_most=True) for value in (0.04, 1.0)] == ["≤ 0.040", "1.000"]


def test_cells_of_numbers():
    assert number(-0.1234) == Cell("−0.123", value=-0.1234)
    assert number(None) == number(NAN) == DASH
    assert difference(Interval(0.02, -0.01, 0.05)) == Cell("+2.0", ("[−1.0, +5.0]",), value=0.02, low=-0.01, high=0.05)
    assert difference(Interval(NAN, NAN, NAN)) == NO_CLIPS

from __future__ import annotations

from pathlib import Path

import pytest

from dfer.config.catalogue import NETWORKS
from dfer.config.published import load

ROW = "{method: M, label: Hard, citation: Somebody 2026, values: {uar: 50, war: 60.5}}"
TABLE = """
mine:
  title: Mine
  dataset: DFEW
  protocol: as always
  source: here
  columns: [uar, war]
  rows:
    - ROW
"""


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(content.replace("ROW", ROW), encoding="utf-8")
    return path


def test_the_papers_tables_say_where_they_are_from() -> None:
    tables = load()
    assert list(tables) == [*(f"table-{number}" for number in range(1, 8)), "disagreement"]
    assert "a manuscript" in tables.pop("disagreement").source
    for number, table in enumerate(tables.values(), start=1):
        assert table.source.endswith(f"arXiv 2503.00202, Table {number}")
        assert all(set(row.values) == set(table.columns) for row in table.rows)


def test_rows_of_ours_are_of_networks_that_there_are() -> None:
    ours = [row.row for table in load().values() for row in table.rows if row.row]
    assert {row.split("/")[0] for row in ours} <= set(NETWORKS)
    assert {row.split("/")[1] for row in ours} == {"hard", "soft", "midas", "midas-hard", "clear", "mixed", "hard-ial"}


def test_numbers_that_appear_in_two_tables_are_the_same() -> None:
    tables = load()
    scores = {(row.row, row.values["war"]) for name in ("table-2", "table-3") for row in tables[name].rows}
    assert len(scores) == 4
    first = next(row for row in tables["table-1"].rows if row.row == "resnet18_tsm/midas")
    assert (first.row, first.values["war"]) in scores


def test_where_the_mean_of_the_classes_is_not_the_uar_the_row_says_so() -> None:
    for row in load()["table-1"].rows:
        classes = [value for name, value in row.values.items() if name not in ("uar", "war")]
        mean = sum(classes) / len(classes)
        if abs(mean - row.values["uar"]) > 0.05:
            assert f"{mean:.2f}, not the UAR of {row.values['uar']:.2f}" in row.note
        else:
            assert "not the UAR" not in row.note


def test_a_users_rows_come_after_the_papers(tmp_path: Path) -> None:
    tables = load([written(tmp_path, "table-2:\n  rows:\n    - ROW\n")])
    assert len(tables["table-2"].rows) == len(load()["table-2"].rows) + 1
    row = tables["table-2"].rows[-1]
    assert (row.method, row.citation, row.row, row.values) == ("M", "Somebody 2026", None, {"uar": 50, "war": 60.5})
    assert tables["table-2"].source == load()["table-2"].source


def test_a_users_table_stands_beside_the_papers(tmp_path: Path) -> None:
    tables = load([written(tmp_path, TABLE)])
    assert list(tables)[-1] == "mine"
    assert (tables["mine"].title, tables["mine"].columns) == ("Mine", ("uar", "war"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("table-2:\n  rows:\n    - ROW\n    - ROW\n", r"table-2: M / Hard / Somebody 2026 is listed 2 times"),
        ("table-2:\n  title: Other\n  rows:\n    - ROW\n", "this table exists"),
        ("table-2:\n  rows: []\n", "expected a list of rows"),
        ("table-2:\n  rows:\n    - {method: M, label: Hard, values: {uar: 5}}\n", r"row 1 \(M\): missing: citation"),
        (
            "table-2:\n  rows:\n    - ROW\n    - {method: N, label: Hard, citation: ' ', values: {uar: 5}}\n",
            r"row 2 \(N\): citation: expected text",
        ),
        (f"table-2:\n  rows:\n    - {ROW.replace('60.5', '101')}\n", r"row 1 \(M\): war: expected percent"),
        (f"table-2:\n  rows:\n    - {ROW.replace('60.5', '-1')}\n", "expected percent"),
        (f"table-2:\n  rows:\n    - {ROW.replace('60.5', '.nan')}\n", "expected percent"),
        (f"table-2:\n  rows:\n    - {ROW.replace('60.5', 'yes')}\n", "expected percent"),
        (f"table-2:\n  rows:\n    - {ROW.replace('60.5', '60,5')}\n", "expected numbers"),
        (f"table-2:\n  rows:\n    - {ROW.replace('uar', 'happy')}\n", "for some of uar, war"),
        (f"table-2:\n  rows:\n    - {ROW.replace('method', 'methods')}\n", "missing: method; unknown: methods"),
        (f"table-2:\n  rows:\n    - {ROW.replace('M,', 'M, row: midas,')}\n", "expected model/arm"),
        ("table-2:\n  rows:\n    - just text\n", "row 1: expected keys"),
        (TABLE.replace("title: Mine", "titel: Mine"), "mine: missing: title; unknown: titel"),
        (TABLE.replace("[uar, war]", "[uar, accuracy]"), "columns: expected some of"),
        (TABLE.replace("[uar, war]", "[uar, uar, war]"), "columns: expected some of"),
        (TABLE.replace("[uar, war]", "[[uar], war]"), "columns: expected some of"),
        (TABLE.replace("[uar, war]", "[uar]"), "values: expected numbers for some of uar, found"),
        ("- 1\n", "expected tables by name"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_files_that_are_not_in_form_are_refused_with_file_and_row(tmp_path: Path, content: str, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        load([path])
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        load([tmp_path / "nowhere.yaml"])

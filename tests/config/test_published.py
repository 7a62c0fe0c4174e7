"""The published numbers against a second transcription of the paper's tables, made without sight of the first.

The files of `transcription/` hold the seven tables as printed, row by row, with references in brackets behind a method.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from dfer.config.published import COLUMNS, PublishedTable, load

TRANSCRIPTION = Path(__file__).with_name("transcription")
NAMES = [f"table-{number}" for number in range(1, 8)]
OURS = " (Ours)"
PAPER = "Kawamura et al. 2025"
# Table 4 has no reference behind "Two VGG13-LSTM"; its title names the data set's paper, where the baseline is from.
TITLE_REFERENCES = {"Two VGG13-LSTM": ["40"]}

Row = dict[str, str]


def transcribed(name: str) -> list[Row]:
    with (TRANSCRIPTION / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture(scope="module")
def published() -> dict[str, PublishedTable]:
    return load()


def test_the_tables_are_those_of_the_paper(published: dict[str, PublishedTable]) -> None:
    assert list(published) == [*NAMES, "disagreement"]  # of a manuscript
    assert sorted(path.stem for path in TRANSCRIPTION.glob("*.csv")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_as_printed(name: str, published: dict[str, PublishedTable]) -> None:
    printed = transcribed(name)
    assert published[name].columns == tuple(column for column in printed[0] if column in COLUMNS)
    assert len(published[name].rows) == len(printed)
    for row, line in zip(published[name].rows, printed, strict=True):
        expected = {column: float(cell) for column, cell in line.items() if column in COLUMNS}
        assert dict(row.values) == expected, line


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_called_as_printed(name: str, published: dict[str, PublishedTable]) -> None:
    for row, line in zip(published[name].rows, transcribed(name), strict=True):
        if "label" in line:
            assert row.label == line["label"]
        if "data" in line:
            assert row.method == line["data"]
        references = re.findall(r"\[(\d+)\]", row.citation)
        if "method" not in line or line["method"].endswith(OURS):
            assert (row.citation, references) == (PAPER, [])
        if "method" in line:
            method, _, cited = line["method"].removesuffix(OURS).partition(" [")
            assert row.method == method
            assert references == (re.findall(r"\d+", cited) or TITLE_REFERENCES.get(method, []))


def test_the_transcription_holds_every_cell() -> None:
    cells = [value for name in NAMES for line in transcribed(name) for key, value in line.items() if key in COLUMNS]
    # Rows times columns of Tables 1 to 7.
    assert len(cells) == 7 * 9 + 3 * 2 + 4 * 2 + 4 * 2 + 3 * 2 + 2 * 2 + 3 * 2
    assert all(re.fullmatch(r"\d{1,2}\.\d{1,2}", cell) for cell in cells)

from __future__ import annotations

import csv
import io
import re

import pytest
from report_factory import named, nasty_table

from dfer.config.published import load
from dfer.report import markdown
from dfer.report.results import SYNTHETIC


def test_markdown_shows_names_as_they_are():
    lines = markdown.as_markdown(nasty_table()).splitlines()
    row = next(line for line in lines if "alert" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "\\<script\\>" in row
    assert "**[1.0](http://127.0.0.1/a_b)**" in row


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("resnet18_tsm [1.0, 2.0]: real", "resnet18_tsm [1.0, 2.0]: real"),
        ("_emphasis_ *strong* `code`", r"\_emphasis\_ \*strong\* \`code\`"),
        ("[text](http://elsewhere)", r"[text\](http://elsewhere)"),
        ("# heading\n- item", r"\# heading - item"),
        ("- item", r"\- item"),
        ("+1.9 [0.7, 3.1]", "+1.9 [0.7, 3.1]"),
        ("<b>&amp; a | b", r"\<b\>\&amp; a \| b"),
    ],
)
def test_markdown_escapes_only_what_has_a_meaning(text, shown):
    assert markdown.escaped(text) == shown


def test_csv_holds_the_unrounded_numbers(written):
    content, folder = written
    lines = list(csv.DictReader(io.StringIO((folder / "tables" / "table-2.csv").read_text())))
    own = [line for line in lines if line["kind"] == "own"]
    for row, line in zip(named(content, "table-2").rows, own, strict=True):
        assert float(line["WAR"]) == pytest.approx(row.runs[0].metrics["war"], abs=1e-12)
        assert float(line["WAR low"]) <= float(line["WAR"]) <= float(line["WAR high"])
    published = [float(line["UAR"]) for line in lines if line["kind"] == "published"]
    assert published == pytest.approx([row.values["uar"] / 100 for row in load()["table-2"].rows])


def test_short_report_has_scores_and_sentences(written):
    text = (written[1] / "report.md").read_text()
    assert len(text) < 20_000
    assert "runs in MLflow" in text
    assert text.count(SYNTHETIC) >= 7
    assert re.search(r"midas against hard \(not converged: .* clips.*\): [+−][\d.]+ WAR", text)
    assert "toy-dfew → toy-afew (val)" in text
    assert "| method | labels | UAR | WAR |" in text

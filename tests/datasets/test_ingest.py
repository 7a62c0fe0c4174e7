from __future__ import annotations

import json
from pathlib import Path

import pytest
from layout_factories import Dfew, write_afew

from dfer.config.catalogue import load
from dfer.datasets import LAYOUTS, Finding, IngestError, IngestReport, inspect, load_clips
from dfer.datasets.report import Problems, findings

NOTE = Finding("seen", "note", "things seen")
WARNING = Finding("odd", "warning", "odd things", 7, ("a", "b", "c", "d", "e"))
ERROR = Finding("bad", "error", "bad things", 2, ("x", "y"))


def test_only_errors_are_fatal() -> None:
    assert not IngestReport("set", "/data", (NOTE, WARNING)).fatal
    assert IngestReport("set", "/data", (NOTE, ERROR)).fatal


def test_the_text_has_counts_then_findings_by_severity() -> None:
    report = IngestReport("set", "/data", (NOTE, WARNING, ERROR), {"clips": 3, "labels": {"happy": 2, "sad": 1}})
    assert report.as_text().splitlines() == [
        "set: /data",
        "  clips: 3",
        "  labels: happy: 2, sad: 1",
        "ERROR bad (2): bad things",
        "  x; y",
        "WARNING odd (7): odd things",
        "  a; b; c; d; e; and 2 more",
        "NOTE seen (1): things seen",
    ]
    assert "nothing to report" in IngestReport("set", "/data", ()).as_text()


def test_the_json_holds_everything() -> None:
    report = IngestReport("set", "/data", (ERROR,), {"clips": 3}, {"list.csv": "00ff"})
    assert json.loads(report.to_json()) == {
        "dataset": "set",
        "root": "/data",
        "fatal": True,
        "findings": [{"code": "bad", "severity": "error", "message": "bad things", "count": 2, "examples": ["x", "y"]}],
        "counts": {"clips": 3},
        "lists": {"list.csv": "00ff"},
    }


def test_findings_count_everything_and_keep_five_printable_examples() -> None:
    problems = Problems()
    problems["odd"] += [f"clip {n}" for n in range(9)]
    problems["bad"].append("a\x1b[2Jb")
    problems["seen"] += []
    rules = {"bad": ("error", "bad things"), "odd": ("warning", "odd things"), "seen": ("note", "things seen")}
    bad, odd = findings(problems, rules)
    assert bad == Finding("bad", "error", "bad things", 1, (r"'a\x1b[2Jb'",))
    assert (odd.count, len(odd.examples)) == (9, 5)
    with pytest.raises(KeyError, match="odd"):
        findings(problems, {"bad": ("error", "bad things"), "seen": ("note", "things seen")})


def test_an_ingest_error_tells_the_whole_report() -> None:
    report = IngestReport("set", "/data", (ERROR, WARNING))
    error = IngestError(report)
    assert error.report is report
    assert report.as_text() in str(error)


def test_layouts_are_known_by_name(tmp_path: Path) -> None:
    assert set(LAYOUTS) == {"dfew", "afew", "ferv39k", "crema-d", "mafw", "ravdess", "ferplus", "table"}
    assert all(callable(load(reference)) for reference in LAYOUTS.values())
    with pytest.raises(ValueError, match=r"'dfwe'; known are dfew, .*, or your own as module:func"):
        inspect("dfwe", tmp_path)


OWN_ADAPTER = """
from dfer.datasets.report import IngestReport
from dfer.datasets.table import ClipRow, from_rows


def inspect(root, *, dataset, source="videos"):
    rows = [ClipRow(f"{dataset}/{path.stem}", dataset, path.name, label=0) for path in root.glob("*.mp4")]
    return from_rows(rows), IngestReport(dataset, f"{root} {source}", ())
"""


def test_an_adapter_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_layout.py").write_text(OWN_ADAPTER, encoding="utf-8")
    (tmp_path / "7.mp4").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(tmp_path))
    table, report = inspect("my_layout:inspect", tmp_path, dataset="mine", source="faces")
    assert list(table["clip_id"]) == ["mine/7"]
    assert report.root == f"{tmp_path} faces"
    with pytest.raises(ValueError, match="name may hold letters"):
        inspect("my_layout:inspect", tmp_path)
    with pytest.raises(ValueError, match="no 'read'"):
        inspect("my_layout:read", tmp_path, dataset="mine")
    with pytest.raises(ValueError, match="on PYTHONPATH"):
        inspect("no_such_layout:inspect", tmp_path, dataset="mine")


@pytest.mark.parametrize("dataset", ["", "a/b", "..", "a b"])
def test_a_data_sets_name_is_a_plain_word(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(ValueError, match="may hold letters"):
        load_clips("afew", tmp_path, dataset=dataset)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    assert len(load_clips("afew", str(write_afew(tmp_path)))) == 21


def test_what_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "annotation.xlsx")

    Dfew().write(tmp_path)
    monkeypatch.setattr("dfer.datasets.dfew.read_annotation", refuse)
    table, report = inspect("dfew", tmp_path)
    assert table.empty
    assert [finding.code for finding in report.findings] == ["unreadable"]
    assert "annotation.xlsx" in report.findings[0].message

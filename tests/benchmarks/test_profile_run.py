"""Where the seconds of a run went, from what it left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.profile_run import as_markdown, profile


def leave(work: Path, stage: str, name: str, seconds: float, counts: dict, made_from: list[tuple[str, str]], **files):
    folder = work / "stages" / stage / name
    folder.mkdir(parents=True)
    manifest = {
        "stage": stage,
        "hash": name,
        "seconds": seconds,
        "counts": counts,
        "created": "2026-01-01T00:00:00Z",
        "made_from": [{"stage": of, "hash": which} for of, which in made_from],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))


@pytest.fixture
def work(tmp_path) -> Path:
    leave(tmp_path, "align", "a", 30.0, {"given": 60, "ok": 60}, [])
    leave(tmp_path, "align", "earlier", 999.0, {"given": 60, "ok": 60}, [])
    leave(tmp_path, "index", "i", 1.0, {"given": 60, "ok": 60}, [("align", "a")])
    epochs = [{"seconds": 20.0, "data_seconds": 2.0}, {"seconds": 20.0, "data_seconds": 1.0}]
    leave(tmp_path, "train", "t", 50.0, {"clips": 40, "epochs": 2}, [("index", "i")], history={"epochs": epochs})
    leave(tmp_path, "evaluate", "e", 9.0, {"listed": 20, "scored": 18}, [("train", "t"), ("index", "i")])
    leave(tmp_path, "report", "r", 10.0, {"evaluations": 1}, [("evaluate", "e"), ("index", "i")])
    return tmp_path


def test_seconds_of_the_newest_report_and_all_that_it_is_made_of(work):
    lines = {(line.stage, line.part): line for line in profile(work)}
    assert {stage: line.seconds for (stage, part), line in lines.items() if not part} == {
        "align": 30.0,
        "index": 1.0,
        "train": 50.0,
        "evaluate": 9.0,
        "report": 10.0,
    }
    parts = {part: line.seconds for (stage, part), line in lines.items() if part}
    assert parts == {"steps": 37.0, "waiting for clips": 3.0, "start, test fold, tracking, pictures": 10.0}
    assert lines["train", ""].clips == 80


def test_the_table_compares_with_the_clock(work):
    text = as_markdown(profile(work), wall=50.0)
    assert "| align | 1 | 60 | 30.0 | 30.0% | 2.0 |" in text
    assert "| stages at a time, on average | | | 2.00 | | |" in text


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished report"):
        profile(tmp_path)

"""The report where a person looks for it is whole at any time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CONFIG

from dfer.config.pipeline import Pipeline
from dfer.config.reading import load_pipeline
from dfer.storage.store import Output, StageResult
from tasks.report import _reduced, copy_report


def reduced(pipeline: Pipeline, folds: int) -> str:
    """The line on how a pipeline falls short, for data sets with so many folds."""
    made = Output("ingest", "0" * 16, "build", "/nowhere", {"clips": 12, "folds": folds})
    return _reduced(pipeline, {name: StageResult(made, "", 0.0) for name in pipeline.datasets})


@pytest.mark.parametrize(("folds", "said"), [(5, "1 of 5 folds"), (2, "1 of 2 folds"), (1, ""), (0, "")])
def test_folds_are_counted_by_the_data_set_s_own_number(folds: int, said: str) -> None:
    text = reduced(replace(load_pipeline("demo", CONFIG), folds=(1,)), folds)
    assert said in text
    assert ("folds" in text) == bool(said)


def test_where_weights_come_from_is_said(tmp_path: Path) -> None:
    card = {"model": "resnet18_tsm", "width": 1.0, "classes": [], "dataset": "demo-dfew", "fold": 3}
    card["fine_tuned_from"] = [{"folder": "earlier", "dataset": "dfew", "fold": 1}]
    (tmp_path / "model.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    change = [f"model.pretrained={tmp_path}", "model.width=1.0"]
    text = reduced(load_pipeline("demo", CONFIG, change), 5)
    assert f"fine-tuned from {tmp_path}, trained on demo-dfew, fold 3, before that on dfew, fold 1" in text
    assert "of demo-dfew fold 1 is tested on: test clips are among those that it was trained on" in text


def test_a_copy_that_breaks_off_leaves_the_report_before_and_the_next_one_replaces_it(tmp_path, monkeypatch):
    report, public = tmp_path / "stage", tmp_path / "reports" / "demo"
    (report / "figures").mkdir(parents=True)
    (report / "report.html").write_text("first")
    (report / "manifest.json").write_text("{}")
    public.parent.mkdir()
    copy_report(report, public)
    (report / "report.html").write_text("second")
    (report / "figures" / "a.png").write_bytes(b"picture")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.report.put_in_place", killed)
    with pytest.raises(KeyboardInterrupt):
        copy_report(report, public)
    monkeypatch.undo()
    assert (public / "report.html").read_text() == "first"
    copy_report(report, public)
    found = {path.relative_to(public).as_posix() for path in public.rglob("*") if path.is_file()}
    assert found == {"report.html", "figures/a.png"}
    assert (public / "report.html").read_text() == "second"
    assert [path.name for path in public.parent.iterdir()] == ["demo"]

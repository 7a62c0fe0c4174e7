"""The report where a person looks for it is whole at any time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_factory import predictions
from tiny import CONFIG
from toy_set import ToySet

from dfer.config.experiments import evaluations_of, trainings_of
from dfer.config.reading import load_pipeline
from dfer.evaluation import score, write_predictions
from dfer.labels import EMOTIONS
from dfer.storage.store import Output, StageResult
from tasks.report import _write_model_cards, copy_report


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


def test_every_model_has_a_card_in_the_report_and_in_its_run(toy_set: ToySet, tmp_path: Path) -> None:
    pipeline = load_pipeline("demo", CONFIG)
    rows = [row for experiment in pipeline.experiments for row in experiment.rows(has_folds=True)]
    evaluations = [one for one in evaluations_of(rows) if one.training.arm_name == "soft"]
    (training,) = trainings_of(evaluations)
    assert [one.across for one in evaluations] == [False, True]
    folder = tmp_path / "stages" / "train" / "t1"
    folder.mkdir(parents=True)
    card = {
        "model": training.model,
        "num_segments": 8,
        "input_size": 64,
        "classes": list(EMOTIONS),
        "settings": {"arm": training.arm.model_dump(mode="json"), "train": {"seed": 0}},
        "epoch": 3,
        "chosen_by": "last epoch",
        "versions": {"dfer": "0.1.0"},
        "weights_sha256": "0" * 64,
        "dataset": training.dataset,
        "fold": 1,
        "synthetic_data": True,
    }
    (folder / "model.json").write_text(json.dumps(card))
    summary = {"clips": {"training": 7}, "left_out": {}}
    (folder / "history.json").write_text(json.dumps({"summary": summary, "epochs": []}))
    scored = {}
    for number, evaluation in enumerate(evaluations):
        place = tmp_path / "stages" / "evaluate" / str(number)
        place.mkdir(parents=True)
        table = predictions(toy_set.clips.iloc[:70], skill=1.0, seed=number)
        write_predictions(table, place / "predictions.parquet")
        (place / "metrics.json").write_text(json.dumps({**score(table, num_listed=70), "part": f"part {number}"}))
        scored[evaluation] = StageResult(Output("evaluate", "0" * 16, "build", str(place)), "", 0.0)
    said: dict[str, str] = {}

    class Run:
        def log_text(self, text: str, name: str) -> None:
            said[name] = text

    report = tmp_path / "report"
    report.mkdir()
    model = StageResult(Output("train", "0" * 16, "build", str(folder)), "", 0.0)
    _write_model_cards(pipeline, {training: model}, scored, {training: Run()}, report)
    (written,) = (report / "model-cards").iterdir()
    assert written.name == "soft-fold-1-00000000.md"
    assert said == {"MODEL_CARD.md": written.read_text()}
    for part in ("# Model card: demo, soft fold 1", "demo-dfew (part 0)", "demo-afew (part 1)", "public domain"):
        assert part in said["MODEL_CARD.md"]

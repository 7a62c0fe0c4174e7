"""A flow run that fails says where, and how to go on: in its error, its log and its page."""

from __future__ import annotations

import pandas as pd
import pytest
from prefect.client.orchestration import get_client


def test_a_failed_stage_is_named_with_the_command_to_go_on(demo, tmp_path):
    detector = tmp_path / "detector.onnx"
    detector.write_bytes(b"a download that broke off")
    with pytest.raises(Exception, match="detector") as raised:
        demo.run(f"detection.model={detector}")
    notes = raised.value.__notes__
    assert "stage: align demo-dfew 0" in notes
    others = [note.split(":")[1].strip() for note in notes if note.startswith("also failed")]
    # of both data sets; the index was not begun, and its missing inputs are no failure of its own
    assert others == [*(f"align demo-dfew {part}" for part in range(1, len(others))), "align demo-afew 0"]
    assert len(others) > 1
    (command,) = (line.strip() for note in notes if note.startswith("To go on") for line in note.splitlines()[1:])
    assert command.startswith("dfer run demo --config ")
    assert command.endswith(f"--set work_dir={demo.work} --set detection.model={detector}")

    with get_client(sync_client=True) as client:
        artifacts = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["how-to-go-on"]}}}
        ).json()
        said = max(artifacts, key=lambda artifact: artifact["created"])
        run = client.read_flow_run(said["flow_run_id"])
    assert run.state is not None and run.state.is_failed()
    assert "- stage: align demo-dfew 0" in said["data"]
    assert f"logs/{run.name}.jsonl`" in said["data"]
    assert command in said["data"]


def test_a_training_that_fails_leaves_a_report_of_the_others(demo, monkeypatch):
    """Of the arms hard and midas; with another alpha the latter is trained anew."""

    def diverges(*_, title, **__):
        raise ValueError(f"{title}: the loss is nan")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.train.with_less_memory", diverges)
        with pytest.raises(ValueError, match="midas fold 1: the loss is nan"):
            demo.run("mixing.alpha=0.7")
    report = demo.work / "reports" / "demo"
    text = (report / "report.md").read_text()
    assert "- train midas fold 1: ValueError: midas fold 1: the loss is nan" in text
    assert "- evaluate midas fold 1 on demo-dfew: not begun, since this is missing: train midas fold 1" in text
    assert set(pd.read_csv(report / "results.csv")["arm"]) == {"hard"}

    outcome = demo.run("mixing.alpha=0.7")
    assert set(pd.read_csv(outcome.report.output.path / "results.csv")["arm"]) == {"hard", "midas"}
    assert "Not complete" not in (report / "report.md").read_text()

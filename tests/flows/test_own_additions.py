"""The examples of the documentation, run as it says."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys

import pandas as pd
import pytest
from tiny import CONFIG, EXAMPLES

from dfer.config.reading import load_pipeline
from dfer.datasets import load_clips
from dfer.labels import EMOTIONS

pytestmark = pytest.mark.timeout(600)


def small(demo) -> list[str]:
    """The overrides but for the pipeline's arms."""
    return [value for value in demo.overrides if not value.startswith("pipelines.")]


@pytest.fixture
def on_path(monkeypatch):
    """The examples' folder is on PYTHONPATH, here and in the processes that are started from here."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")])))


@pytest.mark.parametrize(
    "path", sorted(path for path in EXAMPLES.iterdir() if path.is_file()), ids=lambda path: path.name
)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < 40


def test_an_arm_of_ones_own(demo):
    from flows.midas import midas

    outcome = midas("mine", str(EXAMPLES / "own_arm.yaml"), [*small(demo), "groups.clear_above=0.2"])
    table = pd.read_csv(outcome.report.output.path / "results.csv")
    assert table["arm"].tolist() == ["soft", "midas", "midas-5-votes-clear"]
    assert len(outcome.stages["train"]) == 3


def test_a_network_of_ones_own(demo, on_path):
    network = ["model.name=own_model:MobileFrames", "model.pretrained=null", "model.width=0.25"]
    outcome = demo.run(*network, "pipelines.demo.arms=[midas]")
    cards = [json.loads((made.output.path / "model.json").read_text()) for made in outcome.stages["train"]]
    assert {card["model"] for card in cards} == {"own_model:MobileFrames"}
    assert all(made.executed for made in outcome.stages["train"])


def test_a_network_that_cannot_be_found_is_said_before_anything_runs(tmp_path):
    from dfer.config.problems import ConfigError

    with pytest.raises(ConfigError, match="there is no module 'nowhere'"):
        load_pipeline("demo", CONFIG, ["model.name=nowhere:Net", "model.pretrained=null", f"work_dir={tmp_path}"])


def test_a_data_set_of_ones_own(finished_demo, on_path, tmp_path):
    from flows.midas import midas

    # real videos under the real set's names: two actors a fold in two folds, every emotion, one calm clip
    root, videos = tmp_path / "RAVDESS", sorted(finished_demo.work.glob("stages/demo-data/*/afew/Val_AFEW/*/*.avi"))
    codes = ("01", "03", "04", "05", "06", "07", "08")
    named = [(code, actor) for actor in ("01", "02", "06", "07") for code in codes] + [("02", "01")]
    for number, (code, actor) in enumerate(named):
        target = root / f"Actor_{actor}" / f"01-01-{code}-01-01-01-{actor}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(videos[number % len(videos)], target)
    clips = load_clips("own_dataset:inspect", root, dataset="ravdess")
    assert clips["label"].value_counts().to_dict() == dict.fromkeys(range(len(EMOTIONS)), 4)
    assert clips.groupby("subject")["fold"].unique().map(list).to_dict() == {"01": [1], "02": [2], "06": [1], "07": [2]}

    config = tmp_path / "pipeline_config.yaml"
    config.write_text(
        f"""
datasets: {{ravdess: {{layout: "own_dataset:inspect", root: {root}}}}}
arms: {{hard: {{labels: hard}}}}
pipelines: {{ravdess: {{description: Mine, dataset: ravdess, folds: [1], arms: [hard]}}}}
"""
    )
    overrides = [value for value in small(finished_demo) if not value.startswith(("demo_data", "work_dir"))]
    outcome = midas("ravdess", str(config), [*overrides, "model.pretrained=null", "detection.input_size=320"])
    counts = outcome.indexes["ravdess"].output.counts
    assert (counts["given"], outcome.stages["evaluate"][0].output.counts["listed"]) == (28, 14)
    assert sys.modules["own_dataset"].RULES["left_out"][0] == "note"
    assert "Actor_01/01-01-02-01-01-01-01.mp4" in (outcome.stages["ingest"][0].output.path / "report.txt").read_text()


def test_a_stage_of_ones_own(demo, on_path, monkeypatch):
    from tasks import stages

    own_stage = importlib.import_module("own_stage")
    *phases, last = stages.PHASES
    monkeypatch.setattr(stages, "PHASES", (*phases, (own_stage.STAGE,), last))
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES[:-1], "count", "report"))
    made, cached = demo.run().stages["count"], demo.run().stages["count"]
    assert [result.executed for result in made + cached] == [True, True, False, False]
    counts = pd.read_csv(made[0].output.path / "counts.csv")
    assert counts["label"].tolist() == counts["label"].unique().tolist()
    assert set(counts["label"]) == set(range(len(EMOTIONS)))


def test_the_python_of_the_readme(finished_demo, tmp_path, monkeypatch, capsys):
    (tmp_path / "work").symlink_to(finished_demo.work)
    (tmp_path / "faces").symlink_to(finished_demo.work / "stages" / "align")
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES.parents[1] / "README.md").read_text()
    reading, predicting, quick_start = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(reading, {})
    assert "demo-dfew" in capsys.readouterr().out
    (tmp_path / "result").mkdir()  # the command before it in the README makes it
    shutil.copy(CONFIG, tmp_path)
    exec(predicting.replace("demo/soft", "demo/midas"), {})  # one of the two arms of the small demo
    assert "person" in capsys.readouterr().out
    assert (tmp_path / "result" / "timeline.png").stat().st_size > 10_000
    exec(quick_start, {})
    assert re.fullmatch(r"loss \d+\.\d+\nWAR (0|1)\.\d+\n", capsys.readouterr().out)

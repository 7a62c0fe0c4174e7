"""The command line as a whole: help, mistakes, and what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfer.config.problems import ConfigError, InputError, Problem
from dfer.system.downloads import announce

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "status",
        "doctor",
        "clean",
        "align",
        "predict",
        "demo-data",
        "ferplus-pictures",
        "config check",
        "compare",
        "power",
        "analyse votes",
        "analyse leakage",
    ],
)
def test_help_has_examples(dfer, command):
    status, text = dfer(*command.split(), "--help")
    assert status == 0
    assert f"dfer {command}" in text.split("Examples")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyse", "votes", "cremad", "--out", "x"], "no data set 'cremad'"),
        (["analyse", "votes", "demo-dfew", "--out", "x"], "made by the pipelines"),
        (["compare", "demo/midas"], "two different runs or more"),
        (["compare", "demo/hard", "demo/midas", "--set", "work_dir={tmp}"], "run it with: dfer run demo"),
        (["run", "paper-demo", "--only", "table-9"], "did you mean table-"),
        (["run", "demo", "--only", "table-1", "--plan"], "it has own-test-part"),
    ],
)
def test_what_cannot_be_done_ends_with_status_2_and_says_why(dfer, tmp_path, arguments, message):
    status, text = dfer(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert status == 2
    assert message in text.replace("\n", " ")
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
        ["config", "check", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
        ["align", "x.mp4", "--out", "unused", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
    ],
)
def test_configuration_mistakes_end_with_status_2_and_one_report(dfer, arguments):
    status, text = dfer(*arguments)
    assert status == 2
    assert "2 problems, nothing was started" in text
    assert "did you mean epochs?" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        # the command line: help and mistakes
        ("dfer.cli", "torch cv2 numpy pandas prefect mlflow onnxruntime scipy matplotlib"),
        # what a run with nothing to do needs
        (
            "flows.midas dfer.report.results",
            "torch cv2 mlflow matplotlib onnxruntime insightface scipy statsmodels openpyxl",
        ),
        # the processes of the stages
        ("dfer.faces.videos", "torch torchvision mlflow prefect matplotlib"),
        ("dfer.evaluation dfer.plots", "torch mlflow prefect onnxruntime insightface statsmodels"),
        ("tasks.inspection.estimate", "torch mlflow prefect onnxruntime"),
        # the report's numbers and pages
        ("dfer.report", "torch mlflow prefect onnxruntime insightface"),
    ],
)
def test_nothing_is_loaded_before_it_is_needed(modules, unwanted):
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1].split(): importlib.import_module(module)\n"
        "found = set(sys.modules) & set(sys.argv[2].split())\n"
        "sys.exit(f'{sys.argv[1]} loads {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code, modules, unwanted], check=True, cwd=ROOT)


@pytest.mark.parametrize(("error", "status"), [("InputError", 2), ("ConfigError", 2), ("ValueError", 1)])
def test_an_error_ends_with_its_status(monkeypatch, dfer, error, status):
    def fail(*_: object) -> None:
        errors = {"InputError": InputError("no such thing"), "ValueError": ValueError("no such thing")}
        raise errors.get(error) or ConfigError(Path("c.yaml"), [Problem(1, "a", "no such thing")])

    monkeypatch.setattr("dfer.cli.data.read_config", fail)
    monkeypatch.delenv("DFER_DEBUG", raising=False)
    code, text = dfer("pipelines")
    assert code == status
    assert "no such thing" in text
    assert ("DFER_DEBUG" in text) == (status == 1)


def test_notes_of_an_error_are_printed_and_tracebacks_are_not(monkeypatch, dfer):
    error = KeyError("alone")
    error.add_note("The log of this run: here")
    error.add_note("Traceback (most recent call last): ...")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("dfer.cli.data.read_config", fail)
    monkeypatch.delenv("DFER_DEBUG", raising=False)
    _, text = dfer("pipelines")
    assert text.startswith("KeyError: 'alone'\nThe log of this run: here\n")
    assert "Traceback" not in text


def test_python_without_docstrings(tmp_path):
    """scikit-image, which aligns faces, does not load without its docstrings, and our help has no texts."""
    script = tmp_path / "dfer"
    script.write_text("from dfer.cli import main\nmain()\n")
    environment = {**os.environ, "PYTHONOPTIMIZE": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, script, "align", "--help"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Detect, follow and align" in run.stdout


def test_what_is_fetched_is_said_on_the_screen(dfer, monkeypatch):
    def available():
        announce("weights of [bold]")
        return {}

    monkeypatch.setattr("dfer.models.available", available)
    status, text = dfer("models")
    assert status == 0
    assert text.count("fetching weights of [bold]") == 1

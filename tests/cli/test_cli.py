"""The command line: quick where nothing is to be done, clear where something is wrong."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from dfer import cli

ROOT = Path(__file__).parents[2]


def dfer(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Run the command in this process; its status and what it printed."""
    monkeypatch.setattr(sys, "argv", ["dfer", *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out + captured.err


@pytest.mark.parametrize(
    "command", ["run", "status", "doctor", "clean", "align", "demo-data", "config check", "compare", "analyse votes"]
)
def test_help_has_examples(monkeypatch, capsys, command):
    status, text = dfer(monkeypatch, capsys, *command.split(), "--help")
    assert status == 0
    assert f"dfer {command}" in text.split("Examples")[1]


@pytest.mark.parametrize(("command", "expected"), [("datasets", "demo-afew"), ("pipelines", "dfew-full")])
def test_lists(monkeypatch, capsys, command, expected):
    status, text = dfer(monkeypatch, capsys, command)
    assert status == 0
    assert expected in text


def test_models_are_listed_with_their_size(monkeypatch, capsys):
    status, text = dfer(monkeypatch, capsys, "models")
    assert status == 0
    for name, parameters in (("resnet18_tsm", "11,180,103"), ("resnet18_gru", "11,769,671"), ("r3d_18", "33,169,863")):
        assert name in text
        assert parameters in text


def crema_d(folder: Path) -> Path:
    """CREMA-D as it is without its videos: the real vote table alone."""
    votes = folder / "processedResults" / "tabulatedVotes.csv"
    votes.parent.mkdir(parents=True)
    votes.write_bytes(lzma.decompress((ROOT / "tests/data/crema-d/tabulatedVotes.csv.xz").read_bytes()))
    return folder


def test_votes_are_analysed_without_videos(monkeypatch, capsys, tmp_path):
    root, out = crema_d(tmp_path / "CREMA-D"), tmp_path / "votes"
    arguments = ["analyse", "votes", "crema-d", "--out", str(out), "--set", f"datasets.crema-d.root={root}"]
    status, text = dfer(monkeypatch, capsys, *arguments)
    assert status == 0
    assert "7442 clips, 7442 of them with votes" in text
    assert {path.suffix for path in out.iterdir()} == {".png", ".md", ".json"}


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
def test_what_cannot_be_done_ends_with_status_2_and_says_why(monkeypatch, capsys, tmp_path, arguments, message):
    status, text = dfer(monkeypatch, capsys, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert status == 2
    assert message in text.replace("\n", " ")
    assert "Traceback" not in text


def test_comparing_makes_no_database(monkeypatch, capsys, tmp_path):
    for runs in (["demo/hard", "demo/midas"], ["0" * 32, "1" * 32]):
        status, text = dfer(monkeypatch, capsys, "compare", *runs, "--set", f"work_dir={tmp_path}")
        assert status == 2, text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    root = crema_d(tmp_path / "CREMA-D")
    where = ["--out", str(tmp_path / "file"), "--set", f"datasets.crema-d.root={root}"]
    status, text = dfer(monkeypatch, capsys, "analyse", "votes", "crema-d", *where)
    assert status == 2
    assert "choose another --out" in text.replace("\n", " ")


def test_a_set_whose_videos_are_missing_cannot_run(monkeypatch, capsys, tmp_path):
    where = ["--set", f"datasets.crema-d.root={crema_d(tmp_path / 'CREMA-D')}", "--set", "model.pretrained=null"]
    status, text = dfer(monkeypatch, capsys, "config", "check", "crema-d", *where)
    assert status == 1
    assert "more files are missing (7442) than shards.max_failed_share allows" in text.replace("\n", " ")
    status, text = dfer(monkeypatch, capsys, "run", "crema-d", "--plan", *where)
    assert status == 1
    assert "the files of 7442 of 7442 clips are missing" in text
    # what is only counted needs no videos
    status, text = dfer(monkeypatch, capsys, "run", "crema-d", "--plan", "--only", "figure-5", *where)
    assert status == 0


def test_a_table_alone_asks_for_its_own_data_sets(monkeypatch, capsys, tmp_path):
    (tmp_path / "AFEW").mkdir()
    where = ["--set", f"datasets.afew.root={tmp_path / 'AFEW'}", "--set", f"datasets.dfew.root={tmp_path / 'none'}"]
    status, text = dfer(monkeypatch, capsys, "run", "paper", "--only", "table-2", "--plan", *where)
    assert status == 2
    assert "datasets.dfew.root" in text
    assert "ferv39k" not in text


def test_a_set_without_votes_has_none_to_analyse(monkeypatch, capsys, tmp_path):
    for split in ("Train_AFEW", "Val_AFEW"):
        (tmp_path / "AFEW" / split / "Happy").mkdir(parents=True)
        (tmp_path / "AFEW" / split / "Happy" / f"{split}.avi").write_bytes(b"")
    where = f"datasets.afew.root={tmp_path / 'AFEW'}"
    status, text = dfer(monkeypatch, capsys, "analyse", "votes", "afew", "--out", str(tmp_path / "x"), "--set", where)
    assert status == 1
    assert "votes" in text
    assert not (tmp_path / "x").exists()


def test_a_forecast_runs_and_writes_nothing(monkeypatch, capsys, tmp_path):
    status, text = dfer(monkeypatch, capsys, "run", "paper-demo", "--plan", "--set", f"work_dir={tmp_path / 'work'}")
    assert status == 0
    assert "24 never measured here" in text
    assert "Nothing was run" in text
    assert not (tmp_path / "work").exists()


def test_the_shipped_configuration_is_checked(monkeypatch, capsys):
    assert dfer(monkeypatch, capsys, "config", "check")[0] == 0
    assert dfer(monkeypatch, capsys, "config", "check", "demo")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
        ["config", "check", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
        ["align", "x.mp4", "--out", "unused", "--set", "mixing.alpha=-1", "--set", "train.epoch=2"],
    ],
)
def test_configuration_mistakes_end_with_status_2_and_one_report(monkeypatch, capsys, arguments):
    status, text = dfer(monkeypatch, capsys, *arguments)
    assert status == 2
    assert "2 problems, nothing was started" in text
    assert "did you mean epochs?" in text
    assert "Traceback" not in text


def test_running_without_the_data_set_says_where_it_was_looked_for(monkeypatch, capsys):
    status, text = dfer(monkeypatch, capsys, "run", "dfew-full", "--set", "datasets.dfew.root=/nowhere")
    assert status == 2
    assert "/nowhere does not exist" in text


def test_aligning_what_is_not_there(monkeypatch, capsys, tmp_path):
    status, text = dfer(monkeypatch, capsys, "align", "/nowhere.mp4", "--out", str(tmp_path / "faces"))
    assert status == 2
    assert "/nowhere.mp4 does not exist" in text
    assert not (tmp_path / "faces").exists()


def test_aligning_a_folder_without_videos(monkeypatch, capsys, tmp_path):
    status, text = dfer(monkeypatch, capsys, "align", str(tmp_path), "--out", str(tmp_path / "faces"))
    assert status == 2
    assert "no videos below" in text


def test_demo_data_is_not_mixed_with_other_files(monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.txt").touch()
    status, text = dfer(monkeypatch, capsys, "demo-data", "--out", str(tmp_path), "--clips", "7")
    assert status == 2
    assert "is not empty" in text


def test_the_data_sets_of_a_pipeline_are_looked_into(monkeypatch, capsys, tmp_path):
    where = [word for name in ("dfew", "afew") for word in ("--set", f"datasets.{name}.root={tmp_path}")]
    status, text = dfer(monkeypatch, capsys, "config", "check", "dfew-fold1", *where)
    assert status == 1
    assert text.count("ERROR") >= 2


def test_too_few_demo_clips(monkeypatch, capsys, tmp_path):
    status, _ = dfer(monkeypatch, capsys, "demo-data", "--out", str(tmp_path), "--clips", "3")
    assert status == 2


def test_the_library_stands_without_orchestrator_and_tracker():
    code = (
        "import pkgutil, importlib, sys, dfer\n"
        "for module in pkgutil.walk_packages(dfer.__path__, 'dfer.'): importlib.import_module(module.name)\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'prefect', 'mlflow', 'tasks', 'flows'}\n"
        "sys.exit(f'the library imports {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


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


def test_services_need_a_folder_of_this_machine(monkeypatch, capsys, tmp_path):
    status, text = dfer(monkeypatch, capsys, "services", "status", "--set", "work_dir=s3://bucket/work")
    assert status == 2
    assert "services.folder" in text
    status, text = dfer(monkeypatch, capsys, "services", "status", "--set", f"work_dir={tmp_path}")
    assert status == 1
    assert text.count("stopped") == 4
    assert not list(tmp_path.iterdir())

"""`dfer align`, `demo-data`, `ferplus-pictures`, `datasets`, `pipelines` and `models`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_factories import ferplus_rows, write_ferplus_text
from PIL import ImageDraw
from toy_set import toy_clip

from dfer.cli import data
from dfer.config.settings import ShardSettings
from dfer.shards import write_shard

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("command", "expected"), [("datasets", "demo-afew"), ("pipelines", "dfew-full")])
def test_lists(dfer, command, expected):
    status, text = dfer(command)
    assert status == 0
    assert expected in text


def test_models_are_listed_with_their_size(dfer):
    status, text = dfer("models")
    assert status == 0
    for name, parameters in (("resnet18_tsm", "11,180,103"), ("resnet18_gru", "11,769,671"), ("r3d_18", "33,169,863")):
        assert name in text
        assert parameters in text


def test_aligning_what_is_not_there(dfer, tmp_path):
    status, text = dfer("align", "/nowhere.mp4", "--out", str(tmp_path / "faces"))
    assert status == 2
    assert "/nowhere.mp4 does not exist" in text
    assert not (tmp_path / "faces").exists()


def test_contact_sheets_are_drawn_if_asked_for(dfer, tmp_path, monkeypatch):
    def align_videos(videos, out, **_):
        clip = toy_clip("b.mp4", np.full((3, 40, 40, 3), 90, np.uint8))
        if not out.exists():
            write_shard(out / "0123", iter([clip]), settings=ShardSettings())
        counts = dict.fromkeys(("frames_seen", "frames_with_face", "frames_kept"), 3) | {"turned": 0, "remarks": ""}
        failed = {"clip_id": "a.mp4", "status": "failed", "reason": "no_face", "detail": "", "shard": "", "row": -1}
        kept = {"clip_id": "b.mp4", "status": "ok", "reason": "", "detail": "", "shard": "0123", "row": 0}
        return pd.DataFrame([counts | failed, counts | kept])

    texts = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, **how: (texts.append(text), draw(self, at, text, **how))
    )
    monkeypatch.setattr("dfer.faces.videos.align_videos", align_videos)
    for name in ("a.mp4", "b.mp4", "notes.txt"):
        (tmp_path / name).touch()
    out = tmp_path / "faces [1]"
    status, text = dfer("align", str(tmp_path), "--out", str(out))
    assert status == 0
    assert not list(out.glob("*.jpg"))
    status, text = dfer("align", str(tmp_path), "--out", str(out), "--contact-sheet")
    assert status == 0
    assert f"Look at {out}/contact-sheet-01.jpg: first 1 not kept, then 0 that look odd" in text
    assert {"a.mp4", "b.mp4", "Passed over: .txt files (1)", "notes.txt"} <= set(texts)
    assert (out / "contact-sheet-01.jpg").read_bytes().startswith(b"\xff\xd8")


def test_aligning_a_folder_without_videos(dfer, tmp_path):
    status, text = dfer("align", str(tmp_path), "--out", str(tmp_path / "faces"))
    assert status == 2
    assert "no videos below" in text


def test_what_was_passed_over_is_counted_and_named(capsys):
    names = [f"{number}.txt" for number in range(25)]
    data._print_passed_over({".txt files": names, "links to folders": ["a [/b] \x1b[31m"]})
    printed = " ".join(capsys.readouterr().out.split())
    assert "25 .txt files 0.txt, 1.txt" in printed
    assert "19.txt, and 5 more" in printed
    assert r"1 links to folders a [/b] \x1b[31m" in printed
    data._print_passed_over({})
    assert capsys.readouterr().out == ""


def test_names_that_the_terminal_cannot_show_end_no_command(tmp_path):
    """Where Python takes file names and output for ASCII."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment = kept | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    code = "from dfer import cli; from dfer.cli.common import out; cli.app = lambda: out.print('\\u65e5'); cli.main()"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "\\u65e5\n"
    command = [sys.executable, "-c", "import dfer.cli; dfer.cli.main()", "align", "日.mp4", "--out", tmp_path / "é"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, "Traceback" in run.stderr) == (2, False)
    assert "does not exist" in run.stderr


def test_demo_data_is_not_mixed_with_other_files(dfer, tmp_path):
    (tmp_path / "mine.txt").touch()
    status, text = dfer("demo-data", "--out", str(tmp_path), "--clips", "7")
    assert status == 2
    assert "is not empty" in text


def test_a_folder_that_demo_data_cannot_be_written_to_is_said(dfer, tmp_path):
    (tmp_path / "file").touch()
    status, text = dfer("demo-data", "--out", str(tmp_path / "file" / "demo"), "--clips", "7")
    assert status == 2
    assert "demo cannot be written to (Not a directory): choose another --out" in " ".join(text.split())


def test_too_few_demo_clips(dfer, tmp_path):
    status, _ = dfer("demo-data", "--out", str(tmp_path), "--clips", "3")
    assert status == 2


def test_pictures_of_ferplus_are_written_beside_their_tables_or_elsewhere(dfer, tmp_path):
    rows = ferplus_rows()
    rows["train"] += [["", *[0] * 9, 10], rows["train"][0]]
    root = write_ferplus_text(tmp_path / "FER [2013]", rows)
    for arguments, folder in (([], root), (["--out", str(tmp_path / "out")], tmp_path / "out")):
        status, text = dfer("ferplus-pictures", str(root), *arguments)
        assert status == 0
        assert f"16 pictures in {folder}/FER2013Train" in text
        assert "Left out: 1 without a name" in text
        assert "Left out: 1 with the name of an earlier one: fer0000000.png" in text
        assert len(list((folder / "FER2013Test").glob("*.png"))) == 8
    status, text = dfer("ferplus-pictures", str(tmp_path))
    assert status == 2
    assert "fer2013new.csv does not exist" in text

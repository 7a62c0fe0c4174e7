"""`dfer align`, `demo-data`, `datasets`, `pipelines` and `models`."""

from __future__ import annotations

import pytest


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


def test_aligning_a_folder_without_videos(dfer, tmp_path):
    status, text = dfer("align", str(tmp_path), "--out", str(tmp_path / "faces"))
    assert status == 2
    assert "no videos below" in text


def test_demo_data_is_not_mixed_with_other_files(dfer, tmp_path):
    (tmp_path / "mine.txt").touch()
    status, text = dfer("demo-data", "--out", str(tmp_path), "--clips", "7")
    assert status == 2
    assert "is not empty" in text


def test_too_few_demo_clips(dfer, tmp_path):
    status, _ = dfer("demo-data", "--out", str(tmp_path), "--clips", "3")
    assert status == 2

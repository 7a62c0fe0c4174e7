"""`dfer config check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest


def test_the_shipped_configuration_is_checked(dfer):
    assert dfer("config", "check")[0] == 0
    assert dfer("config", "check", "demo")[0] == 0


def test_the_data_sets_of_a_pipeline_are_looked_into(dfer, tmp_path):
    where = [word for name in ("dfew", "afew") for word in ("--set", f"datasets.{name}.root={tmp_path}")]
    status, text = dfer("config", "check", "dfew-fold1", *where)
    assert status == 1
    assert text.count("ERROR") >= 2


def test_a_set_whose_videos_are_missing_cannot_run(dfer, crema_d):
    where = ["--set", f"datasets.crema-d.root={crema_d}", "--set", "model.pretrained=null"]
    status, text = dfer("config", "check", "crema-d", *where)
    assert status == 1
    assert "more files are missing (7442) than shards.max_failed_share allows" in text.replace("\n", " ")
    status, text = dfer("run", "crema-d", "--plan", *where)
    assert status == 1
    assert "the files of 7442 of 7442 clips are missing" in text
    # what is only counted needs no videos
    status, text = dfer("run", "crema-d", "--plan", "--only", "figure-5", *where)
    assert status == 0


def test_ones_own_clips_are_checked_row_by_row_and_against_the_classes(dfer, tmp_path):
    for clip in range(20):
        (tmp_path / f"{clip}.mp4").write_text(str(clip))
    rows = [f"{clip}.mp4,{('bored', 'engaged')[clip % 2]}" for clip in range(20)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *rows]))
    where = ["config", "check", "own", "--set", f"datasets.own.root={tmp_path}"]
    status, text = dfer(*where)
    assert status == 1
    assert "ERROR no_label_left (2): no clip has a label of this pipeline's classes (happy, " in text
    assert "  bored; engaged" in text
    status, text = dfer(*where, "--set", "labels.classes=[engaged, bored]")
    assert status == 0
    assert "labels: bored: 10, engaged: 10" in text
    rows[6] = "6.mp4,"
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *rows]))
    status, text = dfer(*where, "--set", "labels.classes=[engaged, bored]")
    assert status == 1
    assert "ERROR empty_label (1): rows without a label" in text
    assert "clips.csv row 8" in text


def own_clips(root: Path, labels: Sequence[str], header: str = "path,label", more: Sequence[str] = ()) -> list[str]:
    """Clips with these labels, and more cells a row; the command that checks them."""
    root.mkdir(parents=True, exist_ok=True)
    for clip in range(len(labels)):
        (root / f"{clip}.mp4").write_text(str(clip))
    rows = [",".join(filter(None, row)) for row in zip(names(labels), labels, more or [""] * len(labels), strict=True)]
    (root / "clips.csv").write_text("\n".join([header, *rows]))
    return ["config", "check", "own", "--set", f"datasets.own.root={root}"]


def names(clips: Sequence[object]) -> list[str]:
    return [f"{clip}.mp4" for clip in range(len(clips))]


ENGAGED = ("--set", "labels.classes=[engaged, bored]")


def test_folds_that_the_table_does_not_have_are_an_error(dfer, tmp_path):
    where = own_clips(tmp_path, ["bored", "engaged"] * 8, "path,label,fold", ["2", "2", "3", "3"] * 4)
    status, text = dfer(*where, *ENGAGED)
    assert status == 1
    assert "ERROR no_part (1): nothing to train or test on: set pipelines.NAME.folds" in text
    assert "own has the folds 2, 3; fold 1 is none of them" in text
    assert dfer(*where, *ENGAGED, "--set", "pipelines.own.folds=[2, 3]")[0] == 0


def test_two_clips_are_too_few_and_a_class_that_is_only_tested_is_said(dfer, tmp_path):
    status, text = dfer(*own_clips(tmp_path / "two", ["bored", "engaged"]), *ENGAGED)
    assert status == 1
    assert "ERROR too_few_clips (1)" in text
    assert "own, fold 1: 1" in text
    assert "WARNING one_tested (1)" in text
    labels = ["engaged", "bored", "engaged", "engaged", "bored"]
    where = own_clips(tmp_path / "more", labels, "path,label,fold", ["2", "1", "3", "2", "1"])
    status, text = dfer(*where, *ENGAGED)
    assert status == 0
    assert "WARNING never_trained (1)" in text
    assert "own, fold 1: bored, 2 clips" in text
    assert "one_tested" not in text


@pytest.mark.parametrize("labels", ["soft", "vote"])
def test_soft_labels_need_votes(dfer, tmp_path, labels):
    arm = ("--set", "pipelines.own.arms=[soft]", "--set", f"arms.soft.labels={labels}")
    status, text = dfer(*own_clips(tmp_path, ["bored", "engaged"] * 8), *ENGAGED, *arm)
    assert status == 1
    assert "ERROR no_votes_for_arm (1)" in text
    assert "own has no votes, which soft needs" in text


def test_groups_need_clear_clips_of_every_class(dfer, tmp_path):
    """All voters agree on the bored ones, and on the engaged ones six of ten."""
    groups = [*ENGAGED, "--set", "pipelines.own.arms=[clear, mixed]"]
    where = own_clips(tmp_path, ["10", "4"] * 8, "path,bored,engaged", ["0", "6"] * 8)
    status, text = dfer(*where, *groups)
    assert status == 1
    assert "ERROR no_clear_clips (1): classes without a clear clip" in text
    assert "lower groups.clear_above" in text
    assert "own, fold 1: engaged (none above 0.9)" in text
    status, text = dfer("run", *where[2:], *groups, "--plan")
    assert status == 1
    assert "own, fold 1: no training clip of engaged has a share of its votes above groups.clear_above, 0.9" in text
    assert dfer(*where, *groups, "--set", "groups.clear_above=0.5")[0] == 0


def test_names_of_classes_that_count_as_others_or_are_nowhere(dfer, tmp_path):
    where = own_clips(tmp_path, ["bored", "joy"] * 8)
    status, text = dfer(*where, "--set", "labels.classes=[joy, Boerd]", "--set", "labels.merge={enraged: joy}")
    assert status == 0
    assert "NOTE labels.classes: joy counts as happy; every table and model has that name" in text
    assert "WARNING absent_classes (1)" in text
    assert "boerd; did you mean bored?" in text
    assert "WARNING left_out_classes (1)" in text
    assert "bored: 8 clips, such as own/0.mp4" in text
    assert "WARNING unknown_merges (1)" in text
    assert "enraged" in text


def test_labels_that_cannot_be_used_are_not_counted_as_emotions(dfer, tmp_path):
    status, text = dfer(*own_clips(tmp_path, ["bored", "x" * 70] * 4), *ENGAGED)
    assert status == 1
    assert "bad_label" in text
    assert "happy" not in text


@pytest.fixture
def model(tmp_path) -> Path:
    """The folder of a model that was trained on fold 2 of `own`, as far as the check looks at it."""
    folder = tmp_path / "models" / "0123"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    card = {"model": "resnet18_tsm", "width": 0.25, "classes": ["engaged", "bored"], "dataset": "own", "fold": 2}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def test_a_model_to_start_from_is_of_the_same_network(dfer, tmp_path, model):
    where = [*own_clips(tmp_path, ["bored", "engaged"] * 8), *ENGAGED, "--set", f"model.pretrained={model}"]
    for change in ("model.width=0.5", "pipelines.own.settings.model.name=resnet18_gru"):
        status, text = dfer(*where, "--set", "model.width=0.25", "--set", change)
        assert status == 2
        assert "holds a resnet18_tsm of width 0.25, expected a " in text
        assert "set model.name=resnet18_tsm and model.width=0.25" in text
    (model / "model.json").unlink()
    assert "model.json is missing, or lacks model" in dfer(*where, "--set", "model.width=0.25")[1]
    (model / "model.safetensors").unlink()
    assert "holds no trained model: expected model.safetensors and model.json in it" in dfer(*where)[1]


def test_what_a_model_to_start_from_was_trained_on_is_said(dfer, tmp_path, model):
    where = [*own_clips(tmp_path, ["bored", "engaged"] * 8), *ENGAGED, "--set", f"model.pretrained={model}"]
    where += ["--set", "model.width=0.25", "--set", "model.freeze=true"]
    status, text = dfer(*where)
    assert status == 0
    assert f"NOTE resnet18_tsm is fine-tuned from {model}, trained on own, fold 2, frozen trunk" in text
    assert f"WARNING {model} was trained on own, fold 2, and of own fold 1 is tested on: test clips are among" in text
    status, text = dfer(*where, "--set", "pipelines.own.folds=[2]")
    assert status == 0
    assert "WARNING" not in text

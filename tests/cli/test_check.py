"""`dfer config check`."""

from __future__ import annotations


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

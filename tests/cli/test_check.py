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

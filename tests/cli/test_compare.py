"""`dfer compare` and `dfer analyse votes`."""

from __future__ import annotations


def test_votes_are_analysed_without_videos(dfer, crema_d, tmp_path):
    out = tmp_path / "votes"
    arguments = ["analyse", "votes", "crema-d", "--out", str(out), "--set", f"datasets.crema-d.root={crema_d}"]
    status, text = dfer(*arguments)
    assert status == 0
    assert "7442 clips, 7442 of them with votes" in text
    assert {path.suffix for path in out.iterdir()} == {".png", ".md", ".json"}


def test_comparing_makes_no_database(dfer, tmp_path):
    for runs in (["demo/hard", "demo/midas"], ["0" * 32, "1" * 32]):
        status, text = dfer("compare", *runs, "--set", f"work_dir={tmp_path}")
        assert status == 2, text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(dfer, crema_d, tmp_path):
    (tmp_path / "file").write_text("")
    where = ["--out", str(tmp_path / "file"), "--set", f"datasets.crema-d.root={crema_d}"]
    status, text = dfer("analyse", "votes", "crema-d", *where)
    assert status == 2
    assert "choose another --out" in text.replace("\n", " ")


def test_a_set_without_votes_has_none_to_analyse(dfer, tmp_path):
    for split in ("Train_AFEW", "Val_AFEW"):
        (tmp_path / "AFEW" / split / "Happy").mkdir(parents=True)
        (tmp_path / "AFEW" / split / "Happy" / f"{split}.avi").write_bytes(b"")
    where = f"datasets.afew.root={tmp_path / 'AFEW'}"
    status, text = dfer("analyse", "votes", "afew", "--out", str(tmp_path / "x"), "--set", where)
    assert status == 2
    assert "afew: " in text and "votes" in text
    assert not (tmp_path / "x").exists()


def test_a_source_that_the_layout_does_not_have_is_a_wrong_argument(dfer, tmp_path):
    where = ["--out", str(tmp_path / "x"), "--set", "datasets.dfew.source=clip_224"]
    status, text = dfer("analyse", "votes", "dfew", *where)
    assert status == 2
    assert text == (
        "DFEW has no clips of the kind 'clip_224'; choose one of original, clip_224x224, clip_224x224_16f, "
        "clip_224x224_avi\n"
    )

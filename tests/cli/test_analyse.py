"""`dfer analyse leakage`."""

from __future__ import annotations

import planted
import pytest
from PIL import Image

from tasks.inspection import aligned
from tasks.inspection.aligned import Aligned


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> planted.Planted:
    return planted.make(tmp_path_factory.mktemp("planted"), most=4, each=1)


def test_pairs_are_counted_listed_and_shown(dfer, demo, tmp_path, monkeypatch):
    found = Aligned("demo", demo.clips, demo.index, demo.root)
    monkeypatch.setattr(aligned, "find", lambda dataset, pipelines: found)
    status, text = dfer("analyse", "leakage", "demo-dfew", "--out", str(tmp_path / "out"))
    assert status == 0, text
    text = " ".join(text.split())
    assert "demo-dfew: 7 clips with aligned faces (demo), compared by" in text
    assert "Pairs across the border of a fold: 0 whose subject is the same" in text
    for pair in set().union(*demo.pairs.values()):
        assert " ".join(pair) in text
    rows = (tmp_path / "out" / "pairs.csv").read_text().splitlines()
    assert rows[0] == "first,second,kind,bits,likeness,mirrored,across"
    assert len(rows) == 4
    with Image.open(tmp_path / "out" / "pairs-01.jpg") as picture:
        assert picture.width > 1000 and picture.height > 3 * 64
    assert "pairs-01.jpg" in text

    apart = demo.clips.assign(fold=1).astype({"fold": "Int64"})
    monkeypatch.setattr(aligned, "find", lambda *_: Aligned("demo", apart, demo.index, demo.root))
    status, text = dfer("analyse", "leakage", "demo-dfew", "--out", str(tmp_path / "out"))
    assert status == 0
    assert "No clip gives away one of another fold." in text
    # what decides disjoint folds can be looked at also where nothing leaks
    assert (tmp_path / "out" / "pairs-01.jpg").exists()

    loose = demo.clips["clip_id"] == rows[1].split(",")[0]
    none = demo.clips.assign(fold=demo.clips["fold"].mask(loose))
    monkeypatch.setattr(aligned, "find", lambda *_: Aligned("demo", none, demo.index, demo.root))
    status, text = dfer("analyse", "leakage", "demo-dfew", "--out", str(tmp_path / "out"))
    assert "Clips in no fold: 1; pairs that join one of them with a clip that is in one: 1; these leak" in " ".join(
        text.split()
    )


def test_a_folder_that_cannot_be_written_is_said_before_the_work(dfer, demo, tmp_path, monkeypatch):
    monkeypatch.setattr(aligned, "find", lambda *_: Aligned("demo", demo.clips, demo.index, demo.root))
    monkeypatch.setattr("dfer.analysis.signatures.of_clips", lambda *_: pytest.fail("looked at clips"))
    (tmp_path / "file").write_text("")
    status, text = dfer("analyse", "leakage", "demo-dfew", "--out", str(tmp_path / "file"))
    assert status == 2 and "choose another --out" in " ".join(text.split())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("dfwe", "no data set 'dfwe'"),
        ("demo-dfew", "the faces of demo-dfew are not aligned yet"),
    ],
)
def test_what_is_missing_is_said(dfer, tmp_path, dataset, message):
    where = ["--out", str(tmp_path / "out"), "--set", f"work_dir={tmp_path / 'work'}"]
    status, text = dfer("analyse", "leakage", dataset, *where)
    assert status == 2, text
    assert message in " ".join(text.split())
    assert not (tmp_path / "out").exists()

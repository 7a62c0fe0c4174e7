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
    assert "No clip gives another one away." in text
    assert not (tmp_path / "out" / "pairs-01.jpg").exists()


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

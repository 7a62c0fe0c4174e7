from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from layout_factories import FERPLUS_PARTS, ferplus_picture, ferplus_rows, write_ferplus, write_ferplus_text

from dfer.config.problems import InputError
from dfer.datasets import inspect
from dfer.datasets.ferplus_pictures import Written, write_pictures

TRAIN, VAL, TEST = FERPLUS_PARTS.values()
NOTHING_SEEN = ["", *[0] * 9, 10]


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_layout_is_written_as_the_adapter_reads_it(tmp_path: Path) -> None:
    write_ferplus_text(tmp_path, ferplus_rows())
    counted: list[int] = []
    written = write_pictures(tmp_path, tmp_path, on_picture=lambda: counted.append(1))
    assert written == Written({TRAIN: 16, VAL: 8, TEST: 8}, 0, ())
    assert len(counted) == 32
    table, report = inspect("ferplus", tmp_path)
    assert report.findings == ()
    expected, _ = inspect("ferplus", write_ferplus(tmp_path / "expected"))
    for column in ("clip_id", "source", "votes", "label", "split"):
        assert table[column].tolist() == expected[column].tolist()
    picture = cv2.imread(str(tmp_path / TEST / "fer0000031.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture, ferplus_picture(31))


def test_rows_go_together_by_their_order_and_not_by_the_number_in_a_name(tmp_path: Path) -> None:
    rows = ferplus_rows()
    rows["train"].insert(3, list(NOTHING_SEEN))  # from here on, names are one behind their rows
    rows["train"].append([rows["train"][0][0], *NOTHING_SEEN[1:]])
    written = write_pictures(write_ferplus_text(tmp_path, rows), tmp_path / "out")
    assert written == Written({TRAIN: 16, VAL: 8, TEST: 8}, 1, ("fer0000000.png",))
    for name, row in (("fer0000000", 0), ("fer0000002", 2), ("fer0000003", 4)):
        picture = cv2.imread(str(tmp_path / "out" / TRAIN / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(picture, ferplus_picture(row))
    _, report = inspect("ferplus", tmp_path / "out")
    assert report.findings == ()


def test_a_call_that_was_interrupted_is_repeated_and_changes_nothing_that_is_there(tmp_path: Path) -> None:
    write_ferplus_text(tmp_path, ferplus_rows())
    out = tmp_path / "out"

    def stop() -> None:
        if (out / TRAIN / "fer0000011.png").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path, out, on_picture=stop)
    assert not (out / TRAIN / "label.csv").exists()
    (out / TRAIN / "fer0000005.png").write_bytes(b"")  # a disk that lost its power
    (out / TRAIN / "fer0000006.png").write_bytes(b"\x89PNG")
    before = contents(out)
    write_pictures(tmp_path, out)
    after = contents(out)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {f"{TRAIN}/fer0000005.png", f"{TRAIN}/fer0000006.png"}
    assert len(after) == 32 + 3
    write_pictures(tmp_path, out)
    assert contents(out) == after
    assert inspect("ferplus", out)[1].findings == ()


def test_other_pictures_and_lists_are_not_overwritten(tmp_path: Path) -> None:
    write_ferplus_text(tmp_path, ferplus_rows())
    out = write_ferplus(tmp_path / "out")
    write_pictures(tmp_path, out)
    before = contents(out)
    cv2.imwrite(str(out / TEST / "fer0000031.png"), ferplus_picture(0))
    with pytest.raises(InputError, match=r"fer0000031\.png is another picture .* choose another --out"):
        write_pictures(tmp_path, out)
    (out / VAL / "label.csv").write_text("fer0000016.png,1,0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(InputError, match=r"label\.csv holds other votes .* choose another --out"):
        write_pictures(tmp_path, out)
    assert contents(out).keys() == before.keys()


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    def make(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: (root / "fer2013.csv").unlink(), r"fer2013\.csv does not exist; .* both have to"),
        (lambda root: (root / "fer2013new.csv").unlink(), r"fer2013new\.csv does not exist"),
        (lambda root: (root / "fer2013new.csv").write_bytes(b"\xff\xfe"), "is no CSV file"),
        (edited("fer2013new.csv", "contempt", "scorn"), "needs a column contempt; it has usage, image name, neutral"),
        (edited("fer2013new.csv", "Training", "Test"), r"row 2: Usage is 'Test', expected one of Training, PublicTest"),
        (edited("fer2013new.csv", "fer0000000.png", "../a.png"), r"row 2: '\.\./a\.png' is no picture's name"),
        (edited("fer2013new.csv", "fer0000000.png,8", "fer0000000.png,0.8"), r"row 2: expected 10 votes .* 0\.8, 2"),
        (edited("fer2013.csv", "Training", "PublicTest"), r"row 2 is not of the same picture as that of fer2013new"),
        (edited("fer2013.csv", "\n0,", "\n0,256 "), r"row 2: expected 48 x 48 pixels from 0 to 255, found '256 "),
        (edited("fer2013.csv", "\n0,", "\n0,7 "), r"row 2: expected 48 x 48 pixels"),
        (
            lambda root: (root / "fer2013.csv").write_text(
                "".join((root / "fer2013.csv").read_text().splitlines(keepends=True)[:-1])
            ),
            r"has 31 pictures, expected 32",
        ),
        (
            lambda root: (root / "fer2013new.csv").write_text(
                "".join((root / "fer2013new.csv").read_text().splitlines(keepends=True)[:-1])
            ),
            r"row 33 is not of the same picture",
        ),
    ],
)
def test_what_is_wrong_with_the_tables(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(write_ferplus_text(tmp_path, ferplus_rows()))
    with pytest.raises(InputError, match=message):
        write_pictures(tmp_path, tmp_path)
    assert not list(tmp_path.rglob("label.csv"))

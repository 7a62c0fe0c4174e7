"""Contact sheets: what is on which page, that problems come first, and that memory does not grow with the clips."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from PIL import ImageDraw
from report_factory import content
from toy_set import toy_clip
from videos import plain, write_video

from dfer.config.settings import ShardSettings
from dfer.report import contact_sheet, sheet_pages
from dfer.report.contact_sheet import write_contact_sheets
from dfer.report.content import DatasetFacts
from dfer.shards import Clip, Shard, ShardError, write_shard

GREEN, BLUE = (10, 200, 30), (20, 40, 220)
NAMES = (
    "Interview [part 1] [/b].mp4",
    "two\nlines\t.mp4",
    "caf\\xe9.mp4",
    "not utf-8 \udce9.mp4",
    "😀👍🏽 日本語 \u202egnp.mp4",
    "x" * 254,
    "",
    "<script>&amp; 100 % {0} %s \\",
)


def failed(name: str, reason: str = "no_face", **values: Any) -> dict[str, Any]:
    return {"clip_id": name, "status": "failed", "reason": reason, "detail": "", "shard": "", "row": -1, **values}


def made(root: Path, clips: list[Clip], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """An align index of clips in one shard, and of rows for other clips."""
    write_shard(root / "shard", iter(clips), settings=ShardSettings())
    kept = [
        {
            "clip_id": clip.clip_id,
            "status": "ok",
            "reason": "",
            "detail": "",
            "shard": "shard",
            "row": row,
            "frames_seen": len(clip),
            "frames_kept": len(clip),
        }
        for row, clip in enumerate(clips)
    ]
    return pd.DataFrame([*kept, *rows])


def coloured(name: str, colour: tuple[int, int, int], length: int = 5, **arrays: Any) -> Clip:
    clip = toy_clip(name, np.broadcast_to(np.array(colour, np.uint8), (length, 40, 40, 3)).copy())
    return Clip(**{**clip.__dict__, **arrays})


def read(path: Path) -> np.ndarray:
    return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")


def area(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 25).sum())


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn."""
    drawn: list[str] = []
    draw: Callable[..., None] = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, at: tuple[float, float], text: str, **how: Any) -> None:
        drawn.append(text)
        draw(self, at, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return drawn


def test_a_page_has_the_crops_of_a_clip(tmp_path: Path) -> None:
    between = np.array([False, True, False])
    clips = [coloured("green", GREEN, 30), coloured("blue", BLUE, 3, interpolated=between)]
    sheets = write_contact_sheets(made(tmp_path, clips, []), tmp_path, tmp_path / "out", title="two")
    assert [path.name for path in sheets.pages] == ["contact-sheet-01.jpg"]
    page = read(sheets.pages[0])
    tile = sheet_pages.TILE**2
    assert area(page, GREEN) == pytest.approx(8 * tile, rel=0.05)  # of 30 frames, eight
    assert area(page, BLUE) == pytest.approx(3 * tile, rel=0.15)  # all three of them
    red, green, blue = np.moveaxis(page.astype(int), 2, 0)
    yellow = (red > 150) & (green > 110) & (blue < 120)  # JPEG mixes it with the blue beside it
    assert 4 * 60 < yellow.sum() < 4 * 64 * 4  # the edge of one of them


def test_every_clip_is_on_a_page_and_problems_come_first(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet_pages, "HEIGHT", 500)
    clips = [
        coloured(f"kept {number}", GREEN, scores=np.full(5, 0.4 if number == 7 else 0.9, np.float32))
        for number in range(30)
    ]
    rows = [failed(f"failed {number}", ("no_face", "undecodable")[number % 3 == 0]) for number in range(40)]
    index = made(tmp_path, clips, rows)
    sheets = write_contact_sheets(
        index, tmp_path, tmp_path / "out", title="many", passed_over={".txt files": ["notes.txt"]}
    )
    assert (sheets.not_kept, sheets.odd) == (40, 1)
    assert len(sheets.pages) > 5
    assert all(read(path).shape[0] <= 500 for path in sheets.pages)
    places = {text: place for place, text in reversed(list(enumerate(texts)))}
    assert set(index["clip_id"]) <= set(texts)
    order = ["Not kept: no face (26)", "Not kept: undecodable (14)"]
    order += ["Passed over: .txt files (1)", "Kept, but odd: low score (1)"]
    assert [text for text in sorted(places, key=lambda text: places[text]) if text in order] == order
    assert places["failed 39"] < places["notes.txt"] < places["kept 7"] < places["kept 0"] < places["kept 29"]
    assert "70 clips: 30 kept (1 odd), 40 not kept; files passed over: 1" in texts
    assert f"page {len(sheets.pages)} of {len(sheets.pages)}" in texts


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_drawn(tmp_path: Path, texts: list[str], name: str) -> None:
    rows = [failed("another")]
    if "\udce9" not in name:  # the index is UTF-8
        rows.append(failed(name, detail=f"{name}: is no video"))
    write_contact_sheets(pd.DataFrame(rows), tmp_path, tmp_path / "out", title=name, passed_over={name: [name]})
    known = sheet_pages._characters()
    assert all(char.isprintable() and ord(char) in known for text in texts for char in text)


def test_names_that_the_font_does_not_have_stay_apart() -> None:
    assert sheet_pages.drawable("日本") == "\\u65e5\\u672c"
    assert sheet_pages.drawable("é\n[b]") == "é\\n[b]"


def test_long_texts_fit() -> None:
    font = sheet_pages._font(12)
    short = sheet_pages.fitted("start" + "x" * 300 + "end", 200, font)
    assert short.startswith("start")
    assert short.endswith("end")
    assert font.getlength(short) <= 200
    words = "expected a video, " * 30
    lines = list(sheet_pages.wrapped(words, 300, 3, font))
    assert len(lines) == 3
    assert lines[0].endswith("expected a")
    assert max(map(font.getlength, lines)) <= 300
    assert list(sheet_pages.wrapped("a word", 300, 3, font)) == ["a word"]
    assert "".join(sheet_pages.wrapped("y" * 100, 300, 9, font)) == "y" * 100


def test_clips_without_a_face_show_a_frame(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    blue = write_video(tmp_path / "blue.mp4", [plain(BLUE[::-1])] * 3)
    rows = [
        failed("seen", frames_seen=3, detail="best score 0.1", remarks="HLG"),
        failed("gone", frames_seen=3, detail="best score 0.2"),
        failed("never decoded", "error"),
    ]
    sources = {"seen": blue, "gone": tmp_path / "gone.mp4", "never decoded": blue}
    monkeypatch.setattr(contact_sheet, "QUALITY", 100)
    (page,) = write_contact_sheets(pd.DataFrame(rows), tmp_path, tmp_path / "out", title="three", sources=sources).pages
    assert {"best score 0.1; HLG", "best score 0.2"} <= set(texts)
    # 64 pixels high, 48 x 64 / 48 wide, and not a second time for what may crash the process
    assert area(read(page), BLUE) == pytest.approx(64 * 85, rel=0.1)


def test_a_report_has_sheets_of_each_data_set(tmp_path: Path, texts: list[str]) -> None:
    write_video(tmp_path / "blue.mp4", [plain(BLUE[::-1])] * 3)
    index = made(tmp_path, [coloured("green", GREEN)], [failed("seen", frames_seen=3)])
    clips = pd.DataFrame({"clip_id": ["green", "seen", "votes alone"], "source": ["a.mp4", "blue.mp4", "b.mp4"]})
    datasets = (
        DatasetFacts("A B", clips, index, "", None, False, root=tmp_path),
        DatasetFacts("votes", clips, None, "", None, False),
        DatasetFacts("a-b", clips, index, "", None, False),
    )
    sheets = contact_sheet.of_datasets(content(tmp_path, datasets=datasets), tmp_path / "report")
    assert sheets == {"A B": ["contact-sheets/1-a-b-01.jpg"], "a-b": ["contact-sheets/3-a-b-01.jpg"]}
    with_video, without = (read(tmp_path / "report" / page) for (page,) in sheets.values())
    assert min(area(with_video, GREEN), area(without, GREEN)) > 5 * 60 * 60
    assert area(with_video, BLUE) > 60 * 80
    assert area(without, BLUE) == 0


def test_one_clip_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Clip] = weakref.WeakSet()
    most = 0
    reading = Shard.read

    def read_clip(self: Shard, *arguments: Any) -> Clip:
        nonlocal most
        most = max(most, len(alive))
        clip = reading(self, *arguments)
        assert len(clip) <= sheet_pages.TILES
        alive.add(clip)
        return clip

    monkeypatch.setattr(Shard, "read", read_clip)
    index = made(tmp_path, [coloured(str(number), GREEN, 20) for number in range(60)], [])
    write_contact_sheets(index, tmp_path, tmp_path / "out", title="sixty")
    assert most <= 1


def test_an_even_sample_is_said(tmp_path: Path, texts: list[str]) -> None:
    rows = [failed(f"failed {number}") for number in range(20)]
    index = made(tmp_path, [coloured(f"kept {number}", GREEN) for number in range(20)], rows)
    sheets = write_contact_sheets(index, tmp_path, tmp_path / "out", title="some", most=3)
    assert sheets.not_kept == 20
    assert "Not kept: no face (an even sample of 3 of 20)" in texts
    assert "Kept (an even sample of 3 of 20)" in texts
    assert {"kept 0", "kept 19", "failed 0", "failed 19"} <= set(texts)
    assert sum(text.startswith(("kept", "failed")) for text in texts) == 6


def test_pages_of_an_earlier_call_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("contact-sheet-09.jpg", "contact-sheet-x.jpg", "a-contact-sheet-09.jpg"):
        (tmp_path / name).touch()
    write_contact_sheets(pd.DataFrame([failed("a")]), tmp_path, tmp_path, title="one")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-contact-sheet-09.jpg",
        "contact-sheet-01.jpg",
        "contact-sheet-x.jpg",
    ]


def test_nothing_at_all_is_a_page(tmp_path: Path, texts: list[str]) -> None:
    (page,) = write_contact_sheets(pd.DataFrame([failed("a")])[:0], tmp_path, tmp_path, title="none").pages
    assert read(page).shape[1] == sheet_pages.WIDTH
    assert "0 clips: 0 kept (0 odd), 0 not kept" in texts


def test_a_shard_that_is_gone_is_an_error(tmp_path: Path) -> None:
    index = made(tmp_path, [coloured("a", GREEN)], [])
    with pytest.raises(ShardError, match="expected clips"):
        write_contact_sheets(index, tmp_path / "elsewhere", tmp_path, title="one")

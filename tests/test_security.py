"""Files that somebody else made: what they ask for beyond their content is not done."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import av
import numpy as np
import openpyxl
import pytest

from dfer.datasets import dfew_lists, workbook
from dfer.datasets.report import Problems
from dfer.faces.model_files import ModelFileError, detector_file
from dfer.video import Video, VideoError

# makes a list of files look like something other than text
NOT_TEXT = b"\n#\xff\0\n"


@pytest.fixture
def video(tmp_path) -> Path:
    """A video of five frames, in a folder of its own."""
    path = tmp_path / "private" / "secret.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for level in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frames_in(path: Path) -> int:
    video = Video(path)
    return sum(1 for _ in video.frames(range(video.num_frames)))


def test_a_file_that_names_another_in_place_of_a_video_is_not_followed(video):
    listing = video.with_name("clip.mp4")
    listing.write_bytes(b"ffconcat version 1.0\nfile secret.mp4" + NOT_TEXT)
    assert frames_in(video) == 5
    with pytest.raises(VideoError, match="not_a_video"):
        frames_in(listing)


@pytest.mark.parametrize("name", ["clip.m3u8", "clip.mp4"])
@pytest.mark.parametrize("address", ["{video}", "http://127.0.0.1:9/clip.ts"])
def test_a_playlist_is_not_followed_wherever_it_leads(video, tmp_path, name, address):
    playlist = tmp_path / name
    entry = address.format(video=video)
    playlist.write_bytes(
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + entry.encode() + b"\n#EXT-X-ENDLIST" + NOT_TEXT
    )
    with pytest.raises(VideoError, match="not_a_video"):
        frames_in(playlist)


def annotation(root: Path, changed: dict[str, bytes]) -> Path:
    """A workbook whose parts in `changed` are others."""
    plain = io.BytesIO()
    openpyxl.Workbook().save(plain)
    path = root / dfew_lists.ANNOTATION
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, changed.get(member.filename, source.read(member)))
    return path


def sheet(rows: bytes, before: bytes = b"") -> dict[str, bytes]:
    head = b'<?xml version="1.0"?>' + before
    space = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    return {
        "xl/worksheets/sheet1.xml": head + b"<worksheet " + space + b"><sheetData>" + rows + b"</sheetData></worksheet>"
    }


def read(root: Path) -> list[str]:
    """What is said of an annotation that cannot be read."""
    problems = Problems()
    assert dfew_lists.read_annotation(root, problems) == {}
    assert list(problems) == ["list_unreadable"]
    return problems["list_unreadable"]


def test_a_workbook_of_a_few_bytes_cannot_claim_rows_without_end(tmp_path):
    path = annotation(tmp_path, sheet(b'<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>'))
    assert path.stat().st_size < 10_000
    (said,) = read(tmp_path)
    assert "more than 1,048,576 rows" in said


def test_a_workbook_of_a_few_bytes_cannot_claim_columns_without_end(tmp_path):
    rows = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (row, row) for row in range(1, 3000))
    path = annotation(tmp_path, sheet(rows))
    assert path.stat().st_size < 25_000
    tracemalloc.start()
    try:
        (said,) = read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert "row 1 has 16,384 columns, expected at most 256" in said


def test_a_workbook_cannot_unpack_to_more_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "MOST_BYTES", 1_000_000)
    annotation(tmp_path, sheet(b'<row r="1"/>' * 100_000))
    (said,) = read(tmp_path)
    assert "unpacks to" in said and "at most 1,000,000" in said


def test_a_workbook_that_declares_an_entity_is_refused_whatever_it_expands_to(tmp_path):
    before = b'<!DOCTYPE worksheet [<!ENTITY name "order">]>'
    annotation(tmp_path, sheet(b'<row r="1"><c r="A1" t="inlineStr"><is><t>&name;</t></is></c></row>', before))
    (said,) = read(tmp_path)  # where defusedxml is not installed, the cell would say `order`
    assert "Unable to read workbook" in said


def test_another_package_in_place_of_the_detectors_is_not_run(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "other"\nbackend-path = ["."]\n',
        "other.py": f"open({str(ran)!r}, 'w').close()\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: scrfd\nVersion: 0.3.0\n",
    }
    index = tmp_path / "simple" / "scrfd"
    index.mkdir(parents=True)
    with tarfile.open(index / "scrfd-0.3.0.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"scrfd-0.3.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    (index / "index.html").write_text('<a href="scrfd-0.3.0.tar.gz">scrfd-0.3.0.tar.gz</a>')
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index.parent.as_uri())
    with pytest.raises(ModelFileError, match="has SHA-256"):
        detector_file("scrfd-2.5g", cache=tmp_path / "cache")
    assert not ran.exists()

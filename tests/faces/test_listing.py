"""What is a clip in folders as people have them, and what is said of the rest."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfer.config.problems import InputError
from dfer.faces.listing import find_videos, named_anew

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for name in (
        *("a10.mp4", "a2.MP4", "x.mp4/camcorder.MTS", "x.mp4/phone.3gp", "disc/1.m2ts", "disc/2.ts", "disc/3.ogv"),
        *("disc/4.gif", "disc/cover.jpg", "._a2.MP4", ".DS_Store", "notes.txt", "sound.WAV", "README"),
        *("frames/1.png", "frames/2.JPG", "frames/notes.txt", "frames/more/1.bmp", ".thumbnails/1.jpg"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp4")
    return folder


def test_videos_and_folders_of_pictures_and_what_is_neither(recordings: Path) -> None:
    listing = find_videos([recordings])
    in_folders = ["disc/1.m2ts", "disc/2.ts", "disc/3.ogv", "disc/4.gif", "frames", "frames/more"]
    assert list(listing.videos) == ["a2.MP4", "a10.mp4", *in_folders, "x.mp4/camcorder.MTS", "x.mp4/phone.3gp"]
    assert all(listing.videos[name] == recordings / name for name in listing.videos)
    assert listing.passed_over == {
        ".txt files": ["frames/notes.txt", "notes.txt"],
        ".wav files": ["sound.WAV"],
        "files without a suffix": [".DS_Store", "README"],
        "links that lead nowhere": ["gone.mp4"],
        "links to folders": ["linked"],
        "macOS's notes on another file (._*)": ["._a2.MP4"],
        "no files to read, though named like videos": ["pipe.mp4"],
        "pictures beside videos, or in a hidden folder": [".thumbnails/1.jpg", "disc/cover.jpg"],
    }


def test_the_order_of_the_arguments_changes_nothing(recordings: Path) -> None:
    paths = [recordings, recordings / "disc", recordings / "._a2.MP4"]
    expected = find_videos(paths)
    assert list(expected.videos)[:3] == ["._a2.MP4", "a2.MP4", "a10.mp4"]  # named, so taken
    for order in itertools.permutations(paths):
        listing = find_videos([*order, *order])
        assert (list(listing.videos.items()), list(listing.passed_over.items())) == (
            list(expected.videos.items()),
            list(expected.passed_over.items()),
        )


@pytest.mark.parametrize("name", ["frames", ".thumbnails"])
def test_a_folder_of_pictures_that_is_named(recordings: Path, name: str) -> None:
    assert find_videos([recordings / name]).videos[name] == recordings / name
    both = find_videos([recordings, recordings / name])
    assert both.videos[name] == recordings / name
    assert f"{name}/1.jpg" not in itertools.chain(*both.passed_over.values())


def test_a_picture_is_a_clip_if_it_is_named(recordings: Path) -> None:
    assert find_videos([recordings / "disc" / "cover.jpg"]).videos == {"cover.jpg": recordings / "disc" / "cover.jpg"}
    both = find_videos([recordings, recordings / "disc" / "cover.jpg"])
    assert both.videos["disc/cover.jpg"] == recordings / "disc" / "cover.jpg"
    assert "disc/cover.jpg" not in itertools.chain(*both.passed_over.values())


def test_what_was_written_from_the_same_folder_is_not_searched(recordings: Path) -> None:
    before = find_videos([recordings])
    (recordings / "faces").mkdir()
    for name in ("align.json", "contact_sheet.jpg", "index.parquet"):
        (recordings / "faces" / name).touch()
    after = find_videos([recordings])
    assert after.videos == before.videos
    assert after.passed_over == before.passed_over | {"written by dfer align": ["faces"]}


def test_a_folder_that_cannot_be_read(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path).endswith("disc"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_videos([recordings]).passed_over["Permission denied"] == ["disc"]


def test_nothing_to_align(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"no videos below .*\.mts.*; it holds 1 \.txt files"):
        find_videos([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        find_videos([tmp_path / "nowhere.mp4"])
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(InputError, match="a link that leads nowhere"):
        find_videos([tmp_path / "gone.mp4"])


@pytest.mark.parametrize("environment", [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_are_spelled_alike_in_every_locale(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in (b"caf\xe9.mp4", "café.mp4".encode(), b"sl\\ash.mp4", "日本.txt".encode(), b"b\xff.txt"):
        (tmp_path / os.fsdecode(name)).touch()
    code = (
        "import json, sys; from pathlib import Path; from dfer.faces.listing import find_videos\n"
        "listing = find_videos([Path(sys.argv[1])])\n"
        "assert all(path.is_file() for path in listing.videos.values())\n"
        "print(json.dumps([list(listing.videos), listing.passed_over]))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, env=kept | environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    expected = [[r"caf\xe9.mp4", "café.mp4", r"sl\ash.mp4"], {".txt files": [r"b\xff.txt", "日本.txt"]}]
    assert json.loads(run.stdout) == expected


def test_videos_outside_of_the_shared_folder_give_all_other_names(tmp_path: Path) -> None:
    for name in ("va/1.avi", "va/2.avi", "va/deep/1.avi", "vb/1.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def seen(*names: str) -> dict[str, list[str]]:
        videos = find_videos([tmp_path / name for name in names]).videos
        return {name: [str(path)] for name, path in videos.items()}

    why = f"which was {tmp_path}/va/ and is {tmp_path}/ now, so that 1.avi is named va/1.avi"
    assert why in named_anew(seen("va"), seen("va", "vb"))
    assert "deep/1.avi" in named_anew(seen("va/deep"), seen("va"))  # though there is a 1.avi in both
    assert named_anew(seen("va/1.avi"), seen("va")) == ""
    assert named_anew(seen("va"), seen("va/1.avi", "va/2.avi")) == ""  # gone, but not named anew
    assert named_anew(seen("va"), seen("vb")) == ""


def test_two_names_that_are_spelled_alike(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    (tmp_path / r"caf\xe9.mp4").touch()
    with pytest.raises(InputError, match="rename one"):
        find_videos([tmp_path])

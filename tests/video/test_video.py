from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.video import Video, VideoError

SIZE = (64, 48)  # width, height


def shade(index: int) -> int:
    return 20 + 10 * index


def write_video(path: Path, num_frames: int, fourcc: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 25, SIZE)
    for index in range(num_frames):
        writer.write(np.full((SIZE[1], SIZE[0], 3), shade(index), np.uint8))
    writer.release()
    return path


def images(video: Video, *indices: int) -> list[NDArray[np.uint8]]:
    """The frames at some indices; all that are announced if there are none."""
    return [image for _, image in video.frames(indices or range(video.num_frames))]


def shown(image: NDArray[np.uint8]) -> int:
    return round((float(image.mean()) - 20) / 10)


@pytest.mark.parametrize(("name", "fourcc"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v")])
def test_the_wanted_frames_of_a_video_come_in_order(tmp_path: Path, name: str, fourcc: str) -> None:
    video = Video(write_video(tmp_path / name, 12, fourcc))
    assert video.num_frames == 12
    frames = dict(video.frames([0, 3, 11]))
    assert {index: shown(image) for index, image in frames.items()} == {0: 0, 3: 3, 11: 11}
    assert list(frames) == [0, 3, 11]
    assert frames[0].shape == (48, 64, 3)


def announce(path: Path, announced: int, real: int) -> None:
    """Makes an AVI's headers tell another number of frames than it has."""
    data = bytearray(path.read_bytes())
    avih, strh = data.index(b"avih"), data.index(b"strh")
    for offset in (avih + 8 + 16, strh + 8 + 32):
        assert struct.unpack_from("<I", data, offset) == (real,)
        struct.pack_into("<I", data, offset, announced)
    path.write_bytes(data)


@pytest.mark.parametrize("announced", [30, 7])
def test_the_frames_that_decode_count_and_not_those_announced(tmp_path: Path, announced: int) -> None:
    path = write_video(tmp_path / "a.avi", 12, "MJPG")
    announce(path, announced, 12)
    video = Video(path)
    assert video.num_frames == announced
    assert [shown(image) for image in images(video, 0, 6, 29)] == [0, 6]
    assert video.num_frames == 12


def test_a_video_that_announces_nothing_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 9, "MJPG")
    announce(path, 0, 9)
    assert Video(path).num_frames == len(images(Video(path))) == 9


def test_a_video_that_breaks_off_gives_the_frames_before(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 20, "MJPG")
    data = path.read_bytes()
    starts = [match.start() for match in re.finditer(b"00dc", data)]
    path.write_bytes(data[: starts[12]])
    video = Video(path)
    levels = [shown(image) for image in images(video)]
    assert video.num_frames in (11, 12)
    assert levels == list(range(video.num_frames))


def test_rotation_flags_are_honoured(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE)
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[:, :20] = 255
    for _ in range(3):
        writer.write(picture)
    writer.release()
    data = path.read_bytes()
    one = 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    track = data.index(b"tkhd")
    assert data.find(upright, track) > 0
    path.write_bytes(data[:track] + data[track:].replace(upright, clockwise, 1))
    image = images(Video(path), 0)[0]
    assert image.shape == (64, 48, 3)
    assert image[:16].mean() > 240
    assert image[24:].mean() < 15


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path: Path) -> None:
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"frame_{index}.png"), np.full((8, 8, 3), shade(index), np.uint8))
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / "._frame_1.png").write_bytes(b"left by a file browser")
    video = Video(tmp_path)
    assert video.num_frames == 12
    assert [shown(image) for image in images(video, 1, 2, 10)] == [1, 2, 10]


@pytest.mark.parametrize("suffix", [".bmp", ".jpeg", ".TIF", ".tiff", ".webp"])
def test_pictures_of_every_format(suffix: str, tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}{suffix}"), np.full((8, 8, 3), shade(index), np.uint8))
    assert [shown(image) for image in images(Video(tmp_path))] == [0, 1, 2]


def test_grey_transparent_and_deep_pictures_become_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((8, 8), 100, np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((8, 8, 4), (10, 20, 30, 128), np.uint8))
    cv2.imwrite(str(tmp_path / "3.png"), np.full((8, 8, 3), 100 * 257, np.uint16))
    first, second, third = images(Video(tmp_path))
    assert first.shape == second.shape == third.shape == (8, 8, 3)
    assert (first == 100).all()
    assert (second == (10, 20, 30)).all()
    assert third.dtype == np.uint8
    assert (third == 100).all()


def test_no_more_than_one_frame_need_be_held(tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / "a.mp4", 6))
    seen = [(index, shown(image)) for index, image in video.frames(range(6))]
    assert seen == [(index, index) for index in range(6)]


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def cut_off(path: Path) -> None:
    """An mp4 keeps its table of contents at the end."""
    write_video(path, 10)
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (lambda path: None, "missing_file", "does not exist"),
        (lambda path: path.touch(), "empty_file", "0 bytes"),
        (lambda path: path.write_text("<html>404</html>"), "not_a_video", "<html>"),
        (lambda path: path.write_text("<p>ü</p>" * 4000, encoding="utf-8"), "not_a_video", "text"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "not_a_video", "no video"),
        (lfs_pointer, "lfs_pointer", "git lfs pull"),
        (cut_off, "undecodable", "complete"),
        (lambda path: path.mkdir(), "no_frames", "no picture"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], None], reason: str, words: str
) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError, match=words) as caught:
        images(Video(path))
    assert caught.value.reason == reason
    assert str(path) in caught.value.detail
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\x89PNG\r\n\x1a\n\0\0", "undecodable"), (b"", "empty_file"), (b"text", "not_a_video")]
)
def test_a_broken_frame_of_a_folder_is_left_out_and_named(tmp_path: Path, content: bytes, reason: str) -> None:
    for index in (1, 3, 4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((8, 8, 3), shade(index), np.uint8))
    (tmp_path / "2.png").write_bytes(content)
    video = Video(tmp_path)
    assert [(index, shown(image)) for index, image in video.frames(range(4))] == [(0, 1), (2, 3), (3, 4)]
    assert video.readable.tolist() == [0, 2, 3]
    assert len(video.remarks) == 1
    assert re.match(r"1 of 4 pictures are left out: .*2\.png", video.remarks[0])
    assert [shown(image) for image in images(video, 1, 2)] == [3]
    for path in tmp_path.iterdir():
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"1\.png") as caught:
        images(Video(tmp_path))
    assert caught.value.reason == reason


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("1.jpg", "2.jpg"):
        cv2.imwrite(str(tmp_path / name), picture)
    assert len(images(Video(tmp_path))) == 2
    content = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(content + b"trailing bytes")
    assert len(images(Video(tmp_path))) == 2
    (tmp_path / "2.jpg").write_bytes(content[: len(content) * 3 // 4])
    video = Video(tmp_path)
    assert len(images(video)) == 1
    assert "2.jpg is cut off" in video.remarks[0]


def test_pictures_of_several_sizes_are_remarked(tmp_path: Path) -> None:
    for name, side in (("1.png", 8), ("2.png", 16)):
        cv2.imwrite(str(tmp_path / name), np.zeros((side, side, 3), np.uint8))
    video = Video(tmp_path)
    assert [image.shape[0] for image in images(video)] == [8, 16]
    assert video.remarks == ("pictures of 2 sizes",)


@pytest.mark.parametrize("name", ["face.png", "face.JPG", "face.webp"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), np.full((48, 48), shade(7), np.uint8))
    video = Video(tmp_path / name)
    assert video.num_frames == 1
    assert images(video)[0].shape == (48, 48, 3)
    assert [(index, shown(image)) for index, image in video.frames([0, 1])] == [(0, 7)]
    assert video.readable.tolist() == [0]
    assert video.remarks == ()
    assert images(video, 1) == []


@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (lambda path: None, "missing_file", "does not exist"),
        (lambda path: path.touch(), "empty_file", "0 bytes"),
        (lambda path: path.write_text("<html>404</html>"), "not_a_video", "not a picture"),
        (lfs_pointer, "lfs_pointer", "not the picture itself"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "undecodable", "as a picture"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(
    tmp_path: Path, make: Callable[[Path], object], reason: str, words: str
) -> None:
    path = tmp_path / "face.png"
    make(path)
    with pytest.raises(VideoError, match=words) as caught:
        images(Video(path))
    assert caught.value.reason == reason
    assert str(path) in caught.value.detail

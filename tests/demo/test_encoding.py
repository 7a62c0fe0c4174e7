from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.demo.encoding import rotate_clockwise, write_h264, write_jpegs, write_mpeg4


def planes(frames: int = 5, width: int = 64, height: int = 48) -> list[NDArray[np.uint8]]:
    """Frames of growing brightness with a bright left half."""
    made = []
    for number in range(frames):
        picture = np.full((height * 3 // 2, width), 128, np.uint8)
        picture[:height] = 30 + 20 * number
        picture[:height, : width // 2] += 80
        made.append(picture)
    return made


def read(path: Path) -> list[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        readable, frame = video.read()
        if not readable:
            return frames
        frames.append(frame)


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_frames_come_back_in_order_and_bytes_repeat(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for path in paths:
        if suffix == "mp4":
            write_h264(path, planes(), crf=20)
        else:
            write_mpeg4(path, planes(), qscale=3)
    frames = read(paths[0])
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    means = [frame.mean() for frame in frames]
    assert means == sorted(means)
    assert means[-1] - means[0] > 60
    assert frames[0][:, :28].mean() > frames[0][:, 36:].mean() + 50
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_numbered_pictures_come_back_in_order_and_bytes_repeat(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_jpegs(tmp_path / name, planes(11), quality=90)
    paths = sorted((tmp_path / "one").iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in paths] == [f"{number}.jpg" for number in range(1, 12)]
    frames = [cv2.imread(str(path)) for path in paths]
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    means = [frame.mean() for frame in frames[:6]]
    assert means == sorted(means)
    assert frames[0][:, :28].mean() > frames[0][:, 36:].mean() + 50
    assert all(path.read_bytes() == (tmp_path / "two" / path.name).read_bytes() for path in paths)
    with pytest.raises(FileExistsError):
        write_jpegs(tmp_path / "one", planes(), quality=90)


def test_grey_video_has_equal_channels(tmp_path: Path) -> None:
    path = tmp_path / "grey.mp4"
    write_h264(path, [np.ascontiguousarray(picture[:48]) for picture in planes()], crf=20, grey=True)
    frames = read(path)
    assert len(frames) == 5
    assert np.ptp(np.stack(frames).astype(int), axis=-1).max() <= 1


def test_rotation_flag_turns_the_picture_clockwise(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write_h264(path, planes(), crf=20)
    rotate_clockwise(path, coded_height=48)
    frame = read(path)[0]
    assert frame.shape == (64, 48, 3)
    assert frame[:28].mean() > frame[36:].mean() + 50


def test_what_cannot_be_written_or_turned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_h264(tmp_path / "none.mp4", [], crf=20)
    text = tmp_path / "text.mp4"
    text.write_text("not a video", encoding="utf-8")
    with pytest.raises(ValueError, match="track header"):
        rotate_clockwise(text, coded_height=48)

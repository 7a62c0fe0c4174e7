"""What a file says of its pictures is applied: display matrix, fields, shape of a pixel, brightness."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from videos import Picture, plain, set_display_matrix, write_video

from dfer.video import Video

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def only(path: Path, index: int = 0) -> tuple[Picture, tuple[str, ...]]:
    video = Video(path)
    ((_, image),) = video.frames([index])
    return image, video.remarks


DIHEDRAL = [
    matrix
    for matrix in product((-1, 0, 1), repeat=4)
    if abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]) == 1 and 0 in matrix
]


@pytest.mark.parametrize("matrix", [m for m in DIHEDRAL if sum(map(abs, m)) == 2])
def test_all_ways_to_turn_and_mirror_are_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    picture = plain(BLACK)
    picture[:16, :16] = 255  # white above left
    picture[:16, 48:] = 128  # grey above right
    path = write_video(tmp_path / "a.mp4", [picture] * 2)
    set_display_matrix(path, *matrix)
    image, remarks = only(path)
    a, b, c, d = matrix
    corners = {WHITE[0]: (8, 8), 128: (56, 8)}
    places = {level: (a * x + c * y, b * x + d * y) for level, (x, y) in corners.items()}
    width, height = (64, 48) if a else (48, 64)
    assert image.shape == (height, width, 3)
    for level, (x, y) in places.items():
        assert int(image[y % height, x % width].mean()) == pytest.approx(level, abs=6)
    assert remarks == (() if matrix == (1, 0, 0, 1) else ("turned by its display matrix",))


def woven(number: int) -> list[Picture]:
    """A bar that moves from each field to the next: even lines are shown before odd ones."""
    pictures = []
    for index in range(number):
        picture = plain(BLACK, 128, 96)
        picture[0::2, 8 * index : 8 * index + 16] = 255
        picture[1::2, 8 * index + 4 : 8 * index + 20] = 255
        pictures.append(picture)
    return pictures


def combing(image: NDArray[np.uint8]) -> float:
    grey = image.mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).max())


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "interlaced=1:tff=1", "crf": "1"}),
        ("mpeg2video", {"flags": "+ildct+ilme", "top": "1", "qscale": "1"}),
    ],
)
def test_fields_become_whole_pictures(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    other = write_video(tmp_path / "other.mp4", [plain((30, 180, 30), 128, 96)] * 6)
    frames = [av.VideoFrame.from_ndarray(picture, format="bgr24") for picture in woven(6)]
    path = write_video(tmp_path / "a.mkv", frames, codec, options=options)
    list(Video(other).frames(range(6)))  # what was read before must not show
    video = Video(path)
    images = [image for _, image in video.frames(range(6))]
    assert len(images) == video.num_frames == 6
    assert video.remarks == ("deinterlaced",)
    for index, image in enumerate(images):
        assert combing(image) < 120  # 255 as they were
        left = int(np.flatnonzero(image.mean(axis=(0, 2)) > 100)[0])
        assert 8 * index - 2 <= left <= 8 * index + 6
        assert image[:, 100:].mean() < 60
    assert all((first != second).any() for first, second in pairwise(images))


@pytest.mark.parametrize(("aspect", "shape"), [((8, 3), (48, 171, 3)), ((1, 2), (96, 64, 3)), ((1000, 1), (48, 64, 3))])
def test_pixels_become_square(tmp_path: Path, aspect: tuple[int, int], shape: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "a.mp4", [plain((30, 30, 200))] * 2, aspect=Fraction(*aspect))
    image, remarks = only(path)
    assert image.shape == shape
    assert remarks == (("pixels made square",) if shape != (48, 64, 3) else ())


PATCHES = [(255, 255, 255), (128, 128, 128), (64, 64, 64), (120, 150, 220), (60, 80, 200), (180, 190, 230)]
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087


def hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: display light, 1 = 1000 cd/m2, to signal."""
    luminance = (light @ [0.2627, 0.6780, 0.0593])[..., None]
    scene = light * np.maximum(luminance, 1e-9) ** (-0.2 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: display light, 1 = 1000 cd/m2, to signal."""
    power = (light / 10) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(("transfer", "number", "name"), [(hlg, 18, "HLG"), (pq, 16, "PQ")])
def test_a_brighter_range_becomes_a_normal_one(tmp_path: Path, transfer, number: int, name: str) -> None:
    picture = np.repeat(np.repeat(np.array(PATCHES).reshape(2, 3, 3), 16, axis=0), 16, axis=1)
    light = ((picture[..., ::-1] / 255) ** 2.4 @ TO_2020.T) * 0.203  # BT.2408: white of a normal screen is 203 cd/m2
    signal = transfer(light)
    luma = signal @ [0.2627, 0.6780, 0.0593]
    blue, red = (signal[..., 2] - luma) / 1.8814, (signal[..., 0] - luma) / 1.4746
    planes = 876 * luma + 64, 896 * blue[::2, ::2] + 512, 896 * red[::2, ::2] + 512
    frame = av.VideoFrame(48, 32, "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        lines = np.zeros((plane.height, plane.line_size // 2), "<u2")
        lines[:, : values.shape[1]] = values.round()
        plane.update(lines.tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = number, 9, 9, 1
    image, remarks = only(write_video(tmp_path / "a.mkv", [frame], "ffv1", pixels="yuv420p10le"))
    assert remarks == (f"tone-mapped from {name}",)
    for index, patch in enumerate(PATCHES):
        assert image[index // 3 * 16 + 8, index % 3 * 16 + 8].tolist() == pytest.approx(patch, abs=6)

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings, ShardSettings, TrackingSettings
from dfer.demo.acting import perform
from dfer.demo.camera import CAMERAS, draw_look
from dfer.demo.people import person, read_picture
from dfer.demo.render import pictures
from dfer.faces.appearance import BYTES, as_vectors, describe
from dfer.faces.clips import FrameCounts, align_clip
from dfer.faces.detector import FaceDetector
from dfer.shards import Clip

Picture = NDArray[np.uint8]
Films = Callable[[list[Picture]], tuple[Clip, FrameCounts]]
FRAMES, SIDE = 48, 192
A, B = "sol02", "sol13"
EMPTY = np.asarray(cv2.cvtColor(read_picture("background")[:240, :480], cv2.COLOR_GRAY2BGR), np.uint8)


@cache
def acting(name: str) -> list[Picture]:
    """A person who smiles, 192 x 192 pixels with the face in the middle."""
    generator = np.random.default_rng(5)
    performance = perform([0.9, 0, 0, 0, 0, 0, 0], FRAMES, generator)
    look = draw_look(CAMERAS["dfew"], FRAMES, generator)
    grey = pictures(person(name), performance, look)
    return [np.asarray(cv2.cvtColor(cv2.resize(each, (SIDE, SIDE)), cv2.COLOR_GRAY2BGR), np.uint8) for each in grey]


def scene(*people: tuple[str, int, int], frame: int) -> Picture:
    """A picture of 480 x 240 pixels with people at (name, left, top), the last in front."""
    picture = EMPTY.copy()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (SIDE // 2, SIDE // 2), (62, 88), 0, 0, 360, 255, -1)
    for name, left, top in people:
        part = picture[top : top + SIDE, left : left + SIDE]
        part[mask > 0] = acting(name)[frame][mask > 0]
    return picture


@pytest.fixture
def film(detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path) -> Films:
    def align(frames: list[Picture]) -> tuple[Clip, FrameCounts]:
        settings: dict[str, Any] = {"tracking": TrackingSettings(min_face_share=0.2), "alignment": AlignmentSettings()}
        path = video_writer(tmp_path / "film.mp4", frames)
        pieces = align_clip("film", path, detector=detector, shards=ShardSettings(), num_segments=8, **settings)
        clips = []
        try:
            while True:
                clips.append(next(pieces))
        except StopIteration as end:
            return Clip.joined(clips), end.value

    return align


def middles(clip: Clip) -> NDArray[np.float64]:
    """Where in the film the middles of the crops are, [K, 2]."""
    inverse = [cv2.invertAffineTransform(matrix.astype(np.float64)) for matrix in clip.matrices]
    half = clip.frames.shape[1] / 2
    return np.array([matrix @ [half, half, 1] for matrix in inverse])


def test_one_person_looks_alike_in_another_light_and_two_do_not(detector: FaceDetector) -> None:
    def look(picture: Picture) -> NDArray[np.float32]:
        (description,) = describe(picture, detector.detect(picture).keypoints[:1])
        assert description.shape == (BYTES,)
        return as_vectors(description)

    dim = [np.asarray(frame * np.linspace(0.9, 0.4, SIDE)[:, None], np.uint8) for frame in acting(A)]
    assert look(acting(A)[0]) @ look(acting(A)[0]) == pytest.approx(1)
    assert look(acting(A)[0]) @ look(dim[30]) > 0.5
    assert abs(look(acting(A)[0]) @ look(acting(B)[0])) < 0.3


def test_of_a_film_that_cuts_to_another_person_and_back_both_scenes_are_kept(film: Films) -> None:
    frames = [*acting(A)[:13], *acting(B)[13:23], *acting(A)[23:36]]
    clip, counts = film(frames)
    assert clip.frame_indices.tolist() == [*range(13), *range(23, 36)]
    assert not clip.interpolated.any()  # in between, somebody else is in the place
    assert "cut at frame 13, 23" in counts.remarks


def test_of_two_cuts_to_strangers_none_is_joined(film: Films) -> None:
    frames = [*acting(A)[:10], *acting(B)[10:24], *acting("sol21")[24:36]]
    clip, _ = film(frames)
    assert clip.frame_indices.tolist() == list(range(10, 24))


@pytest.mark.parametrize("exchanged", [False, True])
def test_two_who_swap_places_unseen_are_told_apart(film: Films, exchanged: bool) -> None:
    # Somebody walks past in front of them in between.
    before = [scene((A, 0, 20), (B, 150, 20), frame=k) for k in range(16)]
    hidden = [np.full_like(EMPTY, 40)] * 8
    place = {A: 150, B: 0} if exchanged else {A: 0, B: 150}
    after = [scene((A, place[A], 20), (B, place[B], 20), frame=k) for k in range(24, 42)]
    clip, counts = film([*before, *hidden, *after])
    middle = middles(clip)[:, 0]
    first, second = middle[clip.frame_indices < 16], middle[clip.frame_indices >= 24]
    assert (len(first), len(second)) == (16, 18)
    name = A if first[0] < 150 else B
    assert abs(first - {A: 96, B: 246}[name]).max() < 25
    assert abs(second - (place[name] + 96)).max() < 25
    assert counts.remarks.startswith("another person is as prominent (")


@pytest.mark.parametrize("others", [(A, B), (B, "sol21"), ("sol21", A)])
def test_two_who_swap_places_at_a_cut_are_told_apart(film: Films, others: tuple[str, str]) -> None:
    """Both are in the picture before and after, in the place where the other one was."""
    one, other = others
    before = [np.hstack([acting(one)[k], acting(other)[k]]) for k in range(16)]
    after = [np.hstack([acting(other)[k], acting(one)[k]]) for k in range(16, 32)]
    clip, counts = film([*before, *after])
    middle = middles(clip)[:, 0]
    assert clip.frame_indices.tolist() == list(range(32))
    assert ((middle[:16] < SIDE) != (middle[16:] < SIDE)).all()
    assert "cut at frame 16" in counts.remarks


def test_one_who_leaves_and_returns_elsewhere_is_found_again(film: Films) -> None:
    left, right = ([scene((A, x, 20), frame=k) for k in range(FRAMES)] for x in (0, 288))
    clip, counts = film([*left[:12], *[EMPTY] * 6, *right[18:34]])
    assert clip.frame_indices.tolist() == [*range(12), *range(18, 34)]
    assert not clip.interpolated.any()
    assert abs(middles(clip)[:12, 0] - 96).max() < 20
    assert abs(middles(clip)[12:, 0] - 384).max() < 20  # also the first frames: nothing is smoothed over the gap
    assert counts.remarks == ""


@pytest.mark.parametrize("place", [0, 288])
def test_a_stranger_who_comes_after_one_has_left_is_not_joined(film: Films, place: int) -> None:
    first = [scene((A, 0, 20), frame=k) for k in range(16)]
    second = [scene((B, place, 20), frame=k) for k in range(32, 44)]
    clip, _ = film([*first, *[EMPTY] * 16, *second])
    assert clip.frame_indices.tolist() == list(range(16))


def test_in_a_split_screen_one_person_is_followed_and_the_other_remarked(film: Films) -> None:
    frames = [np.hstack([one, other]) for one, other in zip(acting(A), acting(B), strict=True)]
    clip, counts = film(frames[:24])
    assert clip.frame_indices.tolist() == list(range(24))
    assert np.ptp(middles(clip)[:, 0]) < 30
    assert counts.remarks.startswith("another person is as prominent (")

"""Who is in a video, and what a model is shown of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_model import SETTINGS, portrait
from videos import write_video

from dfer.config.experiments import Faces
from dfer.faces.chapters import Chapters
from dfer.faces.detector import FaceDetector
from dfer.faces.tracking import Track
from dfer.prediction.people import Followed, follow, nobody_stays, views
from dfer.prediction.windows import Sliding, kept_positions
from dfer.sampling import segment_indices
from dfer.video import Video

FACES = Faces.of("toy", SETTINGS)


def track(positions: list[int], *, shift: float = 0.0) -> Track:
    number = len(positions)
    face = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32) + np.float32(shift)
    return Track(
        positions=np.array(positions),
        keypoints=np.tile(face, (number, 1, 1)),
        boxes=np.tile(np.float32([20, 20, 80, 95]) + np.float32(shift), (number, 1)),
        scores=np.ones(number, np.float32),
        interpolated=np.zeros(number, bool),
        close_up=np.zeros(number, bool),
        paths=np.zeros(number, np.int64),
    )


def followed(*tracks: Track, frames: int = 40) -> Followed:
    """Of 40 frames, 25 a second, of which all are searched; every second number is a frame that can be read."""
    sliding = Sliding(0.8, 0.4)
    times = np.arange(frames) / 25
    everything = np.arange(frames)
    return Followed(2 * everything, times, frames / 25, sliding.over(times), everything, list(tracks), {}, frames)


def test_a_view_is_of_the_frames_that_training_would_show() -> None:
    here = followed(track(list(range(40))))
    shown = list(views(here, FACES, num_segments=4, consecutive=1))
    assert [view.window for view in shown] == [(0, 20), (10, 30), (20, 40)]
    for view in shown:
        kept = kept_positions(view.window, FACES.shards)
        expected = 2 * kept[segment_indices(len(kept), 4, train=False)]
        assert view.frames.tolist() == expected.tolist()
        assert view.face_share == 1.0 and view.matrices is not None and view.matrices.shape == (4, 2, 3)
        np.testing.assert_array_equal(view.box, [20, 20, 80, 95])


def test_who_is_seldom_there_has_no_row() -> None:
    # of the eight frames that are looked at in each window: four in the first, two in the second, none in the third
    some = track([0, 2, 5, 7, 10, 12])
    shown = list(views(followed(some), FACES, num_segments=4, consecutive=1))
    assert [(view.window.first, view.face_share) for view in shown] == [(0, 0.75)]
    assert shown[0].frames.tolist() == [2 * [0, 2, 5, 7, 10, 12][k] for k in segment_indices(6, 4, train=False)]


def test_people_are_kept_apart_and_windows_are_in_order() -> None:
    one, other = track(list(range(40))), track(list(range(15, 40)), shift=100)
    shown = list(views(followed(one, other), FACES, num_segments=4, consecutive=1))
    assert [(view.window.first, view.person) for view in shown] == [(0, 0), (10, 0), (10, 1), (20, 0), (20, 1)]
    assert all(view.box[0] == (120 if view.person else 20) for view in shown)


def test_key_points_without_a_faces_shape_are_left_out() -> None:
    odd = track(list(range(40)))
    no_face = odd.keypoints[0, [4, 1, 2, 3, 0]]
    odd.keypoints[:20] = no_face
    here = followed(odd)
    # half of the frames of the second window have a face
    assert [view.window.first for view in views(here, FACES, num_segments=4, consecutive=1)] == [10, 20]
    odd.keypoints[20:] = no_face
    assert not list(views(here, FACES, num_segments=4, consecutive=1))
    assert nobody_stays(here, FACES).reason == "no_face_shape"
    assert nobody_stays(followed(track([1])), FACES).reason == "too_few_faces"


def test_the_same_frame_again_where_there_are_too_few() -> None:
    short = followed(track([0, 1, 2]), frames=3)
    (view,) = views(short, FACES, num_segments=4, consecutive=1)
    assert view.frames.tolist() == [0, 2, 2, 4]
    assert view.matrices is not None
    np.testing.assert_array_equal(view.matrices[1], view.matrices[2])


@pytest.mark.parametrize("people", ["main", "all"])
def test_two_people_beside_each_other(people: str, detector: FaceDetector, tmp_path: Path) -> None:
    pictures = [
        np.hstack([portrait(number), np.ascontiguousarray(portrait(number + 9)[:, ::-1])]) for number in range(30)
    ]
    source = write_video(tmp_path / "two.mp4", pictures)
    seen: list[int] = []
    here = follow(
        Video(source),
        detector,
        FACES,
        Sliding(0.8, 0.4),
        people=people,  # type: ignore[arg-type]
        chapters=Chapters(None),
        on_frame=seen.append,
    )
    assert len(here.tracks) == (1 if people == "main" else 2)
    assert seen == here.numbers[here.searched].tolist()
    middles = sorted(float(track.boxes[:, 0].mean()) for track in here.tracks)
    if people == "all":
        assert middles[1] - middles[0] > 200

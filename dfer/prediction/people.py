"""Follows the people of a video, and says what a model is shown of each of them in each window of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfer.config.experiments import Faces
from dfer.faces.chapters import Chapters
from dfer.faces.cropping import crop_matrices, looks_wrong
from dfer.faces.detector import FaceDetector
from dfer.faces.searching import Pictures, search_video
from dfer.faces.tracking import Track, track_people
from dfer.prediction.windows import Sliding, Window, all_kept, kept_positions
from dfer.sampling import segment_indices
from dfer.video import Video

People = Literal["main", "all"]

_KEPT_BYTES = 64 * 2**20  # of decoded frames, from searching to cutting out: short videos are decoded once


class NobodyError(Exception):
    """A video has nobody of whom anything could be said: `reason` is one of dfer.faces.index.REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, eq=False)
class Followed:
    """The people of a video.

    Attributes:
        numbers: int64[N], the frames that can be read; windows are of positions in this list.
        times: float64[N], seconds at which they are shown; `end` is when the last one has been.
        windows: in the order of time.
        searched: int64[T], increasing: the positions, in `numbers`, of the frames in which faces were searched.
        tracks: of the people, the most prominent first; their positions are those in `searched`.
        pictures: some decoded frames, by number.
        faces_seen: frames, of those that were searched, with a face of anybody.
    """

    numbers: NDArray[np.int64]
    times: NDArray[np.float64]
    end: float
    windows: list[Window]
    searched: NDArray[np.int64]
    tracks: list[Track]
    pictures: Pictures
    faces_seen: int


@dataclass(frozen=True, eq=False)
class View:
    """What a model is shown of a person in a window.

    Attributes:
        person: their number in `Followed.tracks`.
        frames: int64[T], increasing numbers of the frames in the source; a frame may occur more than once.
        matrices: float64[T, 2, 3], the maps from frame to crop; None where the frames are faces already.
        box: float32[4], left, top, right, bottom: the median over the window, pixels of the upright frame.
        face_share: the share of the frames that were looked at which have the person's face.
    """

    person: int
    window: Window
    frames: NDArray[np.int64]
    matrices: NDArray[np.float64] | None
    box: NDArray[np.float32]
    face_share: float


def follow(
    video: Video,
    detector: FaceDetector | None,
    faces: Faces,
    sliding: Sliding,
    *,
    people: People,
    chapters: Chapters,
    on_frame: Callable[[int], None] = lambda _: None,
) -> Followed:
    """Find the people of a video and follow them over all of it, by the settings that a model was trained with.

    Only the frames that a window would keep in training are searched. Memory grows by some 200 bytes a frame.

    Args:
        detector: None where the frames are faces already (`alignment.transform: none`).
        people: all, or the most prominent person alone.
        chapters: where the search of a long video goes on.
        on_frame: called with the number of each frame that was looked at.

    Raises VideoError if the video cannot be decoded, NobodyError if it has no face.
    """
    as_it_is = faces.alignment.transform == "none"
    windows: list[Window] = []
    numbers = np.empty(0, np.int64)

    def choose(readable: NDArray[np.int64]) -> NDArray[np.int64]:
        nonlocal windows, numbers
        times = video.times
        numbers = readable[readable < len(times)]  # a file may announce more frames than it has
        windows = sliding.over(times[numbers])
        return numbers[all_kept(windows, faces.shards)]

    if as_it_is:
        indices, shape = _shown(video, choose, on_frame)
        tracks, pictures, seen = [_whole_pictures(len(indices), shape)], {}, len(indices)
    else:
        assert detector is not None
        found = search_video(video, detector, choose, kept_bytes=_KEPT_BYTES, chapters=chapters, on_frame=on_frame)
        indices, pictures = found.indices, found.pictures
        seen = int((found.detections.frames["faces"] > 0).sum())
        if not seen:
            best, threshold = found.detections.frames["best_score"].max(), faces.detection.threshold
            raise NobodyError(
                "no_face",
                f"best score {best:.2f} in {len(indices)} frames, detection.threshold asks for {threshold:.2f}",
            )
        every = track_people(found.detections, indices, max_gap=faces.tracking.max_gap, cuts=found.cuts)
        tracks, fewest = [next(every)], _fewest(windows, faces)
        if people == "all":
            tracks += [track for track in every if len(track) >= fewest]
    searched = np.searchsorted(numbers, indices)
    return Followed(numbers, video.times[numbers], video.end, windows, searched, tracks, pictures, seen)


def views(followed: Followed, faces: Faces, *, num_segments: int, consecutive: int) -> Iterator[View]:
    """What the model is shown, window by window. A person who is in too few of a window's frames is left out.

    A window is taken for a clip of the training: the person's frames in it are aligned together, and of these the model
    sees those at the centres of `num_segments` segments. See `dfer.sampling.segment_indices` for `consecutive`.
    """
    of_track = [followed.searched[track.positions] for track in followed.tracks]
    as_it_is = faces.alignment.transform == "none"
    shapeless = [looks_wrong(track.keypoints)[0] if not as_it_is else None for track in followed.tracks]
    first_seen, last_seen = (np.array([positions[edge] for positions in of_track]) for edge in (0, -1))
    for window in followed.windows:
        kept = kept_positions(window, faces.shards)
        for person in np.flatnonzero((first_seen < window.stop) & (last_seen >= window.first)).tolist():
            track, positions, wrong = followed.tracks[person], of_track[person], shapeless[person]
            inside = slice(*np.searchsorted(positions, window))
            rows = inside.start + np.flatnonzero(np.isin(positions[inside], kept))
            if not len(rows) or len(rows) < faces.tracking.min_face_share * len(kept):
                continue
            if wrong is not None and wrong[rows].sum() > len(rows) / 2:
                continue
            part, frames = track.take(rows), followed.numbers[positions[rows]]
            matrices = None if as_it_is else crop_matrices(part, frames, faces.alignment)[0]
            shown = segment_indices(len(rows), num_segments, train=False, consecutive=consecutive)
            yield View(
                person,
                window,
                frames[shown],
                None if matrices is None else matrices[shown],
                np.median(part.boxes, axis=0).astype(np.float32),
                len(rows) / len(kept),
            )


def _fewest(windows: list[Window], faces: Faces) -> float:
    """The frames in which somebody has to be for a row in any window. Most of a film's tracks are shorter."""
    return faces.tracking.min_face_share * min(len(kept_positions(window, faces.shards)) for window in windows)


def nobody_stays(followed: Followed, faces: Faces) -> NobodyError:
    """Why there is no view of anybody, although there are faces."""
    wrong = looks_wrong(followed.tracks[0].keypoints)[0]
    if wrong.mean() > 0.5:
        detail = f"the key points of {wrong.sum()} of {len(wrong)} frames have no face's shape"
        return NobodyError("no_face_shape", detail)
    return NobodyError(
        "too_few_faces",
        f"a face in {followed.faces_seen} of {len(followed.searched)} frames, but in no window one person's in "
        f"{faces.tracking.min_face_share:.0%} of the frames, as tracking.min_face_share asks for",
    )


def _shown(
    video: Video, choose: Callable[[NDArray[np.int64]], NDArray[np.int64]], on_frame: Callable[[int], None]
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """The frames that are chosen for the real length of the video, and height and width of the first one."""
    wanted, seen, shape = choose(video.readable), np.empty(0, np.int64), (0, 0)
    while len(missing := np.setdiff1d(wanted, seen)):
        for number, picture in video.frames(missing):
            on_frame(number)
            shape = shape if shape[0] else picture.shape[:2]
        seen = np.union1d(seen, missing)
        wanted = choose(video.readable)
    return wanted, shape


def _whole_pictures(number: int, shape: tuple[int, int]) -> Track:
    """The track of a person whose face the whole pictures are."""
    height, width = shape
    return Track(
        positions=np.arange(number),
        keypoints=np.full((number, 5, 2), np.nan, np.float32),
        boxes=np.tile(np.array([0, 0, width, height], np.float32), (number, 1)),
        scores=np.full(number, np.nan, np.float32),
        interpolated=np.zeros(number, bool),
        close_up=np.zeros(number, bool),
        paths=np.zeros(number, np.int64),
    )

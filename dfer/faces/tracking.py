"""Follows one person through a clip, instead of taking the largest face of each frame.

Faces are linked to paths by place, size and looks. Paths that look alike are then joined to one person, who left and
returned or was away for a scene.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from dfer.faces.appearance import BYTES, as_vectors
from dfer.faces.correction import correct_keypoints
from dfer.faces.cuts import Cut
from dfer.faces.detections import DetectionTable
from dfer.faces.detector import Detections

# A face continues an earlier one if its centre is within so many face sizes of the expected position. The reach grows
# with the source frames in between, and stays below the usual distance of people side by side.
_REACH = 0.5
_REACH_PER_FRAME = 0.05
_REACH_LIMIT = 1.5
_SIZE_RATIO = 1.8  # nobody comes this much closer between two frames
_VELOCITY_FRAMES = 5  # detections from which a face's motion is estimated
# Likeness of a face to the mean of a path, or of two paths, in [-1, 1] (`dfer.faces.appearance`). Measured on 14 drawn
# people who were left out of the average face, in six films each, and on two real portraits whose heads turn. A face is
# like the same person's path earlier in the film by 0.72 (95 of 100) and 0.87 (median), in the real ones by 0.53 at
# least, and like other people's by 0.03 (median), 0.32 (95 of 100), 0.42 (99) and 0.57 (largest of 39,000). Two paths
# of one person by 0.82 (95 of 100), in another light by 0.72 (median); of two people by 0.43 (99) and 0.58 (largest).
_SAME = 0.6  # from which on paths are one person's
_CLEARLY = 0.1  # more than to anybody else
# Below this, whoever appears where somebody was long ago, or a moment ago (most have turned their head), is another.
_OTHER = 0.45, 0.2
_LOOKS = 2.0  # face sizes of distance that the difference of looks counts for
_PATHS_JOINED = 128  # of the most prominent; a film of an hour has thousands
_SCENES_APART = 1000  # source frames, more than any smoothing reaches
_SMOOTHING = 1.0  # standard deviation, source frames
_LAST = np.dtype([("frame", np.int64), ("centre", np.float64, (2,)), ("velocity", np.float64, (2,)), ("size", float)])


@dataclass(frozen=True)
class Track:
    """One person's face in K of the scanned frames.

    Attributes:
        positions: int64[K], positions in the list of scanned frames, increasing.
        keypoints: float32[K, 5, 2], pixels of the frame.
        boxes: float32[K, 4], left, top, right, bottom, pixels of the frame.
        scores: float32[K], 0 for interpolated frames.
        interpolated: bool[K], whether the face was not detected but lies between two detections.
        close_up: bool[K], whether the detector's close-up fall-back detected it.
        paths: int64[K], the number of the piece in which the person was followed: they left and returned in between.
        rival: how prominent the next person is, as a share of this one's prominence, 0 for nobody.
    """

    positions: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    interpolated: NDArray[np.bool_]
    close_up: NDArray[np.bool_]
    paths: NDArray[np.int64]
    rival: float = 0.0

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: NDArray[np.int64]) -> Track:
        """The track in some of its frames, at `rows` int64[N]."""
        arrays = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "rival"}
        return Track(**arrays, rival=self.rival)

    def times(self, frame_indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The increasing numbers of its frames [K], far apart where it was followed anew: for smoothing over time."""
        anew = np.cumsum(np.diff(self.paths, prepend=self.paths[:1]) != 0)
        return np.asarray(frame_indices + _SCENES_APART * anew, np.int64)


class _Paths:
    """The people linked so far, P of them; a person may be out of sight for any time, so none is forgotten.

    Attributes:
        owners: of each face so far, in the order of the frames, its path.
        prominence: of each path, the sum of score x face size.
        closed: the number of paths before the latest cut, which are not continued.
    """

    def __init__(self) -> None:
        self.owners, self.prominence = array("q"), array("d")
        self.closed = 0
        self._recent: list[deque[tuple[int, NDArray[np.float64]]]] = []  # frame and centre of the latest faces
        self._last = np.empty(0, _LAST)
        self._looks = np.empty((0, 8 * BYTES), np.float32)  # of each path, the sum over its faces

    def __len__(self) -> int:
        return len(self._recent)

    def expected_centres(self, frame: int) -> NDArray[np.float64]:
        """The faces' positions [P, 2] if they kept their motion; at most one face size from the last one."""
        last = self.last
        steps = last["velocity"] * (frame - last["frame"])[:, None]
        lengths = np.maximum(np.linalg.norm(steps, axis=1), 1e-9)
        return np.asarray(last["centre"] + steps * np.minimum(1.0, last["size"] / lengths)[:, None])

    @property
    def last(self) -> NDArray[Any]:
        """Of each path its latest face: records of `frame`, `centre`, `velocity` (pixels a frame) and `size`."""
        return self._last[: len(self)]

    @property
    def looks(self) -> NDArray[np.float32]:
        """Of each path what its faces look like, float32[P, 128]: the sum of vectors of length 1, 0 if unknown."""
        return self._looks[: len(self)]

    def add(
        self,
        path: int | None,
        frame: int,
        centre: NDArray[np.float64],
        size: float,
        score: float,
        look: NDArray[np.float32],
    ) -> None:
        """Append a face to a path, or to a new one."""
        if path is None:
            path = len(self)
            self._recent.append(deque(maxlen=_VELOCITY_FRAMES))
            self.prominence.append(0.0)
            if path == len(self._last):
                more = max(16, path)
                self._last = np.concatenate([self._last, np.empty(more, _LAST)])
                self._looks = np.concatenate([self._looks, np.zeros((more, 8 * BYTES), np.float32)])
        recent = self._recent[path]
        recent.append((frame, centre))
        first_frame, first_centre = recent[0]
        self._last[path] = (frame, centre, (centre - first_centre) / max(frame - first_frame, 1), size)
        self._looks[path] += look
        self.owners.append(path)
        self.prominence[path] += score * size


def track_person(
    detections: Iterable[Detections], frame_indices: NDArray[np.int64], *, max_gap: int, cuts: Sequence[Cut] = ()
) -> Track | None:
    """Track the most prominent person of a clip: the first of `track_people`. Returns None if no frame has a face."""
    return next(track_people(detections, frame_indices, max_gap=max_gap, cuts=cuts), None)


def track_people(
    detections: Iterable[Detections], frame_indices: NDArray[np.int64], *, max_gap: int, cuts: Sequence[Cut] = ()
) -> Iterator[Track]:
    """Track all people of a clip, the most prominent first.

    Faces are linked from frame to frame by the assignment with the least total distance from their expected positions
    and looks, among faces that are near enough and of similar size. A person may be out of sight for any time. Who is
    elsewhere then, or back after a cut, is the same person only if nobody else looks as much like them.
    A person's prominence is the sum of score x face size over the frames: a long presence outweighs a short large one.

    Args:
        detections: of each scanned frame; of a long clip a `DetectionTable`.
        frame_indices: int64[T], the increasing numbers of these frames in the source. ValueError for another length.
        max_gap: up to so many source frames between two detections are filled by linear interpolation of the key
            points. The frames of a longer gap, and before the first and after the last detection, are left out.
        cuts: in the order of the frames.
    """
    table = DetectionTable.of(detections)
    if len(table) != len(frame_indices):
        raise ValueError(f"expected detections of each frame, found {len(table)} for {len(frame_indices)} frames")
    paths = _link(table, frame_indices, max_gap, cuts)
    if not len(paths):
        return
    owners = np.asarray(paths.owners)
    people = _people(paths, owners, table)
    prominence = np.bincount(people, paths.prominence)
    of_faces = np.where(owners >= 0, people[owners], -1)
    in_order = np.argsort(of_faces, kind="stable")
    starts = np.searchsorted(of_faces, np.arange(len(prominence) + 1), sorter=in_order)
    for person in np.argsort(-prominence, kind="stable")[: np.count_nonzero(prominence)].tolist():
        own = in_order[starts[person] : starts[person + 1]]
        track = _bridge(own, owners[own], table, frame_indices, max_gap)
        yield replace(track, rival=float(np.delete(prominence, person).max(initial=0.0) / prominence[person]))


def smooth_keypoints(keypoints: NDArray[np.float32], frame_indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Remove the detector's jitter between consecutive source frames from key points [K, 5, 2].

    A Gaussian filter over time with a standard deviation of one frame, for each run of consecutive frames separately.
    Motion at constant speed is kept exactly, also at the ends of a run.
    """
    smoothed = keypoints.copy()
    starts = np.flatnonzero(np.diff(frame_indices, prepend=frame_indices[:1] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(frame_indices)], strict=True):
        if stop - start < 3:
            continue
        padding = min(4, stop - start - 1)
        # Reflected at its end points, a straight motion continues straight.
        widths = ((padding, padding), (0, 0), (0, 0))
        run = np.pad(keypoints[start:stop].astype(np.float64), widths, mode="reflect", reflect_type="odd")
        smoothed[start:stop] = gaussian_filter1d(run, _SMOOTHING, axis=0, mode="nearest")[padding:-padding]
    return smoothed


def _link(table: DetectionTable, frame_indices: NDArray[np.int64], max_gap: int, cuts: Sequence[Cut]) -> _Paths:
    paths = _Paths()
    waiting, dissolved_until, before = deque(cuts), -1, -1
    for faces, frame in zip(table, frame_indices.tolist(), strict=True):
        while waiting and frame >= waiting[0].first:
            dissolved_until = waiting.popleft().last
            paths.closed = len(paths)
        if frame <= dissolved_until:
            paths.owners.extend([-1] * len(faces))
            continue
        corners = faces.boxes.astype(np.float64).reshape(-1, 2, 2)
        centres = corners.mean(axis=1)
        sizes = np.sqrt(np.prod(np.maximum(corners[:, 1] - corners[:, 0], 1e-3), axis=1))
        assert faces.looks is not None
        looks = as_vectors(faces.looks) * faces.looks.any(axis=1, keepdims=True)
        away = np.where(paths.last["frame"] >= before, 0, frame - paths.last["frame"])
        owners = _assign(paths, frame, centres, sizes, looks, np.select([away > max_gap + 1, away > 0], _OTHER, -1.0))
        for number, (centre, size, score, look) in enumerate(zip(centres, sizes, faces.scores, looks, strict=True)):
            paths.add(owners.get(number), frame, centre, float(size), float(score), look)
        before = frame
    return paths


def _people(paths: _Paths, owners: NDArray[np.int64], table: DetectionTable) -> NDArray[np.int64]:
    """Of each path the number of its person, int64[P]: paths that look alike are joined, the most alike first.

    Never those of two who are seen at one time, and only if nobody else looks as much like either. `owners` int64[F]
    are the paths of all faces.
    """
    people = np.arange(len(paths), dtype=np.int64)
    known = np.flatnonzero(paths.looks.any(axis=1))
    rows = known[np.argsort(-np.asarray(paths.prominence)[known], kind="stable")[:_PATHS_JOINED]]
    looks, together = paths.looks[rows], _together(rows, owners, table)
    while True:
        directions = looks / np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-9)
        alike = directions @ directions.T
        different = together | (alike < _SAME)
        pairs = np.argwhere(np.triu(~different, 1))
        pairs = pairs[np.argsort(-alike[tuple(pairs.T)], kind="stable")]
        clear = (
            (one, other)
            for one, other in pairs.tolist()
            # the other one's rivals are all who are surely not they
            if alike[one, other] >= _CLEARLY + alike[one, different[other]].max(initial=-1.0)
            and alike[one, other] >= _CLEARLY + alike[other, different[one]].max(initial=-1.0)
        )
        one, other = next(clear, (0, 0))
        if one == other:
            return people
        people[people == people[rows[other]]] = people[rows[one]]
        looks[one] += looks[other]
        together[one] |= together[other]
        together[:, one] = together[one]
        rest = np.arange(len(rows)) != other
        rows, looks, together = rows[rest], looks[rest], together[rest][:, rest]


def _together(paths: NDArray[np.int64], owners: NDArray[np.int64], table: DetectionTable) -> NDArray[np.bool_]:
    """Which of K paths are seen in one frame, bool[K, K]; False for a path with itself."""
    frames = np.repeat(np.arange(len(table)), table.frames["faces"])
    seen = np.zeros((len(paths), -(-len(table) // 8)), np.uint8)  # a bit a frame
    for row, path in zip(seen, paths.tolist(), strict=True):
        presence = np.zeros(len(table), bool)
        presence[frames[owners == path]] = True
        row[:] = np.packbits(presence)
    together = np.array([(seen & row).any(axis=1) for row in seen], bool).reshape(len(paths), len(paths))
    np.fill_diagonal(together, False)
    return together


def _assign(
    paths: _Paths,
    frame: int,
    centres: NDArray[np.float64],
    sizes: NDArray[np.float64],
    looks: NDArray[np.float32],
    least_alike: NDArray[np.float64],
) -> dict[int, int]:
    """The number of each of this frame's faces that continues a path -> the path.

    `least_alike` [P] is how alike both have to be, -1 for paths that were seen in the frame before. All others lose a
    face that looks more like somebody else, and these one that looks like somebody else and not at all like them.
    """
    if not len(paths) or not len(centres):
        return {}
    expected, last_sizes = paths.expected_centres(frame), paths.last["size"]
    gaps = frame - paths.last["frame"]
    scale = np.sqrt(last_sizes[:, None] * sizes[None])
    distance = np.linalg.norm(expected[:, None] - centres[None], axis=2) / scale
    growth = np.abs(np.log(sizes[None] / last_sizes[:, None]))
    reach = np.minimum(_REACH + _REACH_PER_FRAME * (gaps - 1), _REACH_LIMIT)
    allowed = (distance <= reach[:, None]) & (growth <= np.log(_SIZE_RATIO))
    allowed[: paths.closed] = False
    near = np.flatnonzero(allowed.any(axis=1))  # few of the people of a film
    if not len(near):
        return {}
    of_paths = paths.looks[paths.closed :]
    alike = np.zeros((len(paths), len(looks)))
    alike[paths.closed :] = of_paths @ looks.T / np.maximum(np.linalg.norm(of_paths, axis=1, keepdims=True), 1e-9)
    most, best = alike.argmax(axis=0), alike.max(axis=0)
    taken = (best >= _SAME) & (most != near[:, None]) & (best >= alike[near] + _CLEARLY)
    alike = alike[near]
    known = np.any(paths.looks[near], axis=1, keepdims=True) & np.any(looks, axis=1, keepdims=True).T
    was_away = least_alike[near, None] > -1
    # In the next frame somebody else is in the place only after a cut to people who have changed places.
    swapped = (best >= _SAME) & (most != near[:, None]) & (alike < _OTHER[1])
    allowed[near] &= ~(known & np.where(was_away, taken | (alike < least_alike[near, None]), swapped))
    unlike = np.where(known, _LOOKS * (1 - alike), 0.0)
    # A pair that is not allowed costs more than all allowed ones together, so it is assigned only as a last resort.
    cost = np.where(allowed[near], distance[near] + growth[near] + unlike, 1e3 * (1 + min(allowed.shape)))
    return {int(n): int(near[p]) for p, n in zip(*linear_sum_assignment(cost), strict=True) if allowed[near[p], n]}


def _bridge(
    own: NDArray[np.int64],
    paths: NDArray[np.int64],
    table: DetectionTable,
    frame_indices: NDArray[np.int64],
    max_gap: int,
) -> Track:
    """The track of one person, whose faces are at `own` in the table, in order; `paths` are the paths of these."""
    detected = np.repeat(np.arange(len(table)), table.frames["faces"])[own]
    faces = table.faces[own]
    points = correct_keypoints(faces["keypoints"], faces["followed"], faces["measured"], frame_indices[detected])
    between = np.arange(detected[0], detected[-1] + 1)
    after = np.searchsorted(detected, between)  # the first detection at or after each frame
    before = np.where(detected[after] == between, after, after - 1)
    gap = frame_indices[detected[after]] - frame_indices[detected[before]] - 1
    # Where detected, before and after are the same and the gap is -1. Between two paths others may be in the place.
    kept = (gap <= max_gap) & (paths[before] == paths[after])
    between, before, after = between[kept], before[kept], after[kept]
    start, stop = frame_indices[detected[before]], frame_indices[detected[after]]
    share = ((frame_indices[between] - start) / np.maximum(stop - start, 1)).astype(np.float32)[:, None, None]
    boxes = faces["box"]
    interpolated = before != after
    scores, close_up = faces["score"], table.frames["close_up"][detected]
    return Track(
        positions=between.astype(np.int64),
        keypoints=(points[before] * (1 - share) + points[after] * share).astype(np.float32),
        boxes=(boxes[before] * (1 - share[..., 0]) + boxes[after] * share[..., 0]).astype(np.float32),
        scores=np.where(interpolated, np.float32(0), scores[before]).astype(np.float32),
        interpolated=interpolated,
        close_up=close_up[before] & ~interpolated,
        paths=paths[before],
    )

"""Searches the frames of a video for faces, upright, and gives the frames again when they are to be cut out."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfer.faces.appearance import describe
from dfer.faces.chapters import Chapter, Chapters
from dfer.faces.cuts import Cut, CutFinder
from dfer.faces.detections import DetectionTable
from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.orientation import turn_to_upright
from dfer.faces.scanning import NumberedFrame, scan_frames
from dfer.shards import PART_FRAMES
from dfer.video import Video, VideoError

_KEPT_OF_LONG_CLIPS = 3  # pictures, for `turn_to_upright`

Chooser = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""The frames to search, int64[T] increasing, of those that can be read, int64[N], as far as is known by then."""

Pictures = dict[int, NDArray[np.uint8]]


class SearchedFrames(NamedTuple):
    """The frames of a video that were searched, and the faces in each.

    Attributes:
        indices: int64[T], their numbers in the source, increasing.
        detections: of each of them.
        pictures: some of them, uint8[H, W, 3] BGR by number.
        cuts: in the order of the frames.
    """

    indices: NDArray[np.int64]
    detections: DetectionTable
    pictures: Pictures
    cuts: list[Cut]


def search_video(
    video: Video,
    detector: FaceDetector,
    choose: Chooser,
    *,
    kept_bytes: int,
    chapters: Chapters | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
) -> SearchedFrames:
    """Search the frames that are chosen for the real length of a video.

    Frames on whose side or head faces lie are turned upright first, by `video.turn`, which is set here. Decoded frames
    are kept up to `kept_bytes`; of a video that is stored in parts three, so that it takes no more memory than a
    shorter one. Raises VideoError.

    Args:
        chapters: search a long video in parts that do not depend on each other, and go on after those that are saved.
        on_frame: called with the number of each frame that was searched.
    """
    turn = chapters.turn if chapters is not None else None
    video.turn = turn or 0
    found = _search(video, detector, choose, kept_bytes, chapters, on_frame)
    if turn is not None:
        return found
    video.turn = _turn(video, found, detector, anew=chapters is not None)
    if chapters is not None:
        chapters.turn = video.turn
    if not video.turn:
        return found
    found.pictures.clear()
    return _search(video, detector, choose, kept_bytes, chapters, on_frame)


def pictures_again(video: Video, indices: NDArray[np.int64], kept: Pictures) -> Iterator[NDArray[np.uint8]]:
    """The frames at `indices`: taken out of those that were kept, or decoded a second time. Raises VideoError."""
    missing = indices[~np.isin(indices, list(kept))]
    decoded = video.frames(missing) if len(missing) else iter(())
    for index in indices.tolist():
        if index in kept:
            yield kept.pop(index)
            continue
        number, picture = next(decoded, (-1, np.empty(0, np.uint8)))
        if number != index:
            raise VideoError("undecodable", f"{video.source}: frame {index} decodes once, but not a second time")
        yield picture


def _turn(video: Video, found: SearchedFrames, detector: FaceDetector, *, anew: bool) -> int:
    """The quarter turns after which the faces are upright, by some pictures: those that were kept, or (`anew`) three
    of the first part, whatever was kept."""
    both = np.flatnonzero(np.isin(found.indices, list(found.pictures)))
    if anew:
        last = min(len(found.indices), PART_FRAMES) - 1
        both = np.unique(np.linspace(0, last, _KEPT_OF_LONG_CLIPS).round().astype(int))
    samples = list(pictures_again(video, found.indices[both], dict(found.pictures)))
    return turn_to_upright(samples, [found.detections[position] for position in both.tolist()], detector)


def _search(
    video: Video,
    detector: FaceDetector,
    choose: Chooser,
    kept_bytes: int,
    chapters: Chapters | None,
    on_frame: Callable[[int], None],
) -> SearchedFrames:
    indices = choose(video.readable)
    saved = chapters.saved(video.turn) if chapters is not None else []
    scanned = array("q", chain.from_iterable(chapter.numbers.tolist() for chapter in saved))
    tables = [chapter.detections for chapter in saved]
    pictures: Pictures = {}
    num_bytes = 0
    cuts = CutFinder.restored(saved[-1].cuts) if saved else CutFinder()

    def searched(frames: Iterator[NumberedFrame]) -> Iterator[Detections]:
        nonlocal num_bytes
        for (index, frame), faces in scan_frames(frames, detector):
            scanned.append(index)
            cuts.add(index, frame, faces)
            if faces.measured is None or faces.measured.any():  # a face that the flow moved looks as it did
                faces = replace(faces, looks=describe(frame, faces.keypoints))
            num_bytes += frame.nbytes
            if len(scanned) <= PART_FRAMES and num_bytes <= kept_bytes:
                pictures[index] = frame
            elif len(scanned) == PART_FRAMES + 1:
                _thin_out(pictures, _KEPT_OF_LONG_CLIPS)
            on_frame(index)
            yield faces

    # a video all of whose frames are saved is gone through once more, for its real length
    while len(missing := np.setdiff1d(indices, np.array(scanned))) or (saved and not video.measured):
        frames = video.frames(missing)
        for first in frames:
            rest = islice(frames, chapters.frames - 1) if chapters is not None else frames
            before = len(scanned)
            tables.append(DetectionTable.of(searched(chain([first], rest))))
            if chapters is not None and len(tables[-1]) == chapters.frames:
                numbers = np.array(scanned[before:], np.int64)
                chapters.save(video.turn, Chapter(numbers, tables[-1], cuts.state()))
        indices = choose(video.readable)  # the announced number may have been wrong

    order = np.argsort(scanned)
    table = DetectionTable.joined(tables).at(order[np.searchsorted(scanned, indices, sorter=order)])
    return SearchedFrames(indices, table, pictures, cuts.cuts)


def _thin_out(pictures: Pictures, number: int) -> None:
    """Keep a number of pictures, the first, the last and some evenly between."""
    indices = list(pictures)
    kept = {indices[place] for place in np.linspace(0, len(indices) - 1, number).round().astype(int)} if indices else ()
    for index in indices:
        if index not in kept:
            del pictures[index]

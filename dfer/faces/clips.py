"""Aligns the face of a video into a clip, and many videos into a shard and its index."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings, DetectionSettings, ShardSettings, TrackingSettings
from dfer.faces.cropping import crop_matrices, looks_wrong
from dfer.faces.cuts import Cut
from dfer.faces.detections import DetectionTable
from dfer.faces.detector import FaceDetector
from dfer.faces.geometry import fit_into_square, outside_share, template, transform_points, warp
from dfer.faces.index import FILE_NAME, from_rows, write_index
from dfer.faces.searching import Chooser, pictures_again, search_video
from dfer.faces.tracking import Track, track_person
from dfer.sampling import kept_indices
from dfer.shards import Clip, ClipDropped, write_shard
from dfer.system import logs
from dfer.system.paths import spelled
from dfer.system.processes import NOTHING
from dfer.video import Video, VideoError

logger = logging.getLogger(__name__)

_KEPT_BYTES = 256 * 2**20  # of decoded frames, from detection to warping; the rest of a clip is decoded a second time
_PIECE_FRAMES = 64  # crops that are handed to the shard at a time

_RIVAL = 0.8  # of the chosen person's prominence, from which on a person should see who was chosen


@dataclass(frozen=True)
class FrameCounts:
    """What was counted of a clip and noticed about it, as in the align index."""

    frames_seen: int = 0  # scanned for faces
    frames_with_face: int = 0  # of these, with anybody's face
    frames_kept: int = 0  # in the aligned clip
    close_up_frames: int = 0  # of these, detected by the close-up fall-back
    interpolated_frames: int = 0  # of these, not detected but between two detections
    faces_max: int = 0  # most faces in one frame
    turned: int = 0  # degrees clockwise, since the faces were not upright
    outside_share: float = 0.0  # of the area of all crops, beyond the source's frames
    remarks: str = ""  # what else a person should know, such as damage


class ClipError(Exception):
    """A clip has no usable faces: `reason` is one of dfer.faces.index.REASONS, `detail` is for people."""

    def __init__(self, reason: str, detail: str, counts: FrameCounts) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.counts = counts


def align_clip(
    clip_id: str,
    source: Path,
    *,
    detector: FaceDetector,
    tracking: TrackingSettings,
    alignment: AlignmentSettings,
    shards: ShardSettings,
    num_segments: int,
) -> Generator[Clip, None, FrameCounts]:
    """Align the faces of the most prominent person in a video file or folder of frames (section 4.2).

    The detector sees the frames that `shards.frames_per_segment` keeps of each of `num_segments` segments. At most
    256 MiB of decoded frames are in memory, and some 400 bytes for each frame of a film.

    Frames on whose side or head faces lie are turned upright first; the clip's matrices map the turned frames.
    Yields the clip in pieces and returns what was counted. Raises ClipError if the source cannot be decoded, has no
    face, or has the person in too few frames; if it fails later, some pieces have been yielded.
    """

    def choose(readable: NDArray[np.int64]) -> NDArray[np.int64]:
        return readable[kept_indices(len(readable), num_segments, shards.frames_per_segment)]

    try:
        video = Video(source)
        if alignment.transform == "none":
            return (yield from _as_it_is(clip_id, video, choose, alignment.size))
        indices, detections, pictures, cuts = search_video(video, detector, choose, kept_bytes=_KEPT_BYTES)
        track = track_person(detections, indices, max_gap=tracking.max_gap, cuts=cuts)
        counts = _count(detections, track, video, cuts)
        if track is None:
            best = detections.frames["best_score"].max()
            threshold = detector.settings.threshold
            detail = f"best score {best:.2f} in {len(indices)} frames, detection.threshold asks for {threshold:.2f}"
            raise ClipError("no_face", detail, counts)
        share = len(track) / len(indices)
        if share < tracking.min_face_share:
            detail = (
                f"one person's face in {len(track)} of {len(indices)} frames ({share:.2f}), tracking.min_face_share "
                f"asks for {tracking.min_face_share:.2f}"
            )
            raise ClipError("too_few_faces", detail, counts)
        shapeless, on_their_head = (int(wrong.sum()) for wrong in looks_wrong(track.keypoints))
        if shapeless > len(track) / 2:
            detail = (
                f"the key points of {shapeless} of {len(track)} frames have no face's shape: a drawing, an animal, or "
                "a face at an angle that the detector does not know"
            )
            raise ClipError("no_face_shape", detail, counts)
        del detections
        outside_share = yield from _crops(clip_id, video, indices, track, pictures, alignment)
        remarks = [counts.remarks] if counts.remarks else []
        remarks += [f"the face stands on its head in {on_their_head} frames"] if on_their_head else []
        return replace(counts, outside_share=outside_share, remarks="; ".join(remarks))
    except VideoError as error:
        raise ClipError(error.reason, error.detail, FrameCounts()) from error


def align_clips(
    clips: Sequence[tuple[str, Path]],
    folder: Path,
    *,
    detection: DetectionSettings,
    tracking: TrackingSettings,
    alignment: AlignmentSettings,
    shards: ShardSettings,
    num_segments: int,
    threads: int = 1,
    crashed: Mapping[str, str] = NOTHING,
    on_clip: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """Align clips into one shard, `folder`/clips.* and `folder`/index.parquet.

    A clip that fails gets a row with its reason and does not stop the others. An exception that has no reason gets the
    reason `error`, with the traceback in the log. Returns the align index, one row for every clip.

    Args:
        clips: name and source of each clip.
        threads: for the detector and OpenCV.
        crashed: clips that are left out since they crash the process, and the details for their rows.
        on_clip: called with each clip's row.

    Raises ValueError if a clip is listed twice, ModelFileError or DetectorError if the detector cannot run as
    configured, FileExistsError if the folder has a shard already, OSError if the shard cannot be written.
    """
    names = [clip_id for clip_id, _ in clips]
    if len(set(names)) != len(names):
        raise ValueError(f"clips listed twice: {sorted({name for name in names if names.count(name) > 1})[:5]}")
    detector = FaceDetector(detection, threads=threads)
    rows: list[dict[str, Any]] = []

    def aligned_clips() -> Iterator[Iterator[Clip]]:
        written = 0
        for clip_id, source in clips:
            row = _failed(clip_id, "crashed", crashed.get(clip_id, ""), FrameCounts())
            if clip_id not in crashed:
                yield _align_or_reason(
                    clip_id,
                    source,
                    row,
                    detector=detector,
                    tracking=tracking,
                    alignment=alignment,
                    shards=shards,
                    num_segments=num_segments,
                )
            if row["status"] == "ok":
                row |= {"shard": folder.name, "row": written}
                written += 1
            rows.append(row)
            if on_clip is not None:
                on_clip(row)

    metadata = {
        "alignment": alignment.model_dump(mode="json"),
        "template": template(alignment.size, alignment.margin).round(3).tolist(),
        "tracking": tracking.model_dump(mode="json"),
        "detection": detector.describe(),
        "num_segments": num_segments,
    }
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        write_shard(folder, aligned_clips(), settings=shards, metadata=metadata)
    finally:
        cv2.setNumThreads(threads_before)
    index = from_rows(rows)
    write_index(folder / FILE_NAME, index)
    return index


def _align_or_reason(clip_id: str, source: Path, row: dict[str, Any], **settings: Any) -> Iterator[Clip]:
    """The pieces of the clip; afterwards `row` is its row of the index, without its position in the shard.

    Raises ClipDropped if it fails.
    """
    with logs.about(clip_id=clip_id, source=spelled(source)):
        try:
            counts = yield from align_clip(clip_id, source, **settings)
        except ClipError as error:
            logger.info("not kept: %s: %s", error.reason, error.detail, extra={"reason": error.reason})
            row |= _failed(clip_id, error.reason, error.detail, error.counts)
            raise ClipDropped from error
        except Exception as error:  # one clip must not stop the others
            logger.exception("clip %s (%s) failed unexpectedly", clip_id, spelled(source), extra={"reason": "error"})
            row |= _failed(clip_id, "error", f"{type(error).__name__}: {error}", FrameCounts())
            raise ClipDropped from error
        if counts.frames_kept < counts.frames_seen or counts.interpolated_frames:
            logger.info(
                "odd: %d of %d frames kept, %d of them between two detections",
                counts.frames_kept,
                counts.frames_seen,
                counts.interpolated_frames,
            )
        if counts.turned:
            logger.info("odd: turned by %d degrees, since the faces were not upright", counts.turned)
        row |= {"status": "ok", "reason": "", "detail": "", **asdict(counts)}


def _failed(clip_id: str, reason: str, detail: str, counts: FrameCounts) -> dict[str, Any]:
    """The row of a clip that has no aligned faces."""
    place = {"shard": "", "row": -1}
    return {"clip_id": clip_id, "status": "failed", "reason": reason, "detail": detail, **place, **asdict(counts)}


def _crops(
    clip_id: str,
    video: Video,
    indices: NDArray[np.int64],
    track: Track,
    pictures: dict[int, NDArray[np.uint8]],
    alignment: AlignmentSettings,
) -> Generator[Clip, None, float]:
    """The clip in pieces, emptying `pictures`; returns the share of its crops that is beyond the frames."""
    frame_indices = indices[track.positions]
    matrices, keypoints = crop_matrices(track, frame_indices, alignment)
    crops: list[NDArray[np.uint8]] = []
    outside = 0.0
    for position, picture in enumerate(pictures_again(video, frame_indices, pictures)):
        crops.append(warp(picture, matrices[position], alignment.size)[..., ::-1])
        outside += outside_share(picture.shape[:2], matrices[position], alignment.size)
        if len(crops) == _PIECE_FRAMES or position == len(track) - 1:
            piece = slice(position + 1 - len(crops), position + 1)
            yield Clip(
                clip_id=clip_id,
                frames=np.stack(crops),
                frame_indices=frame_indices[piece],
                keypoints=transform_points(keypoints[piece], matrices[piece]),
                scores=track.scores[piece],
                interpolated=track.interpolated[piece],
                matrices=matrices[piece].astype(np.float32),
                close_up=track.close_up[piece],
            )
            crops.clear()
    return outside / len(track)


def _as_it_is(clip_id: str, video: Video, choose: Chooser, size: int) -> Generator[Clip, None, FrameCounts]:
    """The chosen frames of a clip that is a face already, scaled into squares of `size` pixels with black margins.

    Nobody looks for a face: key points and scores are nan. Frames are decoded twice, since the first time tells which
    of them there are. Yields the clip in pieces and returns what was counted.
    """
    seen = array("q")
    wanted = choose(video.readable)
    while len(missing := np.setdiff1d(wanted, np.array(seen))):
        seen.extend(number for number, _ in video.frames(missing))
        wanted = choose(video.readable)  # the announced number may have been wrong
    numbered = zip(wanted.tolist(), pictures_again(video, wanted, {}), strict=True)
    while piece := list(islice(numbered, _PIECE_FRAMES)):
        numbers, pictures = zip(*piece, strict=True)
        matrices = np.stack([fit_into_square(picture.shape[:2], size) for picture in pictures])
        crops = [warp(picture, matrix, size)[..., ::-1] for picture, matrix in zip(pictures, matrices, strict=True)]
        yield Clip(
            clip_id=clip_id,
            frames=np.stack(crops),
            frame_indices=np.array(numbers, np.int64),
            keypoints=np.full((len(piece), 5, 2), np.nan, np.float32),
            scores=np.full(len(piece), np.nan, np.float32),
            interpolated=np.zeros(len(piece), bool),
            matrices=matrices.astype(np.float32),
            close_up=np.zeros(len(piece), bool),
        )
    return FrameCounts(frames_seen=len(wanted), frames_kept=len(wanted), remarks="; ".join(video.remarks))


def _count(detections: DetectionTable, track: Track | None, video: Video, cuts: Sequence[Cut]) -> FrameCounts:
    numbers = detections.frames["faces"]
    places = ", ".join(str(cut.first) for cut in cuts[:5]) + (f" and {len(cuts) - 5} more" if len(cuts) > 5 else "")
    notes = [*video.remarks, *([f"cut at frame {places}"] if cuts else [])]
    if track is not None and track.rival >= _RIVAL:
        notes.append(f"another person is as prominent ({track.rival:.0%})")
    return FrameCounts(
        frames_seen=len(numbers),
        frames_with_face=int((numbers > 0).sum()),
        frames_kept=0 if track is None else len(track),
        close_up_frames=0 if track is None else int(track.close_up.sum()),
        interpolated_frames=0 if track is None else int(track.interpolated.sum()),
        faces_max=int(numbers.max()),
        turned=90 * video.turn,
        remarks="; ".join(notes),
    )

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings, DetectionSettings, ShardSettings, TrackingSettings
from dfer.faces import clips as align
from dfer.faces import searching
from dfer.faces.clips import ClipError, FrameCounts, align_clip, align_clips
from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.geometry import template, transform_points
from dfer.faces.index import read_index
from dfer.faces.model_files import ModelFileError
from dfer.sampling import kept_indices
from dfer.shards import Clip, open_shard, read

EYES_MOUTH = [0, 1, 3, 4]


def align_one(source: Path, detector: Any, **settings: Any) -> tuple[Clip, FrameCounts]:
    defaults: dict[str, Any] = {
        "tracking": TrackingSettings(),
        "alignment": AlignmentSettings(),
        "shards": ShardSettings(),
        "num_segments": 8,
    }
    aligning = align_clip("set/1", source, detector=detector, **(defaults | settings))
    pieces = []
    while True:
        try:
            pieces.append(next(aligning))
        except StopIteration as end:
            return Clip.joined(pieces), end.value


def align_all(clips: list[tuple[str, Path]], folder: Path, **settings: Any) -> Any:
    defaults: dict[str, Any] = {
        "detection": DetectionSettings(),
        "tracking": TrackingSettings(),
        "alignment": AlignmentSettings(),
        "shards": ShardSettings(),
        "num_segments": 2,
    }
    return align_clips(clips, folder, **(defaults | settings))


@pytest.fixture
def no_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For faces that a test makes up, which are not in the pictures."""
    monkeypatch.setattr(searching.CutFinder, "add", lambda *_: None)


class Scripted:
    """A detector that sees what it is told to, in the order of its looks."""

    settings = DetectionSettings(search_every=1)
    batch = 1

    def __init__(self, script: list[Detections]) -> None:
        self.script = script
        self.looks = 0

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self.looks += 1
        return self.script[self.looks - 1] if self.looks <= len(self.script) else self.script[0].take(99)

    def detect_near(self, frame: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
        return None


@pytest.mark.parametrize("transform", ["similarity", "affine", "clip-affine"])
def test_a_moving_face_stands_still_at_the_template(moved_video: Any, detector: FaceDetector, transform: str) -> None:
    clip, counts = align_one(moved_video.path, detector, alignment=AlignmentSettings(size=112, transform=transform))
    assert clip.frames.shape == (12, 112, 112, 3)
    assert counts == FrameCounts(12, 12, 12, 0, 0, 1)
    target = template(112, AlignmentSettings().margin)
    assert abs(clip.keypoints - target)[:, EYES_MOUTH].max() < 0.04 * 112
    own_size = FaceDetector(DetectionSettings(input_size=96))  # no crop is enlarged
    seen = np.stack([own_size.detect(frame[..., ::-1]).keypoints[0] for frame in clip.frames])
    assert np.percentile(np.linalg.norm(seen - target, axis=2)[:, EYES_MOUTH], 95) < 0.04 * 112
    # One and the same point of the portrait comes to the same place in every crop.
    portrait = np.array([[205.0, 102], [247, 103], [203, 139], [246, 141]])
    places = [
        transform_points(transform_points(portrait, moved), matrix)
        for moved, matrix in zip(moved_video.matrices, clip.matrices, strict=True)
    ]
    assert np.std(places, axis=0).max() < 0.015 * 112


def test_faces_that_are_cut_already_are_taken_as_they_are(
    astronaut: NDArray[np.uint8], detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    frames = [np.ascontiguousarray(astronaut[40:200, 150 + k : 310 + k]) for k in range(9)]
    path = video_writer(tmp_path / "cut.mp4", frames)
    clip, counts = align_one(path, detector, alignment=AlignmentSettings(size=80, transform="none"))
    assert clip.frames.shape == (9, 80, 80, 3)
    for crop, frame in zip(clip.frames, frames, strict=True):
        expected = cv2.resize(frame, (80, 80), interpolation=cv2.INTER_AREA)[..., ::-1]
        assert np.abs(crop.astype(int) - expected).mean() < 4  # the video is compressed
    assert counts == FrameCounts(frames_seen=9, frames_kept=9)
    assert np.isnan(clip.keypoints).all()
    assert np.isnan(clip.scores).all()


def test_a_picture_is_a_clip_of_one_frame(astronaut: NDArray[np.uint8], detector: FaceDetector, tmp_path: Path) -> None:
    portrait = cv2.cvtColor(cv2.resize(astronaut[40:200, 150:310], (48, 48)), cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "face.png"), portrait)
    clip, counts = align_one(tmp_path / "face.png", detector, alignment=AlignmentSettings(size=48, transform="none"))
    assert np.array_equal(clip.frames, np.repeat(portrait[None, :, :, None], 3, axis=3))
    assert clip.frame_indices.tolist() == [0]
    assert counts == FrameCounts(frames_seen=1, frames_kept=1)


@pytest.mark.parametrize("transform", ["similarity", "affine", "clip-affine"])
def test_the_face_of_a_picture_is_aligned_or_is_said_to_be_none(
    astronaut: NDArray[np.uint8], detector: FaceDetector, tmp_path: Path, transform: str
) -> None:
    alignment = AlignmentSettings(size=64, transform=transform)
    cv2.imwrite(str(tmp_path / "portrait.png"), astronaut)
    clip, counts = align_one(tmp_path / "portrait.png", detector, alignment=alignment)
    assert clip.frames.shape == (1, 64, 64, 3)
    assert counts == FrameCounts(1, 1, 1, 0, 0, 1)
    assert abs(clip.keypoints[0] - template(64, alignment.margin))[EYES_MOUTH].max() < 0.06 * 64
    small = cv2.cvtColor(cv2.resize(astronaut[40:200, 150:310], (48, 48)), cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "small.png"), small)
    clip, _ = align_one(tmp_path / "small.png", detector, alignment=alignment)
    assert clip.frames.shape == (1, 64, 64, 3)
    cv2.imwrite(str(tmp_path / "noise.png"), np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8))
    with pytest.raises(ClipError, match="no_face"):
        align_one(tmp_path / "noise.png", detector, alignment=alignment)


def test_a_frame_that_is_not_square_gets_black_margins(
    astronaut: NDArray[np.uint8], detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    path = video_writer(tmp_path / "wide.mp4", [np.full((64, 128, 3), 200, np.uint8)] * 3)
    clip, _ = align_one(path, detector, alignment=AlignmentSettings(size=64, transform="none"))
    rows = clip.frames.mean(axis=(0, 2, 3))
    assert (rows[:14] < 5).all()
    assert (rows[18:46] > 190).all()
    assert (rows[50:] < 5).all()
    np.testing.assert_allclose(transform_points(np.array([[63.5, 31.5]]), clip.matrices[0]), [[31.5, 31.5]], atol=1e-5)


def test_matrices_cut_the_stored_crops_out_of_the_source(moved_video: Any, detector: FaceDetector) -> None:
    clip, _ = align_one(moved_video.path, detector, alignment=AlignmentSettings(size=160))
    for frame, matrix, crop in zip(moved_video.frames, clip.matrices, clip.frames, strict=True):
        again = cv2.warpAffine(frame, matrix.astype(np.float64), (160, 160))[..., ::-1]
        assert np.abs(again.astype(int) - crop).mean() < 4  # the video is compressed


def test_crops_are_rgb(moved_video: Any, detector: FaceDetector) -> None:
    clip, _ = align_one(moved_video.path, detector)
    red, _, blue = clip.frames[:, 80:140, 80:140].mean(axis=(0, 1, 2))
    assert red > blue + 20  # skin


def test_only_frames_that_will_be_kept_are_looked_at(moved_video: Any, detector: FaceDetector) -> None:
    clip, counts = align_one(moved_video.path, detector, shards=ShardSettings(frames_per_segment=1), num_segments=3)
    assert clip.frame_indices.tolist() == kept_indices(12, 3, 1).tolist()
    assert counts.frames_seen == 3


def test_a_long_clip_is_decoded_twice_and_comes_out_the_same(
    moved_video: Any, detector: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, _ = align_one(moved_video.path, detector)
    monkeypatch.setattr(align, "_KEPT_BYTES", 5 * 480 * 360 * 3)
    decoded_again, _ = align_one(moved_video.path, detector)
    np.testing.assert_array_equal(decoded_again.frames, held.frames)
    np.testing.assert_array_equal(decoded_again.matrices, held.matrices)


@pytest.fixture
def parts_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dfer.faces.searching", "dfer.shards.writer"):
        monkeypatch.setattr(f"{module}.PART_FRAMES", 5)
    monkeypatch.setattr(align, "_PIECE_FRAMES", 2)


def test_a_clip_in_parts_comes_out_the_same(
    moved_video: Any, detector: FaceDetector, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole, counts = align_one(moved_video.path, detector)
    request.getfixturevalue("parts_of_five")
    clip, counts_in_parts = align_one(moved_video.path, detector)
    assert counts_in_parts == counts
    np.testing.assert_array_equal(clip.frames, whole.frames)
    np.testing.assert_array_equal(clip.matrices, whole.matrices)
    lossless = ShardSettings(format="npz")
    index = align_all([("set/1", moved_video.path)], tmp_path / "out", shards=lossless)
    assert index["row"].tolist() == [0]
    assert [len(part) for part in read(tmp_path / "out", by_part=True)] == [5, 5, 2]
    np.testing.assert_array_equal(open_shard(tmp_path / "out").read(0).frames, whole.frames)


def test_a_long_clip_that_is_not_upright_is_turned(
    parts_of_five: None, moved_video: Any, detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    frames = [np.ascontiguousarray(frame[::-1, ::-1]) for frame in moved_video.frames]
    clip, counts = align_one(video_writer(tmp_path / "turned.mp4", frames), detector)
    assert (counts.turned, len(clip)) == (180, 12)


def test_of_a_long_clip_that_cannot_be_decoded_again_nothing_is_kept(
    parts_of_five: None, moved_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailsLater(align.Video):
        passes = 0

        def frames(self, indices: Any) -> Any:
            self.passes += 1
            for index, frame in super().frames(indices):
                if self.passes == 1 or index < 9 or self.source.name != "fails.mp4":
                    yield index, frame

    fails = tmp_path / "fails.mp4"
    fails.write_bytes(moved_video.path.read_bytes())
    monkeypatch.setattr(align, "Video", FailsLater)
    clips = [("a", moved_video.path), ("b", fails), ("c", moved_video.path)]
    index = align_all(clips, tmp_path / "out")
    assert index["reason"].tolist() == ["", "undecodable", ""]
    assert "frame 9 decodes once, but not a second time" in index["detail"][1]
    assert index["row"].tolist() == [0, -1, 1]
    shard = open_shard(tmp_path / "out")
    assert shard.clip_ids == ["a", "c"]
    np.testing.assert_array_equal(shard.read(0).frames, shard.read(1).frames)


@pytest.mark.usefixtures("no_cuts")
def test_memory_does_not_grow_with_the_clip(
    tmp_path: Path, make_detections: Callable[..., Detections], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Film:
        turn, remarks = 0, ()

        def __init__(self, source: Path) -> None:
            self.readable = np.arange(int(source.stem))

        def frames(self, indices: NDArray[np.int64]) -> Any:
            for index in indices.tolist():
                yield index, np.full((90, 160, 3), index % 200, np.uint8)

    monkeypatch.setattr(align, "Video", Film)
    for module in ("dfer.faces.searching", "dfer.shards.writer"):
        monkeypatch.setattr(f"{module}.PART_FRAMES", 100)
    monkeypatch.setattr(align, "FaceDetector", lambda *_, **__: always)
    always = Scripted([make_detections((80, 45, 40), (20, 45, 20))])
    monkeypatch.setattr(always, "detect", lambda frame: always.script[0])
    monkeypatch.setattr(always, "describe", dict, raising=False)

    def peak(frames: int) -> int:
        tracemalloc.start()
        index = align_all(
            [("film", tmp_path / f"{frames}.mp4")], tmp_path / f"{frames}", alignment=AlignmentSettings(size=64)
        )
        tracemalloc_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert index["frames_kept"].tolist() == [frames]
        return tracemalloc_peak

    peak(110)  # imports
    short, long = peak(300), peak(1200)
    assert long - short < 900 * 400
    assert long < 1.15 * short


@pytest.mark.parametrize("transform", ["clip-affine", "none"])
def test_an_announced_number_that_is_wrong_is_planned_for_again(
    moved_video: Any, detector: FaceDetector, monkeypatch: pytest.MonkeyPatch, transform: str
) -> None:
    class Boastful(align.Video):
        def __init__(self, source: Path) -> None:
            super().__init__(source)
            self.num_frames = 30

    monkeypatch.setattr(align, "Video", Boastful)
    clip, counts = align_one(
        moved_video.path,
        detector,
        alignment=AlignmentSettings(transform=transform),
        shards=ShardSettings(frames_per_segment=1),
        num_segments=4,
    )
    assert clip.frame_indices.tolist() == kept_indices(12, 4, 1).tolist()
    assert counts.frames_seen == 4


@pytest.mark.usefixtures("no_cuts")
def test_interpolated_and_close_up_frames_are_marked_and_counted(
    moved_video: Any, make_detections: Callable[..., Detections]
) -> None:
    script = [make_detections((200 + k, 150, 90), close_up=k == 1) for k in range(12)]
    script[4] = script[5] = make_detections()
    script[7] = make_detections((207, 150, 90), (400, 100, 30))
    clip, counts = align_one(moved_video.path, Scripted(script))
    assert counts == FrameCounts(12, 10, 12, 1, 2, 2)
    assert np.flatnonzero(clip.interpolated).tolist() == [4, 5]
    assert np.flatnonzero(clip.close_up).tolist() == [1]
    assert np.flatnonzero(clip.scores == 0).tolist() == [4, 5]


def test_a_clip_without_a_face_says_how_near_it_came(
    moved_video: Any, make_detections: Callable[..., Detections]
) -> None:
    with pytest.raises(ClipError, match=r"best score 0\.20 in 12 frames.* 0\.50") as caught:
        align_one(moved_video.path, Scripted([make_detections()] * 12))
    assert caught.value.reason == "no_face"
    assert caught.value.counts == FrameCounts(frames_seen=12)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_pictures_that_are_not_upright_are_turned(
    moved_video: Any, detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path, turn: int
) -> None:
    upright, _ = align_one(moved_video.path, detector)
    frames = [np.ascontiguousarray(np.rot90(frame, turn)) for frame in moved_video.frames]
    clip, counts = align_one(video_writer(tmp_path / "turned.mp4", frames), detector)
    assert counts.turned == 90 * turn
    assert clip.frames.shape == upright.frames.shape
    assert np.abs(clip.frames.astype(int) - upright.frames).mean() < 8
    np.testing.assert_allclose(clip.matrices, upright.matrices, atol=6)


def test_the_share_of_the_crops_beyond_the_frames_is_told(
    moved_video: Any, detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    _, whole = align_one(moved_video.path, detector)
    assert whole.outside_share < 0.1
    right = [np.ascontiguousarray(frame[:, 200:]) for frame in moved_video.frames]
    clip, counts = align_one(video_writer(tmp_path / "half.mp4", right), detector)
    black = (clip.frames.max(axis=3) == 0).mean()
    assert counts.outside_share == pytest.approx(black, abs=0.05)
    assert counts.outside_share > 0.15


def test_a_clip_that_crashes_has_its_row(moved_video: Any, tmp_path: Path) -> None:
    clips = [("a", tmp_path / "a.mp4"), ("b", moved_video.path)]
    rows: list[dict[str, Any]] = []
    few = ShardSettings(frames_per_segment=1)
    index = align_all(clips, tmp_path / "out", crashed={"a": "SIGSEGV"}, shards=few, on_clip=rows.append)
    assert [row["clip_id"] for row in rows] == ["a", "b"]
    assert index["reason"].tolist() == ["crashed", ""]
    assert index["detail"].tolist() == ["SIGSEGV", ""]
    assert index["row"].tolist() == [-1, 0]


@pytest.mark.usefixtures("no_cuts")
def test_key_points_without_a_faces_shape_are_not_kept(
    moved_video: Any, make_detections: Callable[..., Detections]
) -> None:
    face = make_detections((200, 150, 90))
    torn = face.keypoints.copy()
    torn[0, 4] = torn[0, 0] + (5, -40)  # a corner of the mouth above an eye
    script = [replace(face, keypoints=torn)] * 8 + [face] * 4
    with pytest.raises(ClipError, match="8 of 12 frames") as caught:
        align_one(moved_video.path, Scripted(script))
    assert caught.value.reason == "no_face_shape"
    kept, _ = align_one(moved_video.path, Scripted(script[4:] + [face] * 4))
    assert len(kept) == 12


@pytest.mark.usefixtures("no_cuts")
def test_a_person_who_is_seen_too_rarely_is_not_kept(
    moved_video: Any, make_detections: Callable[..., Detections]
) -> None:
    script = [make_detections((200, 150, 90))] * 4 + [make_detections()] * 8
    kept, _ = align_one(moved_video.path, Scripted(script))
    assert len(kept) == 4  # a network looks at a third of the frames
    with pytest.raises(ClipError, match="4 of 12 frames") as caught:
        align_one(moved_video.path, Scripted(script), tracking=TrackingSettings(min_face_share=0.4))
    assert caught.value.reason == "too_few_faces"
    assert caught.value.counts == FrameCounts(12, 4, 4, 0, 0, 1)


def test_every_clip_has_its_row_whatever_becomes_of_it(
    moved_video: Any,
    video_writer: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faceless = video_writer(tmp_path / "wall.mp4", [np.full((120, 160, 3), 128, np.uint8)] * 4)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "page.mp4"
    text.write_text("<html>")
    folder_of_frames = tmp_path / "frames"
    folder_of_frames.mkdir()
    for k, frame in enumerate(moved_video.frames[:4]):
        cv2.imwrite(str(folder_of_frames / f"{k}.png"), frame)
    cursed = tmp_path / "cursed.mp4"

    class Cursed(align.Video):
        def __init__(self, source: Path) -> None:
            if source == cursed:
                raise ZeroDivisionError("nobody thought of this")
            super().__init__(source)

    monkeypatch.setattr(align, "Video", Cursed)
    clips = [
        ("set/good", moved_video.path),
        ("set/wall", faceless),
        ("set/empty", empty),
        ("set/cursed", cursed),
        ("set/page", text),
        ("set/missing", tmp_path / "missing.mp4"),
        ("set/frames", folder_of_frames),
    ]
    rows: list[dict[str, Any]] = []
    index = align_all(clips, tmp_path / "out", on_clip=rows.append, shards=ShardSettings(frames_per_segment=2))
    assert index["clip_id"].tolist() == [row["clip_id"] for row in rows] == [clip_id for clip_id, _ in clips]
    assert index["reason"].tolist() == ["", "no_face", "empty_file", "error", "not_a_video", "missing_file", ""]
    assert index["status"].value_counts().to_dict() == {"failed": 5, "ok": 2}
    assert index["row"].tolist() == [0, -1, -1, -1, -1, -1, 1]
    assert index["shard"][0] == "out"
    assert index["detail"][3] == "ZeroDivisionError: nobody thought of this"
    assert "Traceback" in caplog.text
    assert read_index(tmp_path / "out" / "index.parquet").equals(index)
    shard = open_shard(tmp_path / "out")
    assert shard.clip_ids == ["set/good", "set/frames"]
    assert shard.metadata["alignment"]["size"] == 224
    assert shard.metadata["detection"]["model"] == "scrfd-2.5g"
    np.testing.assert_allclose(shard.metadata["template"], template(224, AlignmentSettings().margin), atol=1e-3)


def test_no_clips_give_an_empty_shard_and_index(tmp_path: Path) -> None:
    assert len(align_all([], tmp_path / "out")) == 0
    assert len(open_shard(tmp_path / "out")) == 0


def test_a_clip_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set/1"):
        align_all([("set/1", tmp_path / "a.mp4"), ("set/1", tmp_path / "b.mp4")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_detector_that_cannot_run_stops_everything(moved_video: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        align_all(
            [("set/1", moved_video.path)],
            tmp_path / "out",
            detection=DetectionSettings(model=str(tmp_path / "no.onnx")),
        )
    assert not (tmp_path / "out").exists()


def test_a_shard_that_cannot_be_written_is_no_fault_of_the_clip(
    moved_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("dfer.shards.parquet.encode_jpeg", full)
    with pytest.raises(OSError, match="no space left"):
        align_all([("set/1", moved_video.path)], tmp_path / "out", shards=ShardSettings(frames_per_segment=1))
    assert list((tmp_path / "out").iterdir()) == []


def test_of_a_folder_with_broken_pictures_the_others_are_kept(
    moved_video: Any, detector: FaceDetector, tmp_path: Path
) -> None:
    for number, frame in enumerate(moved_video.frames):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), frame)
    broken = [1, 4, 5, 9]
    for number in broken:
        (tmp_path / f"{number:02d}.png").write_bytes(b"broken")
    for kept in (ShardSettings(), ShardSettings(frames_per_segment=1)):
        clip, counts = align_one(tmp_path, detector, shards=kept, num_segments=4)
        assert not set(clip.frame_indices.tolist()) & set(broken)
        assert len(clip) == counts.frames_seen == (8 if kept == ShardSettings() else 4)
        assert "pictures are left out" in counts.remarks
        for index, matrix, crop in zip(clip.frame_indices, clip.matrices, clip.frames, strict=True):
            again = cv2.warpAffine(moved_video.frames[index], matrix.astype(np.float64), crop.shape[:2])[..., ::-1]
            assert np.abs(again.astype(int) - crop).mean() < 4

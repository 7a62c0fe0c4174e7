from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.alternatives.faces import crop_every_frame, moved_face
from benchmarks.alternatives.loading import JpegFolders
from benchmarks.alternatives.training import PublishedTSM, mixed, normalized, published_shift
from benchmarks.material import evenly
from benchmarks.preprocess import distances, source_points
from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
from dfer.faces.geometry import template, transform_points
from dfer.mixing import midas
from dfer.models import build, temporal_shift
from dfer.training.transforms import normalize_, to_float

FACE = np.array([[30, 40], [60, 40], [45, 60], [33, 75], [57, 75]], np.float32)


class FakeDetector:
    """Finds the same two faces wherever a frame is not black; the second is larger."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def detect(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.seen.append(frame)
        if frame.max() < 50:
            return np.empty((0, 5), np.float32), np.empty((0, 5, 2), np.float32)
        boxes = np.array([[0, 0, 5, 5, 0.9], [20, 20, 70, 90, 0.8]], np.float32)
        return boxes, np.stack([FACE / 10, FACE])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 100 x 100 pixels, the fourth black."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (100, 100))
    for number in range(10):
        writer.write(np.full((100, 100, 3), 0 if number == 3 else 150, np.uint8))
    writer.release()
    return path


def test_the_practice_crops_the_largest_face_of_every_frame(video: Path, tmp_path: Path) -> None:
    detector: Any = FakeDetector()
    count, found = crop_every_frame(detector, video, tmp_path / "crops", size=112, quality=95)
    assert count == 10
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert all((points == FACE).all() for points in found.values())
    files = sorted(file.name for file in (tmp_path / "crops").iterdir())
    assert files == [f"{number:05d}.jpg" for number in found]
    crop = cv2.imread(str(tmp_path / "crops" / files[0]))
    assert crop is not None
    assert crop.shape == (112, 112, 3)


def test_a_picture_is_moved_in_the_detectors_input() -> None:
    detector: Any = FakeDetector()
    found = moved_face(detector, np.full((100, 50, 3), 200, np.uint8), 8)
    canvas = detector.seen[0]
    assert canvas.shape == (640, 640, 3)
    assert not canvas[:8].any()
    assert not canvas[:, :8].any()
    assert canvas[8:, 8 : 8 + 320].all()
    assert not canvas[:, 8 + 320 :].any()
    assert np.allclose(found, (FACE - 8) / 6.4)


def test_both_sides_mix_to_the_same_values() -> None:
    clips = torch.randint(0, 256, (4, 2, 3, 8, 8), dtype=torch.uint8)
    # Labels of as many classes as clips give lambda and the partner away.
    own, labels = midas(clips, torch.eye(4), normalize="none", generator=torch.Generator().manual_seed(1))
    weight = labels.diagonal()
    partner = (labels - torch.diag(weight)).argmax(dim=1)
    ours = normalize_(own, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.allclose(ours, mixed(normalized(clips), weight, partner), atol=1e-5)


def test_both_sides_normalise_alike() -> None:
    frames = torch.arange(192, dtype=torch.uint8).view(1, 3, 8, 8)
    assert torch.allclose(normalized(frames), to_float(frames, IMAGENET_MEAN, IMAGENET_STD), atol=1e-6)


def test_both_shifts_are_equal() -> None:
    x = torch.rand(16, 16, 3, 3)
    assert torch.equal(published_shift(x, 8), temporal_shift(x, 8))


def test_both_networks_are_the_same_function() -> None:
    ours = build("resnet18_tsm", num_classes=7, num_segments=8).eval()
    theirs = PublishedTSM(7, dropout=0.5).eval()
    theirs.load_state_dict(ours.state_dict())
    clips = torch.rand(1, 8, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(ours(clips), theirs(clips), atol=1e-5)


def test_the_practice_reads_one_frame_of_each_segment(tmp_path: Path) -> None:
    for number in range(24):
        cv2.imwrite(str(tmp_path / f"{number:05d}.jpg"), np.full((40, 40, 3), 10 * number, np.uint8))
    dataset = JpegFolders([tmp_path], num_segments=8, size=16)
    brightness = np.array([dataset[0][0][:, 0, 8, 8].numpy() for _ in range(20)])
    numbers = (brightness * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255 / 10
    assert brightness.shape == (20, 8)
    assert (numbers.round().astype(int) // 3 == np.arange(8)).all()
    assert all(len(set(column)) > 1 for column in numbers.round().T)


def test_a_clip_shorter_than_its_segments_repeats_frames(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.zeros((20, 20, 3), np.uint8))
    assert JpegFolders([tmp_path], num_segments=8, size=16)[0][0].shape == (8, 3, 16, 16)


def test_key_points_of_crops_lead_back_to_the_source() -> None:
    matrices = np.array([[[2.0, 0.3, -20], [-0.2, 1.8, 7]], [[1.0, 0, 0], [0, 1, 0]]], np.float32)
    keypoints = np.stack([FACE, FACE + 3])
    assert np.allclose(source_points(transform_points(keypoints, matrices), matrices), keypoints, atol=1e-3)


def test_distances_are_in_pixels_of_the_crop() -> None:
    # At 112 pixels of the 224-pixel template, a source pixel is two of the crop.
    points = template(112, 0.0)
    moved = points + np.float32([3, 4])
    found, others = distances(
        {"a": {0: points, 1: points}, "b": {0: points}}, {"a": {0: moved, 1: points, 9: points}, "c": {0: moved}}
    )
    assert found == pytest.approx([10.0, 0.0], abs=1e-3)
    assert others == 0
    found, others = distances({"a": {0: points, 1: points}}, {"a": {0: points + 60, 1: points}})
    assert found == pytest.approx([0.0], abs=1e-3)
    assert others == 0.5


def test_clips_are_taken_evenly() -> None:
    paths = [Path(str(number)) for number in range(11)]
    assert evenly(paths, 3) == [Path("0"), Path("5"), Path("10")]
    assert evenly(paths[:2], 5) == paths[:2]


def test_an_unknown_section_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["loadnig"])
    assert ended.value.code == 2
    assert "no such section: loadnig" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    arguments = ["--quick", "--out", str(tmp_path / "pages"), "--cache", str(tmp_path / "cache")]
    assert command.main(arguments) == 0
    (folder,) = (tmp_path / "pages").iterdir()
    text = (folder / "README.md").read_text()
    for section in ("step", "mixing", "loading", "preprocess", "startup", "growth"):
        assert f"## {section}" in text

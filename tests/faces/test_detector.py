from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfer.faces.alignment import transform_points
from dfer.faces.detector import DetectorError, FaceDetector
from dfer.faces.model_files import ModelFileError
from dfer.faces.onnx_graph import GraphError
from dfer.settings import DetectionSettings

# Left eye, right eye, nose, left and right mouth corner of skimage's astronaut, read off the picture.
EYES_NOSE_MOUTH = np.array([[205, 102], [247, 103], [224, 128], [203, 139], [246, 141]])


def test_the_face_of_a_portrait_is_found(detector: FaceDetector, astronaut: NDArray[np.uint8]) -> None:
    found = detector.detect(astronaut)
    assert len(found) == 1
    assert found.boxes.shape == (1, 4)
    assert found.keypoints.shape == (1, 5, 2)
    assert {found.boxes.dtype, found.scores.dtype, found.keypoints.dtype} == {np.dtype(np.float32)}
    assert found.scores[0] == pytest.approx(found.best_score)
    assert not found.close_up
    left, top, right, bottom = found.boxes[0]
    assert (left, top) < tuple(EYES_NOSE_MOUTH.min(axis=0))
    assert (right, bottom) > tuple(EYES_NOSE_MOUTH.max(axis=0))
    assert abs(found.keypoints[0] - EYES_NOSE_MOUTH).max() < 6


@pytest.mark.parametrize(
    ("scale", "shift", "size"),
    [(1.0, (150, 60), (900, 700)), (0.6, (10, 0), (330, 300)), (3.0, (0, 0), (1536, 1536)), (1.0, (0, 0), (301, 457))],
)
def test_key_points_are_in_frame_pixels_whatever_the_frames_size(
    detector: FaceDetector, astronaut: NDArray[np.uint8], scale: float, shift: tuple[int, int], size: tuple[int, int]
) -> None:
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    frame = cv2.warpAffine(astronaut, matrix, size)
    expected = transform_points(detector.detect(astronaut).keypoints[0], matrix)
    assert abs(detector.detect(frame).keypoints[0] - expected).max() < 4 * scale


def test_faces_come_best_first(detector: FaceDetector, astronaut: NDArray[np.uint8]) -> None:
    dim = cv2.GaussianBlur(astronaut, (0, 0), 4)
    found = detector.detect(np.hstack([dim[:, :400], astronaut[:, :400]]))
    assert len(found) == 2
    assert found.scores[0] > found.scores[1]
    assert found.keypoints[0, 0, 0] > 400 > found.keypoints[1, 1, 0]


def test_a_picture_without_a_face_has_none(detector: FaceDetector) -> None:
    found = detector.detect(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 5, 2)
    assert 0 <= found.best_score < 0.5


def test_a_score_below_the_threshold_is_reported_but_is_no_face(astronaut: NDArray[np.uint8]) -> None:
    strict = FaceDetector(DetectionSettings(threshold=0.99))
    found = strict.detect(astronaut)
    assert len(found) == 0
    assert 0.7 < found.best_score < 0.99


def test_a_face_that_fills_the_picture_is_found_by_the_fall_back(
    detector: FaceDetector, astronaut: NDArray[np.uint8]
) -> None:
    close_up = cv2.resize(astronaut[50:185, 160:295], (640, 640), interpolation=cv2.INTER_CUBIC)
    found = detector.detect(close_up)
    assert len(found) == 1
    assert found.close_up
    expected = (EYES_NOSE_MOUTH - (160, 50)) * (640 / 135)
    assert abs(found.keypoints[0] - expected).max() < 0.06 * 640
    plain = FaceDetector(DetectionSettings(close_up_fallback=False)).detect(close_up)
    assert len(plain) == 0


def test_the_input_size_asked_for_is_the_one_that_runs(astronaut: NDArray[np.uint8]) -> None:
    small = FaceDetector(DetectionSettings(input_size=128))
    seen = []
    forward = small._scrfd.forward
    small._scrfd.forward = lambda canvas, threshold: seen.append(canvas.shape) or forward(canvas, threshold)
    found = small.detect(astronaut)
    assert seen[0] == (128, 128, 3)
    assert abs(found.keypoints[0] - EYES_NOSE_MOUTH).max() < 12
    seen.clear()
    small.detect(astronaut[:100])
    assert seen[0] == (32, 128, 3)


def test_what_runs_is_described(detector: FaceDetector) -> None:
    described = detector.describe()
    assert described["model_sha256"] == "9c162a817c7dd32d35d1f1c6ae6445032d6e73c6c5fe61d8b5b663ba8bc86b30"
    assert described["provider"] == "CPUExecutionProvider"
    assert described["input_size"] == 640
    assert described["onnxruntime"] == onnxruntime.__version__


def test_a_provider_that_is_not_there_is_an_error() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(DetectorError, match="onnxruntime-gpu"):
        FaceDetector(DetectionSettings(provider="cuda"))


def save(model: onnx.ModelProto, path: Path) -> str:
    onnx.save(model, path)
    return str(path)


def test_a_model_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["out"])], "g", [image], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(DetectorError, match="1 outputs"):
        FaceDetector(DetectionSettings(model=save(model, tmp_path / "relu.onnx")))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(DetectorError, match="cannot be read"):
        FaceDetector(DetectionSettings(model=str(path)))
    with pytest.raises(ModelFileError, match="does not exist"):
        FaceDetector(DetectionSettings(model=str(tmp_path / "missing.onnx")))


def test_a_fixed_model_that_cannot_be_freed_runs_at_its_own_size_only(
    monkeypatch: pytest.MonkeyPatch, detector: FaceDetector, astronaut: NDArray[np.uint8]
) -> None:
    def refuse(model: onnx.ModelProto) -> onnx.ModelProto:
        raise GraphError("a node that is tied to its size")

    monkeypatch.setattr("dfer.faces.detector.with_free_input_size", refuse)
    with pytest.raises(DetectorError, match=r"640x640 only, detection.input_size asks for 320.*tied to its size"):
        FaceDetector(DetectionSettings(input_size=320))
    fixed = FaceDetector(DetectionSettings(input_size=640)).detect(astronaut)
    assert abs(fixed.keypoints - detector.detect(astronaut).keypoints).max() < 2

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfer.config.settings import DetectionSettings
from dfer.faces.detector import DetectorError, FaceDetector
from dfer.faces.geometry import transform_points
from dfer.faces.model_files import ModelFileError
from dfer.faces.onnx_graph import GraphError

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
    expected = (EYES_NOSE_MOUTH - (160, 50)) * (640 / 135)
    found = FaceDetector(DetectionSettings(search_size=640)).detect(close_up)
    assert len(found) == 1
    assert found.close_up
    assert abs(found.keypoints[0] - expected).max() < 0.06 * 640
    plain = FaceDetector(DetectionSettings(search_size=640, close_up_fallback=False)).detect(close_up)
    assert len(plain) == 0
    # The search in a small picture sees it without.
    found = detector.detect(close_up)
    assert len(found) == 1
    assert not found.close_up
    assert abs(found.keypoints[0] - expected).max() < 0.06 * 640


def test_small_grey_pictures_that_a_face_fills_are_found(
    detector: FaceDetector, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    face = detector.detect(astronaut)
    box, keypoints = face.boxes[0], face.keypoints[0]
    pictures, expected = [], []
    for _ in range(30):
        turn, scale = np.radians(rng.uniform(-25, 25)), 48 / ((box[3] - box[1]) * rng.uniform(0.65, 0.95))
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = np.column_stack([linear, 24 - linear @ (box[:2] + box[2:]) / 2])
        small = cv2.warpAffine(cv2.GaussianBlur(astronaut, (0, 0), 0.45 / scale), matrix, (48, 48))
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        dim = np.clip((grey - 128.0) * rng.uniform(0.3, 1) + rng.uniform(40, 150) + rng.normal(0, 6, (48, 48)), 0, 255)
        pictures.append(cv2.cvtColor(dim.astype(np.uint8), cv2.COLOR_GRAY2BGR))
        expected.append(transform_points(keypoints, matrix))

    def missed() -> int:
        faces = [detector.detect(picture) for picture in pictures]
        for detected, points in zip(faces, expected, strict=True):
            assert not len(detected) or np.linalg.norm(detected.keypoints[0] - points, axis=1).mean() < 4
        return sum(not len(detected) for detected in faces)

    assert missed() <= 2
    monkeypatch.setattr("dfer.faces.detector._SMALL_PICTURES", ())
    assert missed() >= 4


def sizes_seen(detector: FaceDetector, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """(height, width) of each picture that the network is shown from now on."""
    seen: list[tuple[int, ...]] = []
    find = detector._network.find

    def watched(pictures: NDArray[np.uint8], threshold: float) -> Any:
        seen.extend(picture.shape[:2] for picture in pictures)
        return find(pictures, threshold)

    monkeypatch.setattr(detector._network, "find", watched)
    return seen


def test_the_sizes_asked_for_are_those_that_run(astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    small = FaceDetector(DetectionSettings(input_size=128))
    seen = sizes_seen(small, monkeypatch)
    found = small.detect(astronaut)
    assert seen == [(128, 128)]
    assert abs(found.keypoints[0] - EYES_NOSE_MOUTH).max() < 12
    seen.clear()
    small.detect(astronaut[:100])
    assert seen[0] == (32, 128)
    both = FaceDetector(DetectionSettings(input_size=512, search_size=256))
    seen = sizes_seen(both, monkeypatch)
    both.detect(astronaut)
    assert seen[0] == (256, 256)
    assert len(seen) == 2
    assert 90 < max(seen[1]) < 256


def test_a_face_that_the_search_is_too_small_for_is_found_in_the_large_picture(
    astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    far = np.zeros((640, 640, 3), np.uint8)
    far[400:528, 300:428] = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    detector = FaceDetector(DetectionSettings(search_size=128))
    seen = sizes_seen(detector, monkeypatch)
    found = detector.detect(far)
    assert seen[:2] == [(128, 128), (640, 640)]
    assert len(found) == 1
    assert abs(found.keypoints[0] - (EYES_NOSE_MOUTH / 4 + (300, 400))).max() < 3


@pytest.mark.parametrize(("width", "light"), [(24, 1.0), (32, 1.0), (48, 1.0), (96, 0.06), (96, 0.25)])
def test_small_and_dark_faces_are_found_as_in_the_large_picture(
    detector: FaceDetector, astronaut: NDArray[np.uint8], width: int, light: float
) -> None:
    # 24 pixels of 1280 are 12 in the large picture, and 6 in the one that is searched first.
    scale = width / 90
    small = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:700]
    frame = np.full((720, 1280, 3), 70, np.uint8)
    frame[: small.shape[0], 400 : 400 + small.shape[1]] = small
    noise = np.random.default_rng(0).normal(0, 2, frame.shape)
    frame = np.clip(frame * light + noise * (light < 1), 0, 255).astype(np.uint8)
    whole = detector.detect_batch([frame])[0]
    found = detector.detect(frame)
    assert len(whole) == len(found) == 1
    assert abs(found.keypoints - whole.keypoints).max() < 0.06 * width + 1


def test_dark_frames_are_brightened_for_detection(
    detector: FaceDetector, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).normal(0, 1.5, astronaut.shape)
    night = np.rint(np.clip(astronaut * 0.02 + noise, 0, 255)).astype(np.uint8)
    bright = detector.detect(night)
    assert len(bright) == 1
    assert abs(bright.keypoints[0] - EYES_NOSE_MOUTH).max() < 10
    day = detector.detect(astronaut)
    monkeypatch.setattr("dfer.faces.detector._DARK", 0.0)
    assert len(detector.detect(night)) == 0
    assert detector.detect(astronaut).scores.tolist() == day.scores.tolist()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_close_look_sees_what_a_look_at_the_whole_frame_sees(astronaut: NDArray[np.uint8], scale: float) -> None:
    frame = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    side = 640
    whole = FaceDetector(DetectionSettings(input_size=side, search_size=side)).detect_batch([frame])[0]
    close = FaceDetector(DetectionSettings(input_size=side, search_size=256)).detect(frame)
    eyes = np.linalg.norm(whole.keypoints[0, 1] - whole.keypoints[0, 0])
    assert np.linalg.norm(close.keypoints[0] - whole.keypoints[0], axis=1).mean() < 0.02 * eyes


def test_a_face_is_found_again_near_where_it_was(detector: FaceDetector, astronaut: NDArray[np.uint8]) -> None:
    before = detector.detect(astronaut)
    for shift in ([0, 0], [12, -9], [25, 20]):
        near = detector.detect_near(astronaut, before.boxes + np.tile(np.array(shift, np.float32), 2))
        assert near is not None
        assert len(near) == 1
        assert abs(near.keypoints - before.keypoints).max() < 2
    assert detector.detect_near(astronaut, before.boxes + 200) is None
    # One of two is lost: neither is followed further.
    assert detector.detect_near(astronaut, np.concatenate([before.boxes, before.boxes + 200])) is None


def test_two_people_who_become_one_are_a_reason_to_search(detector: FaceDetector, astronaut: NDArray[np.uint8]) -> None:
    boxes = detector.detect(astronaut).boxes
    assert detector.detect_near(astronaut, np.concatenate([boxes, boxes + 5])) is None


def test_a_crowd_is_seen_as_a_whole(
    detector: FaceDetector, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = cv2.resize(astronaut[40:200, 150:310], (160, 160))
    crowd = np.tile(small, (4, 4, 1))
    found = detector.detect(crowd)
    assert len(found) == 16
    seen = sizes_seen(detector, monkeypatch)
    again = detector.detect_near(crowd, found.boxes)
    assert again is not None
    assert seen == [(640, 640)]
    assert abs(np.sort(again.boxes, axis=0) - np.sort(found.boxes, axis=0)).max() < 1


def test_frames_together_are_seen_as_one_by_one(detector: FaceDetector, astronaut: NDArray[np.uint8]) -> None:
    empty = np.full_like(astronaut, 90)
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    together = detector.detect_batch([astronaut, empty, mirrored])
    assert [len(found) for found in together] == [1, 0, 1]
    for frame, found in zip([astronaut, mirrored], [together[0], together[2]], strict=True):
        np.testing.assert_allclose(found.keypoints, detector.detect_batch([frame])[0].keypoints, atol=1e-2)
        assert abs(found.keypoints - detector.detect(frame).keypoints).max() < 2


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


def test_on_a_gpu_products_are_not_rounded_and_its_memory_is_shared(
    monkeypatch: pytest.MonkeyPatch, detector: FaceDetector
) -> None:
    """The session's options; no GPU is needed to see them."""
    seen: list[Any] = []

    def session(*arguments: Any, providers: list[Any], **options: Any) -> onnxruntime.InferenceSession:
        seen.extend(providers)
        return onnxruntime_session(*arguments, providers=["CPUExecutionProvider"], **options)

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr("dfer.faces.scrfd.preload_cuda_libraries", lambda _: None)
    with pytest.raises(DetectorError, match="CUDA"):  # what runs at last is the CPU
        FaceDetector(DetectionSettings(provider="cuda"))
    options = dict(seen[0][1])
    assert (options["use_tf32"], options["arena_extend_strategy"]) == ("0", "kSameAsRequested")
    assert 2**30 <= int(options["gpu_mem_limit"]) <= 8 * 2**30


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

    monkeypatch.setattr("dfer.faces.scrfd.with_free_input_size", refuse)
    with pytest.raises(DetectorError, match=r"640x640 only, detection.input_size asks for 320.*tied to its size"):
        FaceDetector(DetectionSettings(input_size=320))
    fixed = FaceDetector(DetectionSettings(input_size=640)).detect(astronaut)
    assert abs(fixed.keypoints - detector.detect(astronaut).keypoints).max() < 2

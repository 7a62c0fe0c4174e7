"""Face crops as in InsightFace's examples: of every frame, at 640 x 640 pixels, in a JPEG file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime
from insightface.model_zoo.scrfd import SCRFD
from insightface.utils.face_align import norm_crop
from numpy.typing import NDArray

from dfer.faces.model_files import BUNDLED_MODEL, detector_file

DETECTOR_INPUT = 640


def frame_detector(threads: int) -> SCRFD:
    """InsightFace's detector as its examples set it up: 640 x 640 pixels."""
    path = detector_file(BUNDLED_MODEL)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    detector = SCRFD(model_file=str(path), session=session)
    detector.prepare(-1, input_size=(DETECTOR_INPUT, DETECTOR_INPUT))
    return detector


class Face(NamedTuple):
    """A face in pixels of its frame: box float32[4] (left, top, right, bottom), key points float32[5, 2]."""

    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]


def largest_face(detector: SCRFD, frame: NDArray[Any]) -> Face | None:
    """None without a face."""
    boxes, keypoints = detector.detect(frame)
    if not len(boxes):
        return None
    largest = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax()
    return Face(np.asarray(boxes[largest, :4], np.float32), np.asarray(keypoints[largest], np.float32))


def crop_every_frame(
    detector: SCRFD, video: Path, folder: Path, *, size: int, quality: int
) -> tuple[int, dict[int, NDArray[np.float32]]]:
    """Read a whole video, crop the largest face of every frame, write each as a JPEG file.

    Returns:
        The number of frames, and the key points [5, 2] of the frames with a face.
    """
    folder.mkdir(parents=True)
    capture = cv2.VideoCapture(str(video))
    faces: dict[int, NDArray[np.float32]] = {}
    number = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        face = largest_face(detector, frame)
        if face is not None:
            faces[number] = face.keypoints
            crop = norm_crop(frame, face.keypoints, size)
            cv2.imwrite(str(folder / f"{number:05d}.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
        number += 1
    capture.release()
    return number, faces


def moved_face(detector: SCRFD, frame: NDArray[np.uint8], pixels: int) -> NDArray[np.float32] | None:
    """The key points of the largest face when the picture is shifted right and down by `pixels` of the input."""
    height, width = frame.shape[:2]
    scale = DETECTOR_INPUT / max(height, width)
    picture = cv2.resize(frame, (round(width * scale), round(height * scale)))
    canvas = np.zeros((DETECTOR_INPUT, DETECTOR_INPUT, 3), np.uint8)
    target = canvas[pixels:, pixels:]
    part = picture[: target.shape[0], : target.shape[1]]
    target[: part.shape[0], : part.shape[1]] = part
    face = largest_face(detector, canvas)
    return None if face is None else (face.keypoints - pixels) / np.float32(scale)

"""Finding faces and their five key points in one picture, with InsightFace's SCRFD."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from insightface.model_zoo.onnxruntime_utils import preload_cuda_libraries
from insightface.model_zoo.scrfd import SCRFD
from numpy.typing import NDArray

from dfer.faces.model_files import detector_file
from dfer.faces.onnx_graph import GraphError, fixed_input_size, with_free_input_size
from dfer.files import sha256
from dfer.settings import DetectionSettings

logger = logging.getLogger(__name__)

_STRIDE = 32  # the coarsest level of SCRFD's feature pyramid: input sides are multiples of it
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
_CLOSE_UP_SCALES = (1 / 2, 1 / 3)
_REPORTED_SCORE = 0.1  # weaker candidates are looked at for `best_score` alone, and below this they are noise


class DetectorError(Exception):
    """A detector that cannot run as it was asked to."""


@dataclass(frozen=True)
class Detections:
    """The faces of one frame, best score first, in frame pixels.

    boxes float32[N, 4] (left, top, right, bottom); scores float32[N] in [threshold, 1]; keypoints float32[N, 5, 2]
    (left eye, right eye, nose, left and right mouth corner as seen); close_up: found by the fall-back for faces that
    fill the picture; best_score: the best candidate's score even where it is below the threshold (0: no candidate).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    close_up: bool = False
    best_score: float = 0.0

    def __len__(self) -> int:
        return len(self.scores)


class FaceDetector:
    """InsightFace's SCRFD at the input size, threshold and execution provider of the settings, or an error.

    The detector sees a frame at its own size, or shrunk until its longer side is `input_size`, in the upper left corner
    of a black canvas whose sides are the next multiples of 32: on a 16:9 frame that is 0.6 of the square's work for the
    same faces. Frames are never enlarged, since a face that fills the input is missed. Where nothing is found, the
    close-up fall-back looks again at the frame shrunk to a half, then to a third, with a black margin around it.

    Raises: ModelFileError; DetectorError if the provider is not there, the file is not an SCRFD with five key points,
    or its fixed input size differs from `settings.input_size` and cannot be freed.
    """

    def __init__(self, settings: DetectionSettings, *, threads: int = 1) -> None:
        self.settings = settings
        self._file = detector_file(settings.model)
        model, self._fixed = _load(self._file, settings.input_size)
        session = _session(model, settings.provider, threads)
        if len(session.get_outputs()) not in (9, 15):
            raise DetectorError(
                f"{self._file} has {len(session.get_outputs())} outputs; expected an SCRFD detector with key points "
                "(9 or 15): a score, a box and key points at each level"
            )
        self._scrfd = SCRFD(session=session)
        self._provider = session.get_providers()[0]
        self._try_out()

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """The faces of a frame uint8[H, W, 3] BGR."""
        height, width = frame.shape[:2]
        fit = min(1.0, self.settings.input_size / max(height, width))
        found = self._look(frame, fit, margin=0.0)
        if len(found) or not self.settings.close_up_fallback:
            return found
        best = found.best_score
        for scale in _CLOSE_UP_SCALES:
            close_up = self._look(frame, fit * scale, margin=0.25)
            best = max(best, close_up.best_score)
            if len(close_up):
                return Detections(close_up.boxes, close_up.scores, close_up.keypoints, close_up=True, best_score=best)
        return Detections(found.boxes, found.scores, found.keypoints, best_score=best)

    def describe(self) -> dict[str, str | int | float | bool]:
        """What runs: the model's file name and SHA-256, provider, input size, threshold and library versions."""
        return {
            "model": self.settings.model,
            "model_file": self._file.name,
            "model_sha256": sha256(self._file),
            "provider": self._provider,
            "input_size": self.settings.input_size,
            "threshold": self.settings.threshold,
            "close_up_fallback": self.settings.close_up_fallback,
            "insightface": version("insightface"),
            "onnxruntime": onnxruntime.__version__,
            "opencv": cv2.__version__,
        }

    def _look(self, frame: NDArray[np.uint8], scale: float, margin: float) -> Detections:
        """Detection on the frame times `scale`, with a black margin around it (share of the scaled sides)."""
        height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
        picture = frame if scale == 1 else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        top, left = round(height * margin), round(width * margin)
        canvas = np.zeros((*self._canvas(height + 2 * top, width + 2 * left), 3), np.uint8)
        canvas[top : top + height, left : left + width] = picture
        boxes, keypoints = self._scrfd.detect(
            canvas,
            input_size=(canvas.shape[1], canvas.shape[0]),
            det_thresh=min(self.settings.threshold, _REPORTED_SCORE),
        )
        faces = boxes[:, 4] >= self.settings.threshold
        ratio = np.array([width / frame.shape[1], height / frame.shape[0]], np.float32)
        offset = np.array([left, top], np.float32)
        points = np.concatenate([boxes[faces, :4].reshape(-1, 2, 2), keypoints[faces]], axis=1)
        points = ((points - offset) / ratio).astype(np.float32)
        return Detections(
            boxes=points[:, :2].reshape(-1, 4),
            scores=boxes[faces, 4].astype(np.float32),
            keypoints=points[:, 2:],
            best_score=float(boxes[:, 4].max(initial=0.0)),
        )

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        if self._fixed:
            return self.settings.input_size, self.settings.input_size
        return -(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE

    def _try_out(self) -> None:
        """One run at the largest and, if sizes are free, an oblong size: what does not run, does not start."""
        side = self.settings.input_size
        try:
            for width in {side} if self._fixed else {side, _STRIDE}:
                self._scrfd.detect(np.zeros((side, width, 3), np.uint8), input_size=(width, side))
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise DetectorError(f"{self._file} does not run at input size {side}: {error}") from error


def _load(path: Path, input_size: int) -> tuple[onnx.ModelProto, bool]:
    """The model, freed from a fixed input size where it has one, and whether its size is (still) fixed."""
    try:
        model = onnx.load(path)
        fixed = fixed_input_size(model)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise DetectorError(f"{path} cannot be read as an ONNX model: {error}") from error
    if fixed is None:
        return model, False
    try:
        return with_free_input_size(model), False
    except GraphError as error:
        if fixed == (input_size, input_size):
            return model, True
        raise DetectorError(
            f"{path} takes pictures of {fixed[0]}x{fixed[1]} only, detection.input_size asks for {input_size}, and the "
            f"model cannot be changed: {error}. Set detection.input_size to {fixed[0]}, or use another model."
        ) from error


def _session(model: onnx.ModelProto, provider: str, threads: int) -> onnxruntime.InferenceSession:
    wanted = _PROVIDERS[provider]
    if wanted[0] not in onnxruntime.get_available_providers():
        raise DetectorError(
            f"detection.provider {provider} asks for onnxruntime's {wanted[0]}, this installation has "
            f"{', '.join(onnxruntime.get_available_providers())}. Install onnxruntime-gpu in place of onnxruntime, or "
            "set detection.provider to cpu."
        )
    preload_cuda_libraries(wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=wanted)
    if session.get_providers()[0] != wanted[0]:
        raise DetectorError(
            f"detection.provider {provider} was asked for, but onnxruntime fell back to {session.get_providers()[0]}; "
            "check the CUDA and cuDNN versions that this onnxruntime-gpu needs."
        )
    return session

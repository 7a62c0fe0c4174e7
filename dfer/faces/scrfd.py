"""Runs InsightFace's SCRFD on pictures of any size, several at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from insightface.model_zoo.onnxruntime_utils import preload_cuda_libraries
from insightface.model_zoo.scrfd import SCRFD
from numpy.typing import NDArray

from dfer.faces.onnx_graph import GraphError, fixed_input_size, with_free_input_size

STRIDE = 32  # the coarsest level of the feature pyramid: the sides of pictures are multiples of it
_PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [
        (
            "CUDAExecutionProvider",
            {
                # The default search for the fastest algorithm is exhaustive and repeated for every size of picture.
                "cudnn_conv_algo_search": "HEURISTIC",
                # Key points to the digits of the CPU's: by default products are rounded to 10 bits.
                "use_tf32": "0",
                # Several processes share a GPU, so none takes more than it asks for, nor more than this in all.
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": str(4 * 2**30),
            },
        ),
        "CPUExecutionProvider",
    ],
}
# Number of outputs (a score, a box and key points at each level) -> the levels' strides, and anchors per grid cell.
_LEVELS = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1)}


class DetectorError(Exception):
    """The detector cannot run as configured."""


class Scrfd:
    """The network, on an execution provider.

    `fixed_size` is the only side of pictures that it accepts, None if it accepts any. Raises DetectorError if the
    provider is missing, the file is not an SCRFD with five key points, or its fixed input size differs from
    `input_size` and cannot be freed.
    """

    def __init__(self, path: Path, *, input_size: int, provider: str, threads: int) -> None:
        self._path = path
        model, self.fixed_size = _load(path, input_size)
        self._session = _session(model, provider, threads)
        if len(self._session.get_outputs()) not in _LEVELS:
            raise DetectorError(
                f"{path} has {len(self._session.get_outputs())} outputs; expected an SCRFD detector with key points "
                "(9 or 15): a score, a box and key points at each level"
            )
        self.provider = self._session.get_providers()[0]
        self._scrfd = SCRFD(session=self._session)
        # A free axis has a name, or nothing, in place of a number.
        self._batches = self._scrfd.batched and self._session.get_inputs()[0].shape[0] != 1
        self._test_run(input_size)

    def find(
        self, pictures: NDArray[np.uint8], threshold: float
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The faces of each picture with a score of `threshold` or more, best first; of overlapping ones the best.

        Pictures are uint8[N, H, W, 3] BGR, H and W multiples of 32. Returns float32[F, 5] (left, top, right, bottom,
        score) and key points float32[F, 5, 2] for each, in pixels.
        """
        outputs = self._run(pictures)
        return [
            self._decode([output[number] for output in outputs], pictures.shape[1:3], threshold)
            for number in range(len(pictures))
        ]

    def _run(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The network's outputs, each [N, anchors, values]."""
        network = self._scrfd
        mean = (network.input_mean,) * 3
        size = pictures.shape[2], pictures.shape[1]
        blob = cv2.dnn.blobFromImages(list(pictures), 1.0 / network.input_std, size, mean, swapRB=True)
        if self._batches:
            return list(self._session.run(network.output_names, {network.input_name: blob}))
        # The graph accepts one picture at a time.
        runs = [self._session.run(network.output_names, {network.input_name: one[None]}) for one in blob]
        return [np.stack([one.reshape(one.shape[-2:]) for one in level]) for level in zip(*runs, strict=True)]

    def _decode(
        self, outputs: list[NDArray[np.float32]], size: tuple[int, ...], threshold: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        levels = len(outputs) // 3
        strides, anchors = _LEVELS[len(outputs)]
        boxes, keypoints = [], []
        for level, stride in enumerate(strides):
            scores = outputs[level][:, 0]
            indices = np.flatnonzero(scores >= threshold)
            # Anchors are in rows, several in each cell of the grid.
            row, column = np.divmod(indices // anchors, size[1] // stride)
            centres = np.stack([column, row], axis=1).astype(np.float32) * stride
            # Distances to the left, upper, right and lower side, and to the key points (x, y).
            sides = outputs[level + levels][indices] * stride
            points = outputs[level + 2 * levels][indices].reshape(-1, 5, 2) * stride
            boxes.append(np.column_stack([centres - sides[:, :2], centres + sides[:, 2:], scores[indices]]))
            keypoints.append(centres[:, None] + points)
        all_boxes, all_keypoints = np.concatenate(boxes), np.concatenate(keypoints)
        order = all_boxes[:, 4].argsort(kind="stable")[::-1]
        all_boxes, all_keypoints = all_boxes[order], all_keypoints[order]
        kept = self._scrfd.nms(all_boxes)
        return all_boxes[kept].astype(np.float32), all_keypoints[kept].astype(np.float32)

    def _test_run(self, side: int) -> None:
        """Run once with the largest picture and, if sizes are free, two oblong ones, to fail early."""
        try:
            for number, width in ((1, side),) if self.fixed_size else ((1, side), (2, STRIDE)):
                self.find(np.zeros((number, side, width, 3), np.uint8), 0.5)
        except Exception as error:  # onnxruntime's errors share no other base class
            raise DetectorError(f"{self._path} does not run at input size {side}: {error}") from error


def _load(path: Path, input_size: int) -> tuple[onnx.ModelProto, int | None]:
    """The model, freed from a fixed input size if possible, and the side that it is still fixed to, else None."""
    try:
        model = onnx.load(path)
        fixed = fixed_input_size(model)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise DetectorError(f"{path} cannot be read as an ONNX model: {error}") from error
    if fixed is None:
        return model, None
    try:
        return with_free_input_size(model), None
    except GraphError as error:
        if fixed == (input_size, input_size):
            return model, input_size
        raise DetectorError(
            f"{path} takes pictures of {fixed[0]}x{fixed[1]} only, detection.input_size asks for {input_size}, and the "
            f"model cannot be changed: {error}. Set detection.input_size to {fixed[0]}, or use another model."
        ) from error


def _session(model: onnx.ModelProto, provider: str, threads: int) -> onnxruntime.InferenceSession:
    providers, name = _PROVIDERS[provider], f"{provider.upper()}ExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        raise DetectorError(
            f"detection.provider {provider} asks for onnxruntime's {name}, this installation has "
            f"{', '.join(onnxruntime.get_available_providers())}. Install onnxruntime-gpu in place of onnxruntime, or "
            "set detection.provider to cpu."
        )
    preload_cuda_libraries([name])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    if session.get_providers()[0] != name:
        raise DetectorError(
            f"detection.provider {provider} was asked for, but onnxruntime fell back to {session.get_providers()[0]}; "
            "dfer doctor --set detection.provider=cuda says what does not fit, a GPU, its driver or a version of CUDA."
        )
    return session

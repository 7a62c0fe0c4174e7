"""A model in ONNX, run by onnxruntime: no torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dfer.config.problems import InputError
from dfer.prediction.onnx_file import FRAMES, LOGITS, PROBABILITIES
from dfer.prediction.resizing import resized
from dfer.storage.cards import SavedModelError

_GPU = "CUDAExecutionProvider"


class OnnxNetwork:
    """The network of a file. Raises SavedModelError if it cannot be run or does not fit its card, InputError if a GPU
    is asked for and onnxruntime has none."""

    def __init__(self, path: Path, card: Mapping[str, Any], *, device: str, threads: int) -> None:
        """`device`: 'auto' (a GPU if onnxruntime has one), 'cpu' or 'cuda'; `threads` of the CPU, 0 for all."""
        has_gpu = _GPU in onnxruntime.get_available_providers()
        if device == "cuda" and not has_gpu:
            raise InputError(
                f"{path}: device cuda was asked for, but onnxruntime has no {_GPU}: install onnxruntime-gpu in place "
                "of onnxruntime, or take --device cpu"
            )
        gpu: list[Any] = [(_GPU, {"use_tf32": "0"})] if has_gpu and device != "cpu" else []
        if gpu:
            onnxruntime.preload_dlls()  # of CUDA and cuDNN, where pip installed them
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            providers = [*gpu, "CPUExecutionProvider"]
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's errors share no other base class
            raise SavedModelError(f"{path} cannot be run by onnxruntime: {error}; export it again") from error
        if device == "cuda" and not self.on_gpu:
            raise InputError(
                f"{path}: device cuda was asked for, but onnxruntime fell back to the CPU: check the CUDA and cuDNN "
                "versions that this onnxruntime-gpu needs (dfer doctor), or take --device cpu"
            )
        self._size = int(card["input_size"])
        inputs = [(one.name, one.type, one.shape[1:]) for one in self._session.get_inputs()]
        expected = [(FRAMES, "tensor(uint8)", [card["num_segments"], self._size, self._size, 3])]
        outputs = {one.name: one.shape[1:] for one in self._session.get_outputs()}
        if inputs != expected or outputs != {name: [len(card["classes"])] for name in (LOGITS, PROBABILITIES)}:
            raise SavedModelError(f"{path} takes {inputs} and gives {outputs}, its card says {expected}")

    @property
    def on_gpu(self) -> bool:
        return _GPU in self._session.get_providers()

    def logits(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """float64[B, K], of aligned faces uint8[B, T, H, W, 3] RGB."""
        (logits,) = self._session.run([LOGITS], {FRAMES: resized(faces, self._size)})
        return np.asarray(logits, np.float64)

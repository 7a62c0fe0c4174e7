"""The parts of the benchmark: what each measures, for how long, and which packages it needs.

Measurements are named, not imported, so that a machine which lacks their packages can still say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from shutil import which
from typing import Any

from dfer.config.catalogue import NETWORKS

MINUTES = 9.0
START_SECONDS = 8.0
"""What a part's new process takes to load torch and to find its GPU."""

_STEP = "benchmarks.gpu.steps"
_CLIPS = "benchmarks.gpu.clips"

# module -> the package that has it, of all that `dfer.training` imports
_TRAINING = {
    "torchvision": "torchvision",
    "pydantic": "pydantic",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "cv2": "opencv-python",
    "simplejpeg": "simplejpeg",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "psutil": "psutil",
    "rich": "rich",
}
_DETECTION = {
    "pydantic": "pydantic",
    "cv2": "opencv-python",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime-gpu",
    "insightface": "insightface",
    "skimage": "scikit-image",  # skimage and scipy: which insightface imports
    "scipy": "scipy",
    "requests": "requests",
    "rich": "rich",
}


@dataclass(frozen=True)
class Measurement:
    """One row of the table.

    Attributes:
        target: "module:function", called with the conditions and the arguments.
        unit: of work, that times are of.
        seconds: that it takes on an H200, at most; on a GPU it is left out where less time is left.
        against: the name of another measurement of the part that the ratio is to.
        needs_cuda: whether it means nothing on a CPU.
        launches: whether `target` can count them, with an argument of that name. They are counted when all times of the
            part are taken.
    """

    name: str
    target: str
    unit: str
    seconds: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    against: str = ""
    needs_cuda: bool = False
    launches: bool = False


@dataclass(frozen=True)
class Part:
    """Measurements on one subject, in one process unless one of them fails."""

    measurements: Sequence[Measurement]
    modules: Mapping[str, str]  # that it imports, and the packages that have them
    needs_cuda_provider: bool = False  # of onnxruntime
    tools: Sequence[str] = ()  # programs of which it needs one

    @property
    def seconds(self) -> float:
        """That all of it takes on an H200, at most."""
        return START_SECONDS + sum(measurement.seconds for measurement in self.measurements)

    def missing(self, device: str) -> list[str]:
        """The packages that this machine lacks for it."""
        lacking = [package for module, package in self.modules.items() if find_spec(module) is None]
        if self.needs_cuda_provider and device == "cuda" and not lacking and not _cuda_provider():
            lacking.append("onnxruntime-gpu (the onnxruntime that is installed has no CUDA provider that works)")
        if self.tools and not any(map(which, self.tools)):
            lacking.append(f"a program called {' or '.join(self.tools)}")
        return lacking


def _cuda_provider() -> bool:
    try:
        import onnxruntime
    except ImportError:  # a library that it needs is missing
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _steps() -> list[Measurement]:
    layouts = {True: "channels last", False: "channels first"}
    return [
        Measurement(
            f"{mode}, {layouts[channels_last]}, {frames} frames",
            f"{_STEP}:step",
            "step",
            seconds=7,
            arguments={"mode": mode, "channels_last": channels_last, "frames": frames},
            against="" if mode == "float32" and channels_last else f"float32, channels last, {frames} frames",
            needs_cuda=mode != "float32",
            launches=True,
        )
        for frames, both in ((8, (True, False)), (16, (True,)))
        for mode in ("float32", "TF32", "bfloat16", "float16")
        for channels_last in both
    ]


def _graph() -> list[Measurement]:
    return [
        Measurement(
            f"{mode}, with the CUDA graph", f"{_STEP}:graph", "step", 15, {"mode": mode}, needs_cuda=True, launches=True
        )
        for mode in ("bfloat16", "TF32")
    ]


def _compile() -> list[Measurement]:
    kinds = (("default", "off", 60), ("default", "on", 25), ("reduce-overhead", "off", 45))
    graphs = {"on": ", with the CUDA graph", "off": ""}
    return [
        Measurement(
            f"bfloat16, compiled ({how}){graphs[choice]}",
            f"{_STEP}:compiled",
            "step",
            seconds,
            {"mode": "bfloat16", "how": how, "cuda_graph": choice},
            needs_cuda=True,
            launches=True,
        )
        for how, choice, seconds in kinds
    ]


def _cache() -> list[Measurement]:
    one, gathered = "filling it in RAM, one thread", "a batch on the device, decoded in one thread"
    return [
        Measurement(one, f"{_CLIPS}:fill", "clip", 20, {"cache": "host", "threads": 1}),
        Measurement("filling it in RAM, all cores", f"{_CLIPS}:fill", "clip", 6, {"cache": "host"}, one),
        Measurement("filling it on the GPU, all cores", f"{_CLIPS}:fill", "clip", 6, {"cache": "device"}, one, True),
        Measurement(gathered, f"{_CLIPS}:batch", "batch", 5, {"cache": "none"}),
        Measurement("a batch on the device, from RAM", f"{_CLIPS}:batch", "batch", 6, {"cache": "host"}, gathered),
        Measurement(
            "a batch on the device, from the GPU", f"{_CLIPS}:batch", "batch", 6, {"cache": "device"}, gathered, True
        ),
        Measurement(
            "views of a batch, all clips at once against one by one", f"{_CLIPS}:views", "batch", 5, launches=True
        ),
        Measurement("mixing a batch, at once against row by row", f"{_CLIPS}:mixing", "batch", 5, launches=True),
    ]


def _epochs() -> list[Measurement]:
    decoded = "clips decoded by one thread"
    return [
        Measurement(decoded, f"{_CLIPS}:epoch", "step", 20, {"cache": "none"}),
        Measurement(
            "clips decoded by 8 processes",
            f"{_CLIPS}:epoch",
            "step",
            30,
            {"cache": "none", "workers": 8},
            decoded,
            True,
        ),
        Measurement("frames kept in RAM", f"{_CLIPS}:epoch", "step", 18, {"cache": "host"}, decoded),
        Measurement("frames kept on the GPU", f"{_CLIPS}:epoch", "step", 15, {"cache": "device"}, decoded, True),
    ]


def _two_at_once() -> list[Measurement]:
    graphs = {"auto": "as trainings run", "off": "without the CUDA graph"}
    return [
        Measurement(
            f"two processes against one, {name}",
            "benchmarks.gpu.side_by_side:two_at_once",
            "step",
            25,
            {"cuda_graph": choice},
            needs_cuda=choice == "off",
        )
        for choice, name in graphs.items()
    ]


def _detect() -> list[Measurement]:
    name = "on the GPU, 16 frames at once, against one thread of the processor"
    return [Measurement(name, "benchmarks.gpu.detection:detect", "frame", 25)]


def _networks() -> list[Measurement]:
    """A step of each network in its own frames and size, and what it needs of the memory."""
    return [Measurement(name, f"{_STEP}:network", "step", 3, {"name": name}, launches=True) for name in NETWORKS]


# In the order in which they are measured: what matters least comes last. The last part is only for time that is left:
# the others take all minutes, if each takes as long as it may.
PARTS = {
    "steps": Part(_steps(), _TRAINING),
    "graph": Part(_graph(), _TRAINING),
    "epochs": Part(_epochs(), _TRAINING),
    "cache": Part(_cache(), _TRAINING),
    "two-at-once": Part(_two_at_once(), _TRAINING),
    "detect": Part(_detect(), _DETECTION, needs_cuda_provider=True),
    "compile": Part(_compile(), {**_TRAINING, "triton": "triton"}, tools=("cc", "gcc")),
    "networks": Part(_networks(), _TRAINING),
}

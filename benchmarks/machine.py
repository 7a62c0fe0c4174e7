"""Describes the machine and measures its peak performance."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.measure import Variant, Work, alone, repeated

_LIBRARIES = (
    *("torch", "torchvision", "onnxruntime", "opencv-python", "numpy"),
    *("pyarrow", "insightface", "pillow", "prefect"),
)


@dataclass(frozen=True)
class Machine:
    """The machine."""

    processor: str
    cores: int
    memory_bytes: int
    gpu: str
    python: str
    versions: dict[str, str]
    matmul_gflops: dict[int, float]  # number of threads -> median of matrix products
    copy_gbytes: float  # median GB per second, read and written, of copies with all cores

    @property
    def peak_flops(self) -> float:
        """Floating-point operations per second of matrix products with all cores."""
        return 1e9 * self.matmul_gflops[self.cores]


def measure(*, quick: bool) -> Machine:
    """Measure this machine in a few seconds."""
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    side, rounds = (768, 3) if quick else (3072, 5)
    gflops = {}
    for threads in sorted({1, cores}):
        product = alone(Variant("matmul", multiply, threads, {"side": side}), rounds=rounds)
        gflops[threads] = 2 * side**3 / product.median / 1e9
    size = 64 * 2**20
    copied = alone(Variant("copy", copy, cores, {"size": size}), rounds=rounds)
    return Machine(
        processor=_processor(),
        cores=cores,
        memory_bytes=psutil.virtual_memory().total,
        gpu=_gpu(),
        python=platform.python_version(),
        versions={name: _version(name) for name in _LIBRARIES},
        matmul_gflops=gflops,
        copy_gbytes=2 * 4 * size / copied.median / 1e9,
    )


def multiply(*, side: int) -> Iterator[Work]:
    """Products of two float32 matrices of `side` x `side`."""
    import torch

    left, right, out = (torch.rand(side, side) for _ in range(3))
    return repeated(lambda: torch.mm(left, right, out=out), 2)


def copy(*, size: int) -> Iterator[Work]:
    """Copies of `size` float32 numbers into allocated memory."""
    import torch

    source, out = torch.rand(size), torch.rand(size)
    return repeated(lambda: out.copy_(source), 5)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # another build has another name
        return "unknown"

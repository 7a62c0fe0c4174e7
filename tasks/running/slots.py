"""How much runs side by side on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dfer.config.pipeline import Pipeline
from dfer.system import gpu_slots, gpus
from dfer.system.gpu_slots import GpuSlot, GpuSlots
from dfer.system.gpus import Gpu, visible_gpus


def trainings_at_a_time(pipeline: Pipeline) -> int:
    """One or two a GPU (`training_places`), unless the configuration says otherwise. A training of several processes
    takes as many GPUs or cores.

    Without GPUs one more than there are cores, each of one thread: no core idles while another training loads its
    libraries, writes, or is the last one.
    """
    processes, cores = pipeline.settings.train.processes, pipeline.workers
    one_more = 1 if processes == 1 < cores else 0
    places = gpus.training_places(_gpus(pipeline), processes) or cores + one_more
    return gpus.trainings_at_a_time(pipeline.run.trainings, processes, places)


def threads_per_training(pipeline: Pipeline) -> int:
    """The cores, shared between the trainings that run at a time, unless the configuration says otherwise."""
    return pipeline.settings.train.threads or max(1, pipeline.workers // trainings_at_a_time(pipeline))


def slower_than_alone(pipeline: Pipeline) -> float:
    """How many times as long a training takes beside the others as alone, where they share the cores."""
    if _gpus(pipeline):
        return 1.0
    return max(1.0, trainings_at_a_time(pipeline) * threads_per_training(pipeline) / pipeline.workers)


class Slots:
    """Slots for the work of one run, which tasks wait for.

    They wait here rather than in Prefect's pool, whose threads also hold tasks that wait for other tasks. To be closed
    in the end, with the processes that are kept for shards and evaluations.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._aligning: GpuSlots | None = None
        self._training: GpuSlots | None = None

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Hold the slot to draw a demo data set in, which takes all cores."""
        with self._drawing:
            yield

    def aligning(self) -> GpuSlot:
        """A slot to align faces in. It is not taken yet."""
        return GpuSlot(lambda: self._align_slots)

    def training(self, processes: int = 1) -> GpuSlot:
        """A slot to train or evaluate in, for so many processes of one training. It is not taken yet."""
        return GpuSlot(lambda: self._gpu_slots, processes)

    @property
    def threads_per_training(self) -> int:
        return self._gpu_slots.threads

    @property
    def _align_slots(self) -> GpuSlots:
        with self._lock:
            if self._aligning is None:
                provider, workers = self._pipeline.settings.detection.provider, self._pipeline.workers
                self._aligning = gpu_slots.for_aligners(provider, workers)
            return self._aligning

    @property
    def _gpu_slots(self) -> GpuSlots:
        # made for the first training that has something to do: asking for GPUs loads torch, which takes seconds
        with self._lock:
            if self._training is None:
                if self._aligning is not None:
                    self._aligning.close()  # faces come before trainings, which can use the memory of these processes
                self._training = GpuSlots(
                    trainings_at_a_time(self._pipeline),
                    [gpu.name for gpu in _gpus(self._pipeline)],
                    threads=threads_per_training(self._pipeline),
                    processes=self._pipeline.settings.train.processes,
                )
            return self._training

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, *_: object) -> None:
        for slots in (self._aligning, self._training):
            if slots is not None:
                slots.close()


def _gpus(pipeline: Pipeline) -> list[Gpu]:
    """The GPUs that trainings may use, see `visible_gpus`; none for training on the CPU."""
    return [] if pipeline.settings.train.device == "cpu" else visible_gpus()

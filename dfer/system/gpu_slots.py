"""Slots for work side by side, on GPUs or on the processor."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dfer.system.gpus import ALIGNERS_A_GPU, VISIBLE, visible_gpus
from dfer.system.processes import Workers


class GpuSlots:
    """A number of slots, on GPUs by their names in CUDA_VISIBLE_DEVICES, or on the processor without GPUs.

    A GPU is shared by several slots only where there are more slots than GPUs. Safe to use from several threads. To be
    closed in the end.

    Attributes:
        sharing: how many slots share a GPU; 1 on the processor.
        threads: of numerical libraries in each slot.
    """

    def __init__(self, number: int, gpus: Sequence[str], *, threads: int, processes: int = 1) -> None:
        """`processes` is how many GPUs a usual slot takes."""
        self._free = number
        self._gpus = list(gpus)
        self.sharing = max(1, -(-number * processes // len(gpus))) if gpus else 1
        self.threads = threads
        self._used: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._workers: dict[tuple[str, ...], Workers] = {}

    def take(self, number: int) -> tuple[str, ...]:
        """Wait for a slot with so many GPUs (all of them, if there are fewer): the least used ones."""
        number = min(number, len(self._gpus))
        with self._changed:
            while self._free == 0 or len(chosen := self._least_used(number)) < number:
                self._changed.wait()
            self._free -= 1
            self._used.update(chosen)
            return chosen

    def give_back(self, gpus: tuple[str, ...]) -> None:
        """Free a slot with these GPUs."""
        with self._changed:
            self._free += 1
            self._used.subtract(gpus)
            self._changed.notify_all()

    def workers(self, gpus: tuple[str, ...]) -> Workers:
        """Processes that are kept for short calls on these GPUs."""
        with self._changed:
            if gpus not in self._workers:
                self._workers[gpus] = Workers(self.threads, environment(gpus))
            return self._workers[gpus]

    def close(self) -> None:
        """End the processes that are kept."""
        for workers in self._workers.values():
            workers.close()

    def _least_used(self, number: int) -> tuple[str, ...]:
        free = [gpu for gpu in self._gpus if self._used[gpu] < self.sharing]
        return tuple(sorted(free, key=lambda gpu: self._used[gpu])[:number])


class GpuSlot:
    """A slot to work in, held as a context.

    Attributes:
        gpus: its GPUs while it is held, by their names in CUDA_VISIBLE_DEVICES; none on the processor.
    """

    def __init__(self, slots: Callable[[], GpuSlots], processes: int = 1) -> None:
        """Nothing is taken yet; each of the `processes` wants a GPU."""
        self._slots, self._processes = slots, processes
        self.gpus: tuple[str, ...] = ()

    def __enter__(self) -> GpuSlot:
        self.gpus = self._slots().take(self._processes)
        return self

    def __exit__(self, *_: object) -> None:
        self._slots().give_back(self.gpus)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process that works here needs in its environment, before it loads torch."""
        return environment(self.gpus)

    @property
    def sharing(self) -> int:
        """How many slots share a GPU."""
        return self._slots().sharing

    @property
    def workers(self) -> Workers:
        """Processes that are kept for short calls here."""
        return self._slots().workers(self.gpus)


def environment(gpus: Sequence[str]) -> dict[str, str]:
    """On the processor the environment stays as it is: `train.device` keeps torch from using a GPU."""
    return {VISIBLE: ",".join(gpus)} if gpus else {}


def for_one_aligner(provider: str) -> dict[str, str]:
    """What an aligner needs in its environment that knows nothing of the others, such as a process of a pool: on GPUs
    one of them, by the process's number, so that neighbours have different ones."""
    names = [gpu.name for gpu in visible_gpus()] if provider == "cuda" else []
    return environment(names[os.getpid() % len(names) :][:1]) if names else {}


def for_aligners(provider: str, workers: int) -> GpuSlots:
    """Slots for `workers` processes that align faces: on a GPU no more than it has use for, spread over all of them."""
    names = [gpu.name for gpu in visible_gpus()] if provider == "cuda" else []
    return GpuSlots(min(workers, ALIGNERS_A_GPU * len(names)) if names else workers, names, threads=1)

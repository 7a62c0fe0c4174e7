"""One training by several processes: PyTorch's DistributedDataParallel, one process a GPU, or on the CPU.

On one machine `train` starts the processes itself. On several, with a work directory that all of them share, the job
that it has written is started on each of them by torchrun::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m dfer.training.distributed FOLDER/job
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch.multiprocessing import ProcessContext, ProcessExitedException, start_processes

from dfer.system import logs
from dfer.system.gpus import VISIBLE, visible_gpus
from dfer.system.processes import die_with_parent, portable
from dfer.training.job import Job, read_job
from dfer.training.loop import TrainResult, train
from dfer.training.run import Row, TrainingError
from dfer.training.world import World

PATIENCE = timedelta(days=1)
"""How long a process waits for the others. Whoever starts them notices one that has died, and ends the rest; those that
wait do so for one that is reading clips or writing a checkpoint."""

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@dataclass(frozen=True)
class Place:
    """Where one process of a training runs: its number among those of its machine, and how many these are."""

    world: World
    local_rank: int
    local_size: int


def train_together(job: Job, on_epoch: Callable[[Row], None] | None = None) -> TrainResult:
    """Do a job with processes on this machine, or find that it was done.

    `on_epoch` is called with every row of the history, also with those that were there before. The processes end with
    this one.

    Raises:
        ValueError: this machine has fewer GPUs than processes are asked for.
        TrainingError: a process died, or another one does this job at the moment.
        Whatever else `train` raises.
    """
    result = _done(job)
    if result is None:
        _check_gpus(job)
        # A store in a file: what meets over the network would listen on it.
        with tempfile.TemporaryDirectory(prefix="dfer-train-") as folder:
            result = _launch(job, Path(folder) / "store", on_epoch)
    elif on_epoch is not None:
        for row in result.history:
            on_epoch(row)
    job.remove()
    return result


def _done(job: Job) -> TrainResult | None:
    noted = job.result
    return None if noted is None else TrainResult(job.folder, noted["epoch"], noted["history"], noted["summary"])


def _check_gpus(job: Job) -> None:
    asked, device = job.settings.processes, job.settings.device
    there = 0 if device == "cpu" else len(visible_gpus())
    if there < asked and (there or device == "cuda"):
        raise ValueError(
            f"train.processes is {asked}, but {there} GPUs are visible here. Set it to {there or 1}, or start this on "
            f"every machine, with so many processes in all and the work directory shared:\n"
            "  torchrun --nnodes MACHINES --nproc-per-node GPUS --rdzv-backend c10d --rdzv-endpoint HOST:29400 "
            f"-m dfer.training.distributed {job.path}\n"
            "and then run the pipeline again, which goes on from there"
        )


def _launch(job: Job, store: Path, on_epoch: Callable[[Row], None] | None) -> TrainResult:
    size = job.settings.processes
    pipes = [get_context("spawn").Pipe(duplex=False) for _ in range(size)]
    heard = [ours for ours, _ in pipes]
    context = start_processes(_work, (job.path, store, [theirs for _, theirs in pipes]), size, join=False)
    try:
        for _, theirs in pipes:
            theirs.close()
        return _follow(context, heard, on_epoch)
    finally:
        for process in context.processes:
            process.kill()
            process.join()


def _follow(
    context: ProcessContext, heard: Sequence[Connection], on_epoch: Callable[[Row], None] | None
) -> TrainResult:
    """Pass the rows on until the result is there, or raise what went wrong first."""
    results: list[TrainResult] = []
    errors: list[tuple[float, Exception, str]] = []

    def listen() -> None:
        for connection in heard:
            while connection.poll():
                try:
                    kind, payload = connection.recv()
                except EOFError:
                    break
                if kind == "log":
                    logs.emit(payload)
                elif kind == "row" and on_epoch is not None:
                    on_epoch(payload)
                elif kind == "result":
                    results.append(payload)
                elif kind == "error":
                    errors.append(payload)

    try:
        while not context.join(timeout=0):
            wait([*context.sentinels, *heard])
            listen()
        listen()
    except ProcessExitedException as exited:
        listen()
        if not errors:
            raise TrainingError(
                f"{exited}, one of {len(heard)} that train together, and without a word; "
                "the machine may have run out of memory"
            ) from None
    if errors:
        # the others fail because the first one is gone
        _, error, text = min(errors, key=lambda entry: entry[0])
        error.add_note(f"in a process of the training:\n{text}")
        raise error
    return results[0]


def _work(rank: int, job: Path, store: Path, channels: Sequence[Connection]) -> None:
    die_with_parent()
    size = len(channels)
    # All are on this machine: nothing of it has to be seen from outside.
    os.environ.update(GLOO_SOCKET_IFNAME=_LOOPBACK, NCCL_SOCKET_IFNAME=_LOOPBACK)
    sending = threading.Lock()

    def send(kind: str, payload: Any) -> None:
        with sending:
            channels[rank].send((kind, payload))

    if rank == 0:
        logs.forward(lambda record: send("log", record))
    else:
        logging.disable(logging.WARNING)  # all say the same
    try:
        place = Place(World(rank, size), rank, size)
        meeting = dist.FileStore(str(store), size)
        result = run_job(job, place, store=meeting, on_epoch=lambda row: send("row", row))
        if rank == 0:
            send("result", result)
    except Exception as error:
        send("error", (time.monotonic(), portable(error), traceback.format_exc()))
        sys.exit(1)


def run_job(
    path: Path, place: Place, *, store: dist.Store | None = None, on_epoch: Callable[[Row], None] | None = None
) -> TrainResult:
    """One process's part of a job. Without a `store`, the processes meet as torchrun has told them."""
    job = read_job(path)
    settings, world = job.settings, place.world
    if world.size != settings.processes:
        raise ValueError(f"{path} is for train.processes {settings.processes}, but {world.size} processes were started")
    device = _own_device(settings.device, place)
    # Of 1 x 1 convolutions: the same memory in the same order, under strides of another name.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    arguments = job.arguments()
    # Of what belongs to one training on this machine, each of its processes takes its part.
    threads = max(1, (arguments.pop("threads") or torch.get_num_threads()) // place.local_size)
    trainings = arguments.pop("side_by_side")
    on_its_gpu = arguments.pop("on_its_gpu") or trainings
    backend = "nccl" if device == "cuda" else "gloo"
    with _alone(path) if world.rank == 0 else nullcontext():
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=PATIENCE)
        try:
            result = train(
                **arguments,
                threads=threads,
                side_by_side=trainings * place.local_size,
                on_its_gpu=on_its_gpu,
                world=world,
                on_epoch=on_epoch if world.rank == 0 else None,
            )
        finally:
            dist.destroy_process_group()
        if world.rank == 0:
            job.finish({"epoch": result.epoch, "history": result.history, "summary": result.summary})
    return result


def _own_device(asked: str, place: Place) -> str:
    """ "cpu" or "cuda"; of the GPUs, this process sees its own alone from here on: helpers, threads included."""
    gpus = [] if asked == "cpu" else visible_gpus()
    if not gpus:
        return "cpu"
    if len(gpus) < place.local_size:
        raise ValueError(f"{place.local_size} processes were started here, but {len(gpus)} GPUs are visible")
    os.environ[VISIBLE] = gpus[place.local_rank]
    return "cuda"


@contextmanager
def _alone(job: Path) -> Iterator[None]:
    """Nobody else trains this meanwhile, whoever started them."""
    lock = FileLock(job / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise TrainingError(f"{job} is being trained already; wait for it, or end those processes") from None
    try:
        yield
    finally:
        lock.release()


def main(arguments: Sequence[str]) -> None:
    """A process that torchrun has started, with a job's folder as its only argument."""
    if len(arguments) != 1 or "RANK" not in os.environ:
        sys.exit("usage: torchrun ... -m dfer.training.distributed FOLDER/job")
    die_with_parent()

    def number(name: str) -> int:
        return int(os.environ[name])

    world = World(number("RANK"), number("WORLD_SIZE"))
    run_job(Path(arguments[0]), Place(world, number("LOCAL_RANK"), number("LOCAL_WORLD_SIZE")), on_epoch=_say)


def _say(row: Row) -> None:
    print(f"epoch {row['epoch']}: loss {row['loss']:.4f}, {row['clips_per_second']:.1f} clips/s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

"""One training by several processes: PyTorch's DistributedDataParallel, one process a GPU, or on the CPU.

The processes compute the mean over the whole batch, with its batch normalisation. Each mixes the clips of its share of
the batch among themselves, and draws its dropout from a stream of its own.

On one machine `train` starts the processes itself. On several, with a work directory that all of them share, torchrun
starts the job that `train` has written on each of them::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m dfer.training.distributed FOLDER/job
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from dfer.system.gpus import VISIBLE, visible_gpus
from dfer.system.processes import ProcessDiedError, Sender, die_with_parent, run_together
from dfer.training.fit import TrainResult, fit
from dfer.training.job import Job, read_job
from dfer.training.plan import Resources
from dfer.training.run import EpochRow, TrainingError
from dfer.training.world import World

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: one may be reading clips or writing a checkpoint. Whoever starts the
processes notices when one has died, and ends the rest."""

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@dataclass(frozen=True)
class ProcessRank:
    """One process of a training: its number among those of its machine, and how many these are."""

    world: World
    local_rank: int
    local_size: int


def train_together(job: Job, on_epoch: Callable[[EpochRow], None] | None = None) -> TrainResult:
    """Do a job with processes on this machine, which end with this one, or take the result if it is done already.

    `on_epoch` is called with every row of the history, also with those from before: another process, or another
    machine, may have trained them. Raises ValueError if this machine has fewer GPUs than `train.processes`,
    TrainingError if a process died or another run does this job at the moment, and what else `dfer.training.train`
    raises.
    """
    if (noted := job.result) is None:
        _check_gpus(job)
        result = _launch(job, on_epoch)
    else:
        result = TrainResult(job.folder, noted["epoch"], noted["history"], noted["summary"])
        for row in result.history:
            if on_epoch is not None:
                on_epoch(row)
    job.remove()
    return result


def _check_gpus(job: Job) -> None:
    processes, device = job.plan.train.processes, job.plan.train.device
    gpus = 0 if device == "cpu" else len(visible_gpus())
    if gpus < processes and (gpus or device == "cuda"):
        raise ValueError(
            f"train.processes is {processes}, but {gpus} GPUs are visible here. Set it to {gpus or 1}, or start this "
            f"on every machine, with so many processes in all and the work directory shared:\n"
            "  torchrun --nnodes MACHINES --nproc-per-node GPUS --rdzv-backend c10d --rdzv-endpoint HOST:29400 "
            f"-m dfer.training.distributed {job.path}\n"
            "and then run the pipeline again, which goes on from there"
        )


def _launch(job: Job, on_epoch: Callable[[EpochRow], None] | None) -> TrainResult:
    size = job.plan.train.processes
    # A store in a file, and the loopback interface: nothing of this can be reached over the network.
    environment = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
    with tempfile.TemporaryDirectory(prefix="dfer-train-") as folder:
        arguments = [{"job": job.path, "store": Path(folder) / "store", "world": World(n, size)} for n in range(size)]
        try:
            return run_together(_work, arguments, threads=0, environment=environment, on_message=on_epoch)[0]
        except ProcessDiedError as error:
            raise TrainingError(f"{error}; it was one of {size} that train together") from None


def _work(*, job: Path, store: Path, world: World, send: Sender) -> TrainResult:
    """One process's part of a job on this machine."""
    if world.rank > 0:
        logging.disable(logging.WARNING)  # all log the same
    file = dist.FileStore(str(store), world.size)
    return run_job(job, ProcessRank(world, world.rank, world.size), store=file, on_epoch=send)


def run_job(
    path: Path, process: ProcessRank, *, store: dist.Store | None = None, on_epoch: Callable[[EpochRow], None]
) -> TrainResult:
    """One process's part of a job. Without a `store`, the processes meet as torchrun has told them."""
    job, world = read_job(path), process.world
    train = job.plan.train
    if world.size != train.processes:
        raise ValueError(f"{path} is for train.processes {train.processes}, but {world.size} processes were started")
    device = _choose_device(train.device, process)
    # Of 1 x 1 convolutions: the same memory in the same order, under strides of another name.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    with _alone(path) if world.rank == 0 else nullcontext():
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=PATIENCE)
        resources = _share(job.resources, process.local_size)
        result = fit(
            job.plan, job.data(), job.folder, card=job.card, resources=resources, world=world, on_epoch=on_epoch
        )
        # Only now: if an error closed the connections, the others would fail too, and theirs might be reported first.
        dist.destroy_process_group()
        if world.rank == 0:
            job.finish({"epoch": result.epoch, "history": result.history, "summary": result.summary})
    return result


def _share(resources: Resources, processes: int) -> Resources:
    """What each of the processes on one machine takes of what their training may take."""
    return replace(
        resources,
        threads=max(1, (resources.threads or torch.get_num_threads()) // processes),
        side_by_side=resources.side_by_side * processes,
        on_its_gpu=resources.on_its_gpu or resources.side_by_side,
    )


def _choose_device(device: str, process: ProcessRank) -> str:
    """ "cpu" or "cuda"; from here on this process, its threads and its children see one GPU alone."""
    gpus = [] if device == "cpu" else visible_gpus()
    if not gpus:
        return "cpu"
    if len(gpus) < process.local_size:
        raise ValueError(f"{process.local_size} processes were started here, but {len(gpus)} GPUs are visible")
    os.environ[VISIBLE] = gpus[process.local_rank].name
    return "cuda"


@contextmanager
def _alone(job: Path) -> Iterator[None]:
    """Hold the job's lock: nobody else trains it meanwhile."""
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
    rank, size, local_rank, local_size = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    run_job(Path(arguments[0]), ProcessRank(World(rank, size), local_rank, local_size), on_epoch=_print_row)


def _print_row(row: EpochRow) -> None:
    print(f"epoch {row['epoch']}: loss {row['loss']:.4f}, {row['clips_per_second']:.1f} clips/s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

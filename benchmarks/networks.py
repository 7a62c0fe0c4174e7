"""`python -m benchmarks.networks [NAME...]`: the training's step of each network, as a Markdown table.

Of its own number and size of frames, with random weights and MIDAS's targets, in a process of its own: seconds of a
step, the most memory that the process held, and how much of what this machine can multiply the step makes use of.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.paper import paper_plan
from dfer.config.catalogue import NETWORKS
from dfer.system.processes import run_isolated


class Measured(NamedTuple):
    """One network's step."""

    name: str
    frames: int
    size: int
    parameters: int
    gflops: float  # of a clip, forward and backward
    seconds: float  # of a step
    gib: float
    share: float  # of the machine's fastest product of matrices


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of networks; all of the catalogue's if left out")
    parser.add_argument("--batch", type=int, default=2, help="clips of a step")
    parser.add_argument("--seconds", type=float, default=2.0, help="that each is timed for, at least three steps")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--quick", action="store_true", help="narrow networks, to try it")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in NETWORKS]:
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(NETWORKS)}")
    rows = []
    for name in options.names or NETWORKS:
        rows.append(
            run_isolated(
                measure,
                name=name,
                batch=options.batch,
                seconds=0.0 if options.quick else options.seconds,
                threads=options.threads or os.cpu_count() or 1,  # of the process
                width=0.25 if options.quick else 1.0,
            )
        )
        sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(as_markdown(rows, options.batch))
    return 0


def measure(*, name: str, batch: int, seconds: float, width: float, send: Callable[[Any], None]) -> Measured:
    """In a process of its own, since memory is that of the process."""
    from dfer.models import build
    from dfer.system.memory import peak_memory
    from dfer.training.speed import step_speed

    network = NETWORKS[name]
    plan = paper_plan(
        network.input_size, segments=network.num_segments, width=width, name=name, batch_size=batch, device="cpu"
    )
    speed = step_speed(plan, threads=0, seconds=seconds)
    model = build(name, num_classes=len(plan.classes), num_segments=network.num_segments, width=width)
    return Measured(
        name,
        network.num_segments,
        network.input_size,
        sum(parameter.numel() for parameter in model.parameters()),
        speed.flops_per_clip / 1e9,
        1 / speed.steps_per_second,
        peak_memory() / 2**30,
        speed.share_of_peak,
    )


def as_markdown(rows: Sequence[Measured], batch: int) -> str:
    lines = [
        f"| network | frames | parameters, M | GFLOPs a clip | s, a step of {batch} | memory, GiB | of the peak |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{row.name}` | {row.frames} x {row.size} | {row.parameters / 1e6:.1f} | {row.gflops:.0f} | "
        f"{row.seconds:.2f} | {row.gib:.1f} | {100 * row.share:.0f} % |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

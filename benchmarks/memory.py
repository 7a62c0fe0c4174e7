"""`python -m benchmarks.memory VIDEO`: memory of `dfer align`, or `dfer predict`, for longer and longer films.

They are one video repeated."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from benchmarks.measure import sampled_memory

MINUTES = (1, 10, 60)


@dataclass(frozen=True)
class Film:
    """The measurement of one length."""

    minutes: int
    frames: int
    peak: int  # largest sum of resident memory of all processes, bytes
    seconds: float
    shard: int  # bytes on disk; 0 of a film that is predicted


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("video", type=Path, help="with a face, in MP4")
    parser.add_argument("--minutes", type=int, nargs="+", default=MINUTES)
    parser.add_argument("--model", help="let this model predict the films, instead of aligning them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    options = parser.parse_args(arguments)
    films: list[Film] = []
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory(prefix="dfer-memory-") as scratch:
            films.append(measure(options.video, minutes, Path(scratch), options.set, options.model))
        sys.stderr.write(f"{films[-1]}\n")
    sys.stdout.write(as_markdown(films))
    return 0


def measure(video: Path, minutes: int, scratch: Path, overrides: Sequence[str], model: str | None = None) -> Film:
    """Align a film of some minutes in a folder that has room for it, or let a model predict it."""
    film = scratch / "film.mp4"
    frames = repeat(video, film, minutes * 60)
    settings = [part for override in overrides for part in ("--set", override)]
    command = [
        str(Path(sys.executable).with_name("dfer")),
        *(["align"] if model is None else ["predict", "--model", model]),
        str(film),
        "--out",
        str(scratch / "out"),
        *settings,
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with sampled_memory(process.pid) as peak:
        if process.wait():
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    seconds = time.perf_counter() - started
    shard = sum(path.stat().st_size for path in (scratch / "out").rglob("clips.*"))
    return Film(minutes, frames, peak[0], seconds, shard)


def repeat(video: Path, film: Path, seconds: int) -> int:
    """Write a video again and again into a file, without decoding it, up to some seconds; returns how many frames."""
    import av

    frames, offset, written = 0, 0, Fraction(0)
    with av.open(film, "w") as output:
        stream = None
        while written < seconds:
            with av.open(video) as source:
                read = source.streams.video[0]
                stream = stream or output.add_stream_from_template(read)
                assert read.time_base is not None
                end = offset
                for packet in source.demux(read):
                    if packet.dts is None or packet.pts is None or written >= seconds:
                        continue
                    packet.dts, packet.pts = packet.dts + offset, packet.pts + offset
                    end = max(end, packet.pts + (packet.duration or 1))
                    written = end * read.time_base
                    packet.stream = stream
                    output.mux(packet)
                    frames += 1
                offset = end
    return frames


def as_markdown(films: Sequence[Film]) -> str:
    """The table."""
    rows = [
        ("frames", [f"{film.frames:,}" for film in films]),
        ("most memory of all processes", [f"{film.peak / 2**20:,.0f} MiB" for film in films]),
        ("time", [f"{film.seconds:,.0f} s" for film in films]),
    ]
    if any(film.shard for film in films):
        rows.append(("shard", [f"{film.shard / 2**20:,.0f} MiB" for film in films]))
    head = ["", *(f"{film.minutes} minute{'s' if film.minutes > 1 else ''}" for film in films)]
    lines = [head, ["---", *("---:" for _ in films)], *([name, *values] for name, values in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

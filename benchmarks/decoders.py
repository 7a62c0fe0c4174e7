"""`python -m benchmarks.decoders FOLDER...`: PyAV and OpenCV on every video below some folders, as a Markdown table.

One thread each, every frame as BGR, in turn; of several passes the fastest counts. A file that makes a decoder crash
costs that decoder's numbers for it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfer.system.processes import ProcessDiedError, run_isolated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PASSES = 5
_SECONDS = 2.0  # after which no pass of a decoder begins


@dataclass
class Decoded:
    """What one decoder made of a file: frames, seconds of the fastest pass, and what it says of the file."""

    frames: int = 0
    seconds: float = 0.0
    says: str = ""

    @property
    def cell(self) -> str:
        """`frames, frames a second`, or what went wrong."""
        return f"{self.frames}, {self.frames / self.seconds:.0f}/s" if self.frames else self.says or "none"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoders", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    folders = parser.parse_args(arguments).folders
    paths = sorted((path for folder in folders for path in folder.rglob("*") if path.is_file()), key=os.fsencode)
    head = (
        "| file | PyAV: frames | OpenCV: frames | PyAV/OpenCV, speed | pixels | remarks |",
        "|---|---:|---:|---:|---|---|",
    )
    for line in chain(head, map(row, paths)):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def row(path: Path) -> str:
    """The line of the table for a file."""
    ours, theirs = isolated("pyav", path), isolated("opencv", path)
    speed = theirs.seconds / ours.seconds if ours.frames and ours.frames == theirs.frames else 0.0
    try:
        pixels = run_isolated(compare, path=path)
    except ProcessDiedError:
        pixels = "-"
    name = os.fsencode(path.name).decode(errors="backslashreplace").replace("|", "\\|")
    remarks = ours.says if ours.frames else ""
    return f"| {name} | {ours.cell} | {theirs.cell} | {f'{speed:.2f}' if speed else '-'} | {pixels} | {remarks} |"


def isolated(decoder: str, path: Path) -> Decoded:
    """`measure` in a process of its own."""
    try:
        return run_isolated(measure, decoder=decoder, path=path)
    except ProcessDiedError as error:
        return Decoded(says=f"crashes ({error.signal.name})" if error.signal else "dies")


def measure(*, decoder: str, path: Path, send: object) -> Decoded:
    """Decode a file several times."""
    best = Decoded(seconds=float("inf"))
    began = time.perf_counter()
    for number in range(_PASSES):
        if number and time.perf_counter() - began > _SECONDS:
            break
        start = time.process_time()
        frames, says = _DECODERS[decoder](path)
        count = sum(1 for _ in frames)
        best = Decoded(count, min(best.seconds, time.process_time() - start), says())
    return best


def compare(*, path: Path, send: object) -> str:
    """How far the decoders' pixels are from each other."""
    ours, theirs = (decode(path)[0] for decode in _DECODERS.values())
    largest, shapes = 0, False
    for one, other in zip_longest(ours, theirs):
        if one is None or other is None:
            return "other frames"
        shapes |= one.shape != other.shape
        largest = max(largest, 0 if shapes else int(abs(one.astype(int) - other).max()))
    return "another shape" if shapes else f"differ by {largest}" if largest else "equal"


def _pyav(path: Path) -> tuple[Iterator[NDArray[np.uint8]], Callable[[], str]]:
    from dfer.video import Video, VideoError

    try:
        video = Video(path)
    except VideoError as error:
        reason = error.reason
        return iter(()), lambda: reason
    return (picture for _, picture in video.frames(range(10_000))), lambda: "; ".join(video.remarks)


def _opencv(path: Path) -> tuple[Iterator[NDArray[np.uint8]], Callable[[], str]]:
    from benchmarks.alternatives.decoding import frames

    return frames(path), lambda: ""


_DECODERS: dict[str, Callable[[Path], tuple[Iterator[Any], Callable[[], str]]]] = {"pyav": _pyav, "opencv": _opencv}


if __name__ == "__main__":
    main()

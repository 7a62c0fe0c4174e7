"""Profiles one aligning process: `python -m benchmarks.profile_align VIDEO... [--set KEY=VALUE]`.

Prints the functions that take most time, without the functions that they call.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_align", description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    arguments = parser.parse_args()

    from dfer.system.processes import limit_threads

    limit_threads(1)
    from dfer.config.reading import stage_settings
    from dfer.faces.videos import align_in_process

    settings = stage_settings(["shards.frames_per_segment=3", *arguments.set])
    clips = [(path.as_posix(), path) for path in arguments.videos]

    def align(part: list[tuple[str, Path]], folder: Path) -> None:
        align_in_process(clips=part, folder=folder, settings=settings, send=lambda _: None)

    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as scratch:
        align(clips[:1], Path(scratch, "warm-up"))
        profile.runcall(align, clips, Path(scratch, "measured"))
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()

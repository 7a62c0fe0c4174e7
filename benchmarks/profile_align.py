"""Where the time of one aligning process goes: `python -m benchmarks.profile_align VIDEO... [--set KEY=VALUE]`.

Prints the functions that take most of it, by their own time, with the library calls they stand for.
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
    given = parser.parse_args()

    from dfer.system.processes import limit_threads

    limit_threads(1)
    from dfer.config.reading import stage_settings
    from dfer.faces.videos import align_in_process

    settings = stage_settings(["shards.frames_per_segment=3", *given.set])
    clips = [(path.as_posix(), path) for path in given.videos]

    def align(part: list[tuple[str, Path]], folder: Path) -> None:
        align_in_process(clips=part, folder=folder, settings=settings, send=lambda _: None)

    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as scratch:
        align(clips[:1], Path(scratch, "warm-up"))
        profile.runcall(align, clips, Path(scratch, "measured"))
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()

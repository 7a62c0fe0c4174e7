"""Compares the aligned faces of two runs: `python -m benchmarks.compare_crops WORK_DIR WORK_DIR`.

Both are work folders of the same videos, for example of `dfer run demo` at two commits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.preprocess import distances, keypoints_of
from dfer.shards import shard_folders


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_crops", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    before, after = (
        {
            name: points
            for folder in shard_folders(work / "stages" / "align")
            for name, points in keypoints_of(folder).items()
        }
        for work in (arguments.before, arguments.after)
    )
    frames = [{(name, number) for name, numbers in run.items() for number in numbers} for run in (before, after)]
    apart, others = distances(before, after)
    sys.stdout.write(
        f"clips {len(before)} and {len(after)}, {len(before.keys() & after.keys())} in both; "
        f"frames {len(frames[0])} and {len(frames[1])}, {len(frames[0] & frames[1])} in both\n"
        f"key points apart, in pixels of a 224-pixel crop: median {np.median(apart):.2f}, "
        f"95th percentile {np.percentile(apart, 95):.2f}; frames with another person {others:.1%}\n"
    )


if __name__ == "__main__":
    main()

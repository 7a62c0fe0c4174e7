"""`python -m benchmarks.leakage FOLDER`: what folds that are dealt clip by clip flatter by, on demo data.

The demo data's own folds keep people apart. Here its clips are a table of one's own with folds at random, as one makes
them without a thought, and are trained and tested on in these folds and in disjoint ones. Writes the clips and the
table into FOLDER/data and the results into FOLDER/work, and prints the two tables of the report that tell.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dfer import datasets
from dfer.demo.generation import generate
from dfer.labels import EMOTIONS

CLIPS, FOLDS, ARMS, EPOCHS = 320, (1, 2), ("soft",), 60


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leakage", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args(arguments).folder.resolve()
    write_clips(folder / "data", folder / "made")
    table = "pipelines.own.experiments.disjoint"
    settings = [
        f"datasets.own.root={folder / 'data'}",
        f"work_dir={folder / 'work'}",
        f"pipelines.own.arms=[{', '.join(ARMS)}]",
        f"pipelines.own.folds={list(FOLDS)}",
        f"{table}.title=In folds at random, and in disjoint ones",
        f"{table}.split=both",
        f"train.epochs={EPOCHS}",
    ]
    options = [word for value in settings for word in ("--set", value)]
    subprocess.run([sys.executable, "-c", "import dfer.cli; dfer.cli.main()", "run", "own", *options], check=True)
    for name in ("leakage", "leakage-cost"):
        sys.stdout.write((folder / "work" / "reports" / "own" / "tables" / f"{name}.md").read_text() + "\n")


def write_clips(root: Path, made: Path) -> None:
    """The DFEW-like demo set as a table of one's own, each clip in a fold by chance; `made` is for the set itself."""
    if not (made / "dfew").is_dir():
        generate(made, clips=CLIPS, data_sets=("dfew",))
    clips = datasets.load_clips("dfew", made / "dfew", dataset="demo-dfew")
    clips = clips[clips["votes"].notna() & (clips["source_size"] > 0)]
    root.mkdir(parents=True, exist_ok=True)
    for source in clips["source"]:
        shutil.copy2(made / "dfew" / source, root / Path(source).name)  # with its time, which the cache looks at
    votes = pd.DataFrame(clips["votes"].to_list(), columns=[f"votes_{name}" for name in EMOTIONS])
    votes.insert(0, "path", [Path(source).name for source in clips["source"]])
    votes["fold"] = np.random.default_rng(0).permutation(len(votes)) % 5 + 1
    votes.to_csv(root / "clips.csv", index=False)


if __name__ == "__main__":
    main()

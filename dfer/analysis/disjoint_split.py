"""A data set's clip table with folds made anew, in which no clip gives away one of another fold.

Where a test clip has a copy or another take of its scene in the training part, a model can recognise that instead of
the expression. What this is worth is the difference between the scores on the official folds and on these.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from dfer.analysis import leakage, signatures
from dfer.datasets import table
from dfer.faces.index import read_index
from dfer.storage.remote import Location

PAIRS = "pairs.parquet"
"""Every pair of clips that give one another away (`dfer.analysis.leakage.pairs`): `across` the official folds, and
`across_disjoint`, which no pair is."""

FACTS = "leakage.json"
"""By what clips were compared, and from which likeness on two are of the same scene: `by`, `likeness`."""


def write_in_process(
    *, clips: Path, index: Path, root: Location, folder: Path, table_name: str, send: Callable[[Any], None]
) -> dict[str, int]:
    """Write the clip table with its new folds, the pairs and the facts into `folder`, in a process of its own.

    `clips`, `index`: the files of the clip table and of the align index; `root`: the folder that its shards are below;
    `table_name`: of the file to write. Sends None for each clip that was looked at. Returns the numbers of clips and
    folds, and of pairs across the borders of the official folds. Raises ValueError where no disjoint folds can be made,
    dfer.shards.ShardError if a shard cannot be read.
    """
    official, aligned = table.read(clips), read_index(index)
    looks = signatures.of_clips(aligned, root, lambda: send(None))
    pairs = leakage.pairs(looks, official)
    disjoint = official.assign(fold=leakage.disjoint_folds(official, pairs))
    of_clip = disjoint.set_index("clip_id")["fold"]
    ends = [of_clip[pairs[end]].to_numpy(object) for end in ("first", "second")]
    between = [pd.notna(one) and pd.notna(other) and one != other for one, other in zip(*ends, strict=True)]
    if any(between):
        raise AssertionError(f"{sum(between)} pairs are across the borders of folds that were made to have none")
    pairs.assign(across_disjoint=between).to_parquet(folder / PAIRS, index=False)
    facts = {"by": looks.by, "likeness": leakage.scene_likeness(looks)}
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    table.write(disjoint, folder / table_name)
    return {
        "clips": len(disjoint),
        "folds": int(disjoint["fold"].nunique()),
        "pairs_across_official_folds": int(pairs["across"].sum()),
    }

"""`python -m benchmarks.ablation [WORK]`: alignments compared, after `dfer run alignment-demo`, as a Markdown table.

Every evaluation in the work folder whose arm and seed were trained with each of the alignments counts. The difference
is that of clip-affine minus the other one, paired by clip and seed, with its 95 % interval by a bootstrap over
clips; the p-values are corrected for all of them (Holm). Below: the means over all sets and arms, with intervals over
seeds and clips, and what the rule of docs/method.md decides by them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dfer import metrics
from dfer.analysis import statistics
from dfer.analysis.statistics import Interval
from dfer.evaluation import read_predictions
from dfer.labels import EMOTIONS
from dfer.storage.file_names import CARD, PREDICTIONS

_TRANSFORMS = ("clip-affine", "affine", "similarity")
_EPOCHS = 120  # of `alignment-demo`
_TAIL = 0.05 / 2 / 2  # on either side, of each of two comparisons

# (data set, arm) -> transform -> the predictions of all seeds
Tables = dict[tuple[str, str], dict[str, pd.DataFrame]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("work", nargs="?", type=Path, default=Path("work"), metavar="WORK")
    tables = _predictions(parser.parse_args(arguments).work / "stages")
    compared = {
        (key, transform): statistics.compare(by_transform[transform], by_transform[_TRANSFORMS[0]])
        for key, by_transform in sorted(tables.items())
        for transform in _TRANSFORMS[1:]
    }
    corrected = dict(zip(compared, statistics.holm([c.p_values["war"] for c in compared.values()]), strict=True))
    lines = [
        "| evaluated on | arm | alignment | seeds | WAR % | UAR % | clip-affine minus this: WAR | UAR | p, WAR |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for key, by_transform in sorted(tables.items()):
        for transform in _TRANSFORMS:
            table, cells = by_transform[transform], ["", "", ""]
            if (key, transform) in compared:
                differences = compared[key, transform].differences
                cells = [_with_interval(differences["war"]), _with_interval(differences["uar"])]
                cells.append(f"{corrected[key, transform]:.2f}")
            label, prediction = table["label"].to_numpy("int64"), table["prediction"].to_numpy("int64")
            scores = [metrics.war(label, prediction), metrics.uar(label, prediction, len(EMOTIONS))]
            row = [*key, transform, str(table["seed"].nunique()), *(f"{100 * score:.1f}" for score in scores), *cells]
            lines.append(f"| {' | '.join(row)} |")
    against = {transform: over_seeds_and_clips(tables, transform) for transform in _TRANSFORMS[1:]}
    lines += ["", *(f"clip-affine minus {name}: WAR {_with_interval(one)}" for name, one in against.items())]
    lines += [f"by the rule of docs/method.md the default is {decided(against)}"]
    sys.stdout.write("\n".join(lines) + "\n")


def over_seeds_and_clips(tables: Tables, transform: str, *, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean over sets, arms, seeds and clips of WAR by clip-affine minus that by another transform.

    Its interval is a bootstrap over seeds, the same ones for all sets and arms, and over each set's clips; for two
    comparisons together (Bonferroni), so each at 97.5 %. Raises ValueError unless all have the same seeds, and a set's
    arms the same clips.
    """
    generator = np.random.default_rng(seed)
    by_set: dict[str, list[pd.DataFrame]] = {}
    for (dataset, _), by_transform in sorted(tables.items()):
        new, other = (_right(by_transform[name]) for name in (_TRANSFORMS[0], transform))
        by_set.setdefault(dataset, []).append(new - other)
    first = next(iter(by_set.values()))[0]
    for dataset, arms in by_set.items():
        if any(not arm.columns.equals(arms[0].columns) or not arm.index.equals(first.index) for arm in arms):
            raise ValueError(f"{dataset}: expected the same seeds and clips for all arms and alignments")
    # of each set float64[seeds, clips]
    differences = [np.mean([arm.to_numpy() for arm in arms], axis=0) for arms in by_set.values()]
    seeds = generator.multinomial(len(first), np.full(len(first), 1 / len(first)), draws) / len(first)
    values = np.zeros(draws)
    for one in differences:
        clips = generator.multinomial(one.shape[1], np.full(one.shape[1], 1 / one.shape[1]), draws) / one.shape[1]
        values += ((seeds @ one) * clips).sum(axis=1) / len(differences)
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return Interval(float(np.mean([one.mean() for one in differences])), float(low), float(high))


def decided(against: dict[str, Interval]) -> str:
    """The transform that is the default by the rule in docs/method.md."""
    ahead = {name: one for name, one in against.items() if one.high < 0}
    return min(ahead, key=lambda name: ahead[name].estimate, default=_TRANSFORMS[0])


def _right(table: pd.DataFrame) -> pd.DataFrame:
    """Whether a clip was right, 0 or 1: a row a seed, a column a clip. ValueError if a seed lacks some of the clips."""
    right = table.assign(right=(table["prediction"] == table["label"]).astype(float))
    wide = right.pivot(index="seed", columns="clip_id", values="right")
    if wide.isna().any(axis=None):
        raise ValueError("expected predictions of the same clips for every seed")
    return wide


def _with_interval(difference: Interval) -> str:
    return f"{100 * difference.estimate:+.1f} [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"


def _predictions(stages: Path) -> Tables:
    """Only what is there for each transform."""
    tables: dict[tuple[str, str], dict[str, list[pd.DataFrame]]] = {}
    for path in sorted((stages / "evaluate").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime):
        manifest = json.loads(path.read_text())
        model = next(stages / "train" / made["hash"] for made in manifest["made_from"] if made["stage"] == "train")
        if not (model / CARD).exists():
            continue
        card = json.loads((model / CARD).read_text())
        settings = card["settings"]
        if settings["train"]["epochs"] != _EPOCHS or card["alignment"]["transform"] not in _TRANSFORMS:
            continue
        arm = "midas" if settings["arm"]["mixing"] == "midas" else settings["arm"]["labels"]
        table = read_predictions(path.parent / PREDICTIONS).dropna(subset="label")
        by_transform = tables.setdefault((manifest["key"]["dataset"], arm), {})
        by_transform.setdefault(card["alignment"]["transform"], []).append(
            table.assign(seed=settings["train"]["seed"], fold=manifest["key"]["fold"])
        )
    return {
        key: {transform: _once(tables) for transform, tables in by_transform.items()}
        for key, by_transform in tables.items()
        if set(by_transform) == set(_TRANSFORMS)
    }


def _once(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Of each seed the newest predictions."""
    newest = {int(table["seed"].iloc[0]): table for table in tables}
    joined = pd.concat([newest[seed] for seed in sorted(newest)], ignore_index=True)
    return joined.astype({"fold": "Int64", "seed": "int64"})


if __name__ == "__main__":
    main()

"""`python -m benchmarks.ablation [WORK]`: alignments compared, after `dfer run alignment-demo`, as a Markdown table.

Every evaluation in the work folder whose arm and seed were trained with each of the alignments counts. The difference
is that of clip-affine minus the other one, paired by clip and seed, with its 95 % interval by a bootstrap over
clips; the p-values are corrected for all of them (Holm).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dfer import metrics
from dfer.analysis import statistics
from dfer.evaluation import read_predictions
from dfer.labels import EMOTIONS
from dfer.storage.file_names import CARD, PREDICTIONS

_TRANSFORMS = ("clip-affine", "affine", "similarity")
_EPOCHS = 120  # of `alignment-demo`


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
    sys.stdout.write("\n".join(lines) + "\n\n" + "\n".join(_over_all(tables)) + "\n")


def _over_all(tables: dict[tuple[str, str], dict[str, pd.DataFrame]]) -> list[str]:
    """A line a transform: the mean difference of WAR over all sets and arms, over clips and seed by seed.

    The sets' clips are others, so that their variances add up; of one set, both arms see the same clips.
    """
    lines = []
    for transform in _TRANSFORMS[1:]:
        compared = []
        for dataset in sorted({key[0] for key in tables}):
            both = [
                pd.concat(
                    # an arm's seeds count as seeds of their own
                    [by[name].assign(seed=by[name]["seed"] + 100 * n) for n, by in enumerate(_of(tables, dataset))]
                )
                for name in (transform, _TRANSFORMS[0])
            ]
            compared.append(statistics.compare(*both).differences["war"])
        mean = sum(one.estimate for one in compared) / len(compared)
        reach = sum(((one.high - one.low) / 2) ** 2 for one in compared) ** 0.5 / len(compared)
        seeds = sorted(tables[next(iter(tables))][transform]["seed"].unique())
        by_seed = [
            sum(_war(by[_TRANSFORMS[0]], seed) - _war(by[transform], seed) for by in tables.values()) / len(tables)
            for seed in seeds
        ]
        whole = _with_interval(statistics.Interval(mean, mean - reach, mean + reach))
        lines.append(
            f"clip-affine minus {transform}, mean over sets and arms: WAR {whole} over clips; seed by seed "
            f"{', '.join(f'{100 * one:+.1f}' for one in by_seed)}"
        )
    return lines


def _of(tables: dict[tuple[str, str], dict[str, pd.DataFrame]], dataset: str) -> list[dict[str, pd.DataFrame]]:
    return [tables[key] for key in sorted(tables) if key[0] == dataset]


def _war(table: pd.DataFrame, seed: int) -> float:
    rows = table[table["seed"] == seed]
    return metrics.war(rows["label"].to_numpy("int64"), rows["prediction"].to_numpy("int64"))


def _with_interval(difference: statistics.Interval) -> str:
    return f"{100 * difference.estimate:+.1f} [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"


def _predictions(stages: Path) -> dict[tuple[str, str], dict[str, pd.DataFrame]]:
    """(data set, arm) -> transform -> the predictions of all seeds; only what is there for each transform."""
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

"""The outcome of a pipeline: scores of arms over folds and data sets, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dfer.evaluation import score

Row = dict[str, Any]


def per_fold(evaluations: Sequence[Row]) -> pd.DataFrame:
    """One row an evaluation: `arm`, `fold`, `dataset`, `part` and every scalar metric.

    Args:
        evaluations: dicts with `arm`, `fold`, `dataset` and `metrics` (what `dfer.evaluation.score` gives, and `part`).
    """
    rows = []
    for evaluation in evaluations:
        metrics = evaluation["metrics"]
        scalars = {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
        recalls = {f"recall_{emotion}": recall for emotion, recall in metrics["per_class_recall"].items()}
        rows.append({k: evaluation[k] for k in ("arm", "fold", "dataset")} | scalars | recalls)
    return pd.DataFrame(rows)


def summary(folds: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds, and the spread where there is more than one: a row a data set and arm, in the order given.

    Columns `dataset`, `part`, `arm`, `folds`, `WAR`, `UAR` (means over folds, section 4.3), `WAR_sd`, `UAR_sd`
    (standard deviations, nan for one fold), `ECE`, `NLL`, `coverage`.
    """
    grouped = folds.groupby(["dataset", "arm"], sort=False)
    table = grouped.agg(
        part=("part", lambda parts: parts.iloc[0] if parts.nunique() == 1 else f"{len(parts)} folds"),
        folds=("fold", "count"),
        WAR=("war", "mean"),
        WAR_sd=("war", "std"),
        UAR=("uar", "mean"),
        UAR_sd=("uar", "std"),
        NLL=("nll", "mean"),
        ECE=("ece", "mean"),
        coverage=("coverage", "mean"),
    )
    return table.reset_index()


def summed_over_folds(predictions: Sequence[pd.DataFrame], num_listed: int) -> Row:
    """The scores of all folds' predictions taken as one set, in which every clip stands once.

    Raises ValueError if a clip is in two folds.
    """
    together = pd.concat(list(predictions), ignore_index=True)
    if together["clip_id"].duplicated().any():
        raise ValueError("a clip is in the test part of two folds: their predictions cannot be taken together")
    return score(together, num_listed=num_listed)


def as_text(table: pd.DataFrame) -> list[list[str]]:
    """The summary as cells for a terminal or a page: percentages with the spread over folds."""
    cells = []
    for row in table.itertuples():
        part = f"{row.dataset} ({row.part})"
        cells.append(
            [row.arm, part, _percent(row.WAR, row.WAR_sd), _percent(row.UAR, row.UAR_sd), f"{row.coverage:.1%}"]
        )
    return cells


def as_markdown(table: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    lines = ["| arm | evaluated on | WAR | UAR | clips scored |", "|---|---|---:|---:|---:|"]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in as_text(table))])


def _percent(mean: float, spread: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if np.isfinite(spread) else "")

"""The results of a pipeline as plain tables: a row a run, and a row an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from dfer.report.content import ArmResult, ReportContent

SYNTHETIC = "Synthetic data, drawn by the pipeline itself: these numbers show that it works, not how good a method is."
NOT_COMPLETE = "Not complete: these were not made, and every table lacks them."

_ARM = ["experiment", "show", "model", "arm", "split", "epochs", "trained_on", "evaluated_on", "part", "protocol"]
_ARM += ["frames", "missing_runs"]
SCORES = [f"{score}{of}" for score in ("WAR", "UAR") for of in ("", "_sd_over_folds", "_sd_over_seeds")]
"""The columns of `summary` with an arm's scores and their spread."""
_ALL_LISTED = {"war_all_listed": np.nan, "uar_all_listed": np.nan}  # where it is not known
_MEANS = {
    "WAR_all_listed": "war_all_listed",
    "UAR_all_listed": "uar_all_listed",
    "NLL": "nll",
    "ECE": "ece",
    "coverage": "coverage",
    "training_WAR": "training_war",
}


def per_run(content: ReportContent) -> pd.DataFrame:
    """One row a training and evaluation: what it is, its `fold`, `seed` and MLflow page, and every scalar metric."""
    rows: list[dict[str, Any]] = []
    for experiment in content.experiments:
        for row in experiment.rows:
            arm = {"experiment": experiment.name, "show": experiment.show, **_key(row)}
            for run in row.runs:
                numbers = {k: v for k, v in run.metrics.items() if isinstance(v, int | float)}
                recalls = {f"recall_{emotion}": value for emotion, value in run.metrics["per_class_recall"].items()}
                learnt = run.history[-1].get("training_war", np.nan) if run.history else np.nan
                of_run = {"fold": run.fold, "seed": run.seed, "url": run.url, "training_war": learnt}
                rows.append({**arm, **of_run, **_ALL_LISTED, **numbers, **recalls})
    columns = [*_ARM, "fold", "seed", "url", *_MEANS.values(), "war", "uar"]
    return pd.DataFrame(rows, columns=None if rows else columns)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds and seeds, and the spread where there is more than one: a row an experiment and arm.

    Besides the columns that name the arm: `missing_runs` (those that failed or were not begun), `runs` (the others),
    `WAR`, `UAR` (means over folds of the means over seeds, section 4.3), `WAR_sd_over_folds` (standard deviation over
    folds of the means over seeds: how much the folds' clips differ), `WAR_sd_over_seeds` (over seeds of the means over
    folds: what another training would give), both nan for a single one, the same of `UAR`; `WAR_all_listed`,
    `UAR_all_listed` (a listed clip without a face counts as wrong; nan if not known), `NLL`, `ECE`, `coverage`,
    `training_WAR` (of the clips that it was trained on, as an evaluation sees them).
    """
    from dfer.analysis import statistics  # the table can be read without statsmodels

    rows = []
    for names, of_arm in runs.groupby(_ARM, sort=False, dropna=False):
        row = dict(zip(_ARM, names, strict=True)) | {"runs": len(of_arm)}
        for score, spread in statistics.spread(of_arm).iterrows():
            name = str(score).upper()
            row[name] = spread["mean"]
            row |= {f"{name}_sd_over_{of}": spread[f"sd_{of}"] for of in ("folds", "seeds")}
        rows.append(row | {name: of_arm[column].mean() for name, column in _MEANS.items()})
    columns = [*_ARM, "runs", *SCORES, *_MEANS]
    return pd.DataFrame(rows, columns=columns)


def summed_over_folds(content: ReportContent) -> pd.DataFrame:
    """The scores of all folds' predictions taken as one set, in which every clip stands once; a row an arm and seed.

    Only of arms that were tested on two or more folds of the data set that they were trained on.
    """
    rows = [
        {"experiment": experiment.name, **_key(row), "seed": seed, **summed}
        for experiment in content.experiments
        for row in experiment.rows
        if row.trained_on == row.evaluated_on
        for seed, summed in _by_seed(row).items()
    ]
    return pd.DataFrame(rows)


def _key(row: ArmResult) -> dict[str, str | int | float]:
    """The values that tell an arm's row from the others of its experiment, and how many runs it lacks."""
    return {name: np.nan if (value := getattr(row, name)) is None else value for name in _ARM[2:]}


def _by_seed(row: ArmResult) -> dict[int, dict[str, Any]]:
    from dfer.evaluation import score

    summed = {}
    for seed in dict.fromkeys(run.seed for run in row.runs):
        runs = [run for run in row.runs if run.seed == seed]
        if len(runs) > 1:
            together = pd.concat([run.predictions for run in runs], ignore_index=True)
            metrics = score(together, num_listed=sum(run.metrics["num_listed"] for run in runs))
            summed[seed] = {name: metrics[name] for name in ("num_listed", "num_scored", "war", "uar", "nll", "ece")}
    return summed


def as_text(table: pd.DataFrame) -> list[list[str]]:
    """The summary as cells for a terminal: experiment, arm, where, percentages with their spread, clips scored, the
    percentages where a listed clip without a face counts as wrong, and the share of its own training clips that the arm
    has learnt.

    Figures are left out: what they show is in the tables.
    """
    cells = []
    for row in table[table["show"] != "confusion"].itertuples():
        model = "" if row.model == "resnet18_tsm" else f"{row.model} "
        frames = "" if row.frames == "in order" else f", frames {row.frames}"
        length = f", {row.epochs:.0f} epochs" if np.isfinite(row.epochs) else ""
        folds = "" if row.split == "official" else f", {row.split} folds"
        chosen = " (best on the test fold)" if row.protocol == "paper" else ""
        differs = row.coverage < 1 and np.isfinite(row.WAR_all_listed)
        cells.append(
            [
                row.experiment,
                f"{model}{row.arm}{folds}{length}{frames}{chosen}",
                f"{row.evaluated_on} ({row.part})",
                _percent(row.WAR, row.WAR_sd_over_folds, row.WAR_sd_over_seeds),
                _percent(row.UAR, row.UAR_sd_over_folds, row.UAR_sd_over_seeds),
                f"{row.coverage:.1%}",
                f"{100 * row.WAR_all_listed:.1f} / {100 * row.UAR_all_listed:.1f}" if differs else "",
                f"{row.training_WAR:.1%}" if np.isfinite(row.training_WAR) else "",
            ]
        )
    return cells


def _percent(mean: float, over_folds: float, over_seeds: float) -> str:
    """'57.4 ± 1.2 over folds ± 0.4 over seeds', as far as there are several."""
    spread = {"folds": over_folds, "seeds": over_seeds}
    several = [f" ± {100 * sd:.1f} over {of}" for of, sd in spread.items() if np.isfinite(sd)]
    return f"{100 * mean:.1f}{''.join(several)}"

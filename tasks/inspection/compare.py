"""Runs that MLflow knows, compared with one another: what `dfer compare` shows."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dfer.analysis import ambiguity, calibration, statistics
from dfer.analysis.statistics import Comparison
from dfer.config.pipeline import Pipeline
from dfer.config.problems import InputError
from dfer.evaluation import read_predictions
from tasks.tracking.client import client_of, is_missing_file

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


_NAME = re.compile(r"(?P<arm>[^@]+/[^@]+)(?:@(?P<split>disjoint))?(?:@(?P<epochs>\d+)epochs)?")


@dataclass(frozen=True)
class Compared:
    """The runs that one name on the command line stands for.

    Attributes:
        runs: how many trainings (folds, seeds) there are.
        predictions: their prediction tables, with `fold` and `seed`.
    """

    name: str
    runs: int
    predictions: pd.DataFrame

    def scores(self) -> dict[str, float | int | None]:
        """ECE, Brier, NLL, distance to the voters, and the area under the risk-coverage curve."""
        return {**calibration.summary(self.predictions), "aurc": ambiguity.aurc(self.predictions)}


def find(names: Sequence[str], pipelines: Sequence[Pipeline], dataset: str | None) -> list[Compared]:
    """The predictions of runs.

    Args:
        names: each the id of a run, or PIPELINE/ARM or PIPELINE/NETWORK/ARM: all folds and seeds of that arm in the
            latest run of the pipeline that has it. Where the pipeline trains it on several data sets, those count that
            were trained on `dataset`, or else on the pipeline's own. Behind it may stand @disjoint, for the trainings
            on disjoint folds instead of the data set's own, and the length of the training, such as @30epochs.
        pipelines: the configuration's.
        dataset: whose clips; None for those that the first run was trained on.

    Raises:
        InputError: a name stands for nothing, or its runs were not evaluated on the data set.
    """
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    named = {n: _runs_of_arm(n, by_name, dataset) if "/" in n else _run_by_id(n, by_name) for n in names}
    wanted = dataset or next(iter(named.values()))[1][0].data.tags["dfer.dataset"]
    return [
        Compared(name, len(runs), _predictions(name, client, runs, wanted)) for name, (client, runs) in named.items()
    ]


def pairs(compared: Sequence[Compared]) -> list[tuple[Compared, Compared, Comparison, dict[str, float]]]:
    """Every two of them: the later against the earlier, and its p-values corrected for all that is compared (Holm).

    Raises:
        InputError: two of them have no clip in common.
    """
    made = []
    for first, second in combinations(compared, 2):
        try:
            made.append((first, second, statistics.compare(first.predictions, second.predictions)))
        except ValueError as error:
            raise InputError(f"{first.name} and {second.name} cannot be compared: {error}") from error
    corrected = iter(statistics.holm([c.p_values[metric] for _, _, c in made for metric in ("war", "uar")]))
    return [(first, second, c, {"war": next(corrected), "uar": next(corrected)}) for first, second, c in made]


def _run_by_id(id: str, pipelines: dict[str, Pipeline]) -> tuple[MlflowClient, list[Run]]:
    for uri in dict.fromkeys(pipeline.tracking_uri for pipeline in pipelines.values()):
        if is_missing_file(uri):
            continue  # a client would create it
        client = client_of(uri)
        from mlflow.exceptions import MlflowException

        try:
            return client, [client.get_run(id)]
        except MlflowException:
            continue
    raise InputError(f"{id}: no run has this id; give an id, PIPELINE/ARM, or PIPELINE/NETWORK/ARM")


def _runs_of_arm(name: str, pipelines: dict[str, Pipeline], dataset: str | None) -> tuple[MlflowClient, list[Run]]:
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise InputError(
            f"{name}: expected PIPELINE/ARM or PIPELINE/NETWORK/ARM, with @disjoint or @30epochs behind it"
        )
    pipeline, *network, arm = matched["arm"].split("/")
    if pipeline not in pipelines:
        raise InputError(f"{name}: no pipeline {pipeline!r}; there are {', '.join(pipelines)}")
    uri = pipelines[pipeline].tracking_uri
    if is_missing_file(uri):
        raise InputError(f"{name}: nothing was tracked in {uri} yet; run it with: dfer run {pipeline}")
    client = client_of(uri)
    experiment = client.get_experiment_by_name(pipeline)
    model = network[0] if network else pipelines[pipeline].settings.model.name
    wanted = {"dfer.arm": arm, "dfer.model": model}
    # MLflow's filters have no way to write a quote in a quoted value
    plain = [f"tags.`{tag}` = '{value}'" for tag, value in wanted.items() if not set(value) & set("'\\")]
    finished = " and ".join(["tags.`dfer.kind` = 'arm'", "status = 'FINISHED'", *plain])
    runs = client.search_runs([experiment.experiment_id], finished) if experiment else []
    runs = [run for run in runs if all(run.data.tags.get(tag) == value for tag, value in wanted.items())]
    if not runs:
        every = client.search_runs([experiment.experiment_id], "tags.`dfer.kind` = 'arm'") if experiment else []
        known = sorted({f"{run.data.tags['dfer.model']}/{run.data.tags['dfer.arm']}" for run in every})
        hint = f"there are {', '.join(known)}" if known else f"run it with: dfer run {pipeline}"
        raise InputError(f"{name}: no finished run of {model} with the arm {arm}; {hint}")
    trained_on = {run.data.tags["dfer.dataset"] for run in runs}
    home = dataset if dataset in trained_on else pipelines[pipeline].dataset
    if home not in trained_on and len(trained_on) > 1:
        raise InputError(f"{name}: was trained on {', '.join(sorted(trained_on))}: choose one with --on")
    runs = [run for run in runs if run.data.tags["dfer.dataset"] == home or home not in trained_on]
    trained = runs
    runs = [run for run in runs if run.data.tags.get("dfer.split", "official") == (matched["split"] or "official")]
    if (epochs := matched["epochs"]) is not None:
        runs = [run for run in runs if run.data.params.get("train.epochs") == epochs]
    if not runs:
        suffixes = ", ".join(sorted({_suffix(run) for run in trained}))
        raise InputError(
            f"{name}: the finished trainings of this arm have other folds or lengths; name one: {suffixes}"
        )
    latest = runs[0].data.tags["mlflow.parentRunId"]
    chosen = [run for run in runs if run.data.tags["mlflow.parentRunId"] == latest]
    kinds = {(run.data.tags["dfer.dataset"], run.data.tags["dfer.fold"], run.data.tags["dfer.seed"]) for run in chosen}
    if len(kinds) < len(chosen):
        raise InputError(
            f"{name}: several trainings of this name with different settings; name their length (@30epochs), or give "
            f"ids:\n{_what_differs(chosen)}"
        )
    return client, chosen


def _suffix(run: Run) -> str:
    """'@disjoint@30epochs': what may stand behind the arm of a run."""
    split = run.data.tags.get("dfer.split")
    return f"{f'@{split}' if split else ''}@{run.data.params['train.epochs']}epochs"


def _what_differs(runs: Sequence[Run]) -> str:
    """A line a run: its id, and the settings that are not the same for all."""
    params = pd.DataFrame([run.data.params for run in runs]).fillna("")
    differing = params.loc[:, params.nunique() > 1]
    return "\n".join(
        f"  {run.info.run_id}  {', '.join(f'{name} {value}' for name, value in row.items())}"
        for run, (_, row) in zip(runs, differing.iterrows(), strict=True)
    )


def _predictions(name: str, client: MlflowClient, runs: Sequence[Run], dataset: str) -> pd.DataFrame:
    from mlflow.exceptions import MlflowException

    tables = []
    for run in runs:
        tags = run.data.tags
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = client.download_artifacts(run.info.run_id, f"evaluation/{dataset}/predictions.parquet", folder)
            except (MlflowException, OSError):
                known = ", ".join(Path(item.path).name for item in client.list_artifacts(run.info.run_id, "evaluation"))
                raise InputError(
                    f"{name}: run {run.info.run_id} was not evaluated on {dataset}; it was on {known or 'nothing yet'}"
                ) from None
            table = read_predictions(Path(path))
        fold = None if tags["dfer.fold"] == "None" else int(tags["dfer.fold"])
        tables.append(table.assign(fold=fold, seed=int(tags["dfer.seed"])))
    return pd.concat(tables, ignore_index=True).astype({"fold": "Int64", "seed": "int64"})

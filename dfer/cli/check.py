"""`dfer config check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dfer.cli.app import config_app
from dfer.cli.common import Config, Overrides, examples, out
from dfer.config import fine_tuning
from dfer.config.pipeline import Pipeline
from dfer.config.reading import DEFAULT_CONFIG, load_pipeline, read_config, renamed_classes

if TYPE_CHECKING:
    import pandas as pd

    from dfer.storage.store import Output
    from tasks.running.graph import ExpectedOutput


@config_app.command(
    "check", epilog=examples("dfer config check", "dfer config check dfew-full --set datasets.dfew.root=/mnt/DFEW")
)
def config_check(
    pipeline: Annotated[str | None, typer.Argument(help="Also look for what this pipeline reads.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say everything that is wrong with the configuration, with lines. Nothing is started, fetched or written."""
    if pipeline is None:
        _, pipelines = read_config(config, overrides)
        names = ", ".join(one.name for one in pipelines)
        out.print(f"{config}: no problems; pipelines {names}. Data sets: `dfer config check PIPELINE`")
        return
    loaded = load_pipeline(pipeline, config, overrides)
    if renamed := renamed_classes(pipeline, config, overrides):
        _print(f"NOTE labels.classes: {', '.join(renamed)}; every table and model has that name")
    if _has_fatal_problems(loaded):
        raise typer.Exit(1)
    out.print(f"{config}: {pipeline} can run")


def _has_fatal_problems(pipeline: Pipeline) -> bool:
    """Print what the ingest stage will report of the pipeline's data sets, and what its trainings would stop at or
    should be known of; whether it cannot run."""
    from dfer.datasets import inspect
    from dfer.datasets.report import lines_of
    from dfer.datasets.trainable import findings_on_trainings
    from dfer.datasets.vocabulary import in_classes, unknown_merges

    allowed = pipeline.settings.shards.max_failed_share
    classes: dict[str, tuple[str, ...]] = {}
    tables: dict[str, pd.DataFrame] = {}
    for name, dataset in pipeline.datasets.items():
        if dataset.generated:
            continue
        clips, report = inspect(dataset.layout, dataset.root, dataset=name, source=dataset.source)
        classes[name] = report.classes
        clips, report = in_classes(clips, report, pipeline.settings.labels, own_names=dataset.layout == "table")
        _print(report.as_text())
        is_missing = clips["source_size"] < 0
        if (missing := int(is_missing.sum())) > allowed * len(clips):
            _print(f"ERROR more files are missing ({missing}) than shards.max_failed_share allows ({allowed:.0%})")
        elif not report.fatal:
            tables[name] = clips[~is_missing]
    found = findings_on_trainings(pipeline.experiments, tables)
    if len(tables) == len(pipeline.datasets):
        found += unknown_merges(classes.values(), pipeline.settings.labels)
    lines = lines_of(found)
    has_folds = {name: bool(clips["fold"].notna().any()) for name, clips in tables.items()}
    lines += [f"WARNING {leak}" for leak in fine_tuning.leaks(pipeline.experiments, has_folds)]
    settings = [one for experiment in pipeline.experiments if experiment.trains for one in experiment.settings.values()]
    sources = {f"NOTE {one.model.name} is {text}" for one in settings if (text := fine_tuning.described(one.model))}
    if lines := [*lines, *sorted(sources)]:
        _print("\n".join([f"{pipeline.name}:", *lines]))
    if len(tables) < len(classes) or any(finding.severity == "error" for finding in found):
        return True
    broken = _problems_with_outputs(pipeline)
    for name, problem in broken.items():
        _print(f"ERROR {problem if problem.startswith(name) else f'{name}: {problem}'}")
    return bool(broken)


def _problems_with_outputs(pipeline: Pipeline) -> dict[str, str]:
    """Data set -> what a run would stop at, told by outputs of earlier runs: which clips of a group have faces, and
    what generated data hold. Only asked where arms are trained on groups: others need no more than the lists."""
    if pipeline.work_url or all(arm.clips == "all" for one in pipeline.experiments for arm in one.arms.values()):
        return {}
    from dfer.storage.store import Output
    from tasks.inspection.dry_run import dry_run
    from tasks.running.stage import store_of

    store = store_of(pipeline)

    def visit(expected: ExpectedOutput) -> Output | None:
        existing = store.find(expected.cache_key) if expected.cache_key is not None else None
        return existing if isinstance(existing, Output) else None

    return dict(dry_run(pipeline, visit, tolerant=True).broken)


def _print(text: str) -> None:
    out.print(text, highlight=False, soft_wrap=True)

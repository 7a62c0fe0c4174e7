"""`dfer config check`."""

from __future__ import annotations

from typing import Annotated

import typer

from dfer.cli.app import config_app
from dfer.cli.common import Config, Overrides, examples, out
from dfer.config.pipeline import Pipeline
from dfer.config.reading import DEFAULT_CONFIG, load_pipeline, read_config


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
    if _has_fatal_problems(load_pipeline(pipeline, config, overrides)):
        raise typer.Exit(1)
    out.print(f"{config}: {pipeline} can run")


def _has_fatal_problems(pipeline: Pipeline) -> bool:
    """Print what the ingest stage will report of the pipeline's data sets; whether one of them cannot be used."""
    from dfer.datasets import inspect
    from dfer.datasets.vocabulary import in_classes

    fatal, allowed = False, pipeline.settings.shards.max_failed_share
    for name, dataset in pipeline.datasets.items():
        if not dataset.generated:
            clips, report = inspect(dataset.layout, dataset.root, dataset=name, source=dataset.source)
            if not report.fatal:
                clips, report = in_classes(clips, report, pipeline.settings.labels)
            out.print(report.as_text(), highlight=False, soft_wrap=True)
            fatal = fatal or report.fatal
            if (missing := int((clips["source_size"] < 0).sum())) > allowed * len(clips):
                allows = f"than shards.max_failed_share allows ({allowed:.0%})"
                out.print(f"ERROR more files are missing ({missing}) {allows}")
                fatal = True
    return fatal

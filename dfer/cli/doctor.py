"""`dfer doctor`: is this installation in order?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, new_table, out
from dfer.config.reading import DEFAULT_CONFIG, ConfigError, missing_paths, read_config

if TYPE_CHECKING:
    from dfer.config.reading import Pipeline
    from dfer.doctor import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@app.command(epilog=examples("dfer doctor", "dfer doctor dfew-full --set train.device=cuda"))
def doctor(
    pipeline: Annotated[str | None, typer.Argument(help="Check what this pipeline asks for.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Check this installation, and say what to do about what is wrong. Nothing is fetched, written or started.

    Ends with status 1 if there is a problem.
    """
    from rich.markup import escape

    findings = list(_findings(pipeline, config, overrides))
    table = new_table("", "", "what", "found")
    for one in findings:
        todo = f"\n[bold]{escape(one.do)}[/bold]" if one.do else ""
        table.add_row(f"[{_STYLES[one.level]}]{one.level}[/]", one.subject, escape(one.said) + todo)
    out.print(table)
    problems = sum(one.level == "problem" for one in findings)
    out.print(f"{problems} problem{'s' if problems != 1 else ''}" if problems else "No problems.")
    if problems:
        raise typer.Exit(1)


def _findings(name: str | None, config: Path, overrides: list[str]) -> Iterator[Finding]:
    """A configuration that cannot be read is a finding; what does not depend on it is checked all the same."""
    from dfer.doctor import Finding, examine, versions

    try:
        file, pipelines = read_config(config, overrides)
        chosen = _named(name, pipelines, config) if name is not None else None
    except ConfigError as error:
        yield from versions()
        yield Finding("problem", "configuration", str(error), "dfer config check")
        return
    yield Finding("ok", "configuration", f"{config}: {', '.join(one.name for one in pipelines)}")
    missing = missing_paths(chosen or pipelines[0], config, overrides)
    # where everything is written is the same for all pipelines
    for problem in missing if chosen else [one for one in missing if one.key == "work_dir"]:
        yield Finding("problem", problem.key, problem.message, f"correct it in {config}, or give it with --set")
    if chosen is None:
        yield from examine([file], pipelines[0].work_dir, pipelines[0].tracking_uri)
        return
    settings = [s for experiment in chosen.experiments for s in experiment.settings.values()] or [chosen.settings]
    yield from examine(settings, chosen.work_dir, chosen.tracking_uri)


def _named(name: str, pipelines: list[Pipeline], config: Path) -> Pipeline:
    from dfer.config.reading import Problem

    for pipeline in pipelines:
        if pipeline.name == name:
            return pipeline
    known = ", ".join(pipeline.name for pipeline in pipelines)
    raise ConfigError(config, [Problem(None, f"pipelines.{name}", f"no such pipeline; there are {known}")])

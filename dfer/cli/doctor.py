"""`dfer doctor`: is this installation in order?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, new_table, out
from dfer.config.checks import missing_resources
from dfer.config.problems import ConfigError
from dfer.config.reading import DEFAULT_CONFIG, pipeline_named, read_config

if TYPE_CHECKING:
    from dfer.config.settings import StageSettings
    from dfer.doctor import CheckResult

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
    results = list(_check(pipeline, config, overrides))
    table = new_table("", "", "what", "found")
    for result in results:
        message = Text(result.message)
        if result.advice:
            message.append(f"\n{result.advice}", style="bold")
        table.add_row(Text(result.level, _STYLES[result.level]), result.subject, message)
    out.print(table)
    problems = sum(result.level == "problem" for result in results)
    out.print(f"{problems} problem{'s' if problems != 1 else ''}" if problems else "No problems.")
    if problems:
        raise typer.Exit(1)


def _check(name: str | None, config: Path, overrides: list[str]) -> Iterator[CheckResult]:
    """An unusable configuration is a problem like others; what does not depend on it is still checked."""
    from dfer import doctor, environment

    yield from environment.check()
    try:
        file, pipelines = read_config(config, overrides)
        pipeline = pipelines[0] if name is None else pipeline_named(name, pipelines, config)
    except ConfigError as error:
        yield from doctor.packages()
        yield doctor.problem("configuration", str(error), "dfer config check")
        return
    yield doctor.ok("configuration", f"{config}: {', '.join(one.name for one in pipelines)}")
    for missing in missing_resources(pipeline, config, overrides):
        if name is not None or missing.key == "work_dir":  # which all pipelines share
            yield doctor.problem(missing.key, missing.message, f"correct it in {config}, or give it with --set")
    settings: list[StageSettings] = [file]
    if name is not None:
        settings = [s for e in pipeline.experiments for s in e.settings.values()] or [pipeline.settings]
    yield from doctor.check_all(settings, pipeline.work_dir, pipeline.tracking_uri)

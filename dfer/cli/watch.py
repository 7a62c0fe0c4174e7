"""`dfer status`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, PipelineName, examples, new_table, out, relative
from dfer.config.reading import DEFAULT_CONFIG, load_pipeline

if TYPE_CHECKING:
    from dfer.storage.store import State
    from tasks.inspection.status import OutputState

_STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "stale", "missing")


@app.command(epilog=examples("dfer status demo", "dfer status paper --only table-5", "dfer status dfew-full --all"))
def status(
    pipeline: PipelineName,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
    only: Annotated[
        list[str], typer.Option("--only", metavar="NAME", help="A table or figure to look at; repeat for more.")
    ] = [],  # noqa: B006
    every: Annotated[bool, typer.Option("--all", help="List every output.")] = False,
) -> None:
    """Say which stages are done, running, failed or out of date, and why. Nothing is started or written.

    Ends with status 1 if something has failed.
    """
    loaded = load_pipeline(pipeline, config, overrides, only)
    from tasks.inspection.status import outputs, runs

    states = outputs(loaded)
    if every:
        table = new_table("Outputs", "stage", "output", "state", "why")
        for output in states:
            table.add_row(output.stage, output.title, output.state, output.why)
    else:
        table = new_table("Stages", "stage", *_STATES, "why")
        for stage in dict.fromkeys(output.stage for output in states):
            of_stage = [output for output in states if output.stage == stage]
            counts = Counter(output.state for output in of_stage)
            table.add_row(stage, *(str(counts[state] or "") for state in _STATES), _reasons(of_stage))
    out.print(table)
    if last := runs(loaded, 5):
        table = new_table("\nLast runs", "name", "began (UTC)", "how it ended")
        for run in last:
            table.add_row(run.name, run.began[:19].replace("T", " "), run.how)
        out.print(table)
        for line in last[0].progress:
            out.print(f"  {line}", highlight=False, soft_wrap=True)
        out.print(f"Log of the last run: {relative(last[0].log)}", highlight=False, soft_wrap=True)
    if any(output.state == "failed" for output in states):
        raise typer.Exit(1)


def _reasons(outputs: list[OutputState]) -> str:
    """Why outputs are not done: failures first, each reason once."""
    urgency = ("failed", "running", "interrupted", "stale", "missing")
    worst = sorted((output for output in outputs if output.state in urgency), key=lambda o: urgency.index(o.state))
    reasons = {output.why for output in worst}
    lines = list(dict.fromkeys(f"{output.title}: {output.why}" for output in worst))
    if len(outputs) == 1 or (len(reasons) == 1 and len(lines) > 1):
        return "; ".join(reasons)
    more = f" (and {len(lines) - 2} more; --all lists them)" if len(lines) > 2 else ""
    return "; ".join(lines[:2]) + more

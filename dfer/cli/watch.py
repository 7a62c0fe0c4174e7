"""`dfer status`: how far a pipeline is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, new_table, out, shown
from dfer.config.reading import DEFAULT_CONFIG, load_pipeline

if TYPE_CHECKING:
    from dfer.storage.store import State
    from tasks.inspection.status import OutputState

_STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "stale", "missing")


@app.command(epilog=examples("dfer status demo", "dfer status paper --only table-5", "dfer status dfew-full --all"))
def status(
    pipeline: Annotated[str, typer.Argument(help="A pipeline of the configuration file; see `dfer pipelines`.")],
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

    found = outputs(loaded)
    if every:
        table = new_table("Outputs", "stage", "output", "state", "why")
        for one in found:
            table.add_row(one.stage, one.title, one.state, one.why)
    else:
        table = new_table("Stages", "stage", *_STATES, "why")
        for stage in dict.fromkeys(one.stage for one in found):
            own = [one for one in found if one.stage == stage]
            counts = Counter(one.state for one in own)
            table.add_row(stage, *(str(counts[state] or "") for state in _STATES), _reasons(own))
    out.print(table)
    last = runs(loaded, 5)
    if last:
        seen = new_table("\nLast runs", "name", "began (UTC)", "how it ended")
        for run in last:
            seen.add_row(run.name, run.began[:19].replace("T", " "), run.how)
        out.print(seen)
        for line in last[0].progress:
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"Log of the last run: {shown(last[0].log)}", markup=False, highlight=False, soft_wrap=True)
    if any(one.state == "failed" for one in found):
        raise typer.Exit(1)


def _reasons(outputs: list[OutputState]) -> str:
    """Why outputs are not done: what needs a person first, each reason once."""
    worst = sorted((one for one in outputs if one.state != "done"), key=lambda one: _URGENT.index(one.state))
    said = list(dict.fromkeys(one.why if len(outputs) == 1 else f"{one.title}: {one.why}" for one in worst))
    plain = {one.why for one in worst}
    if len(plain) == 1 and len(said) > 1:
        return plain.pop()
    more = f" (and {len(said) - 2} more; --all lists them)" if len(said) > 2 else ""
    return "; ".join(said[:2]) + more


_URGENT = ("failed", "running", "interrupted", "stale", "missing")

"""`dfer power`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, new_table, out
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, read_config

if TYPE_CHECKING:
    from dfer.analysis.power import Pilot
    from tasks.inspection.compare import Compared

FOLDS = (1, 2, 5, 10, 20, 50)
SEEDS = (1, 3, 5)


@app.command(epilog=examples("dfer power demo/soft demo/midas --difference 2", "dfer power paper/hard paper/midas"))
def power(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two: ids of runs in MLflow, PIPELINE/ARM, or PIPELINE/NETWORK/ARM; @disjoint, @30epochs behind."
        ),
    ],
    difference: Annotated[float, typer.Option("--difference", "-d", help="To be seen, in points.")] = 2.0,
    dataset: Annotated[str | None, typer.Option("--on", help="Whose clips; those trained on unless given.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say how many clips, folds and seeds it takes to see a difference, by simulation from finished runs."""
    if len(set(runs)) != 2:
        raise InputError(f"power is of the difference between two different runs, found {', '.join(runs)}")
    if not 0 < difference < 100:
        raise InputError(f"--difference {difference:g}: expected points above 0 and below 100")
    _, pipelines = read_config(config, overrides)
    from dfer.analysis.power import pilot
    from tasks.inspection.compare import find

    first, second = find(runs, pipelines, dataset)
    for metric in ("war", "uar"):
        try:
            found = pilot(first.predictions, second.predictions, metric)
        except ValueError as error:
            raise InputError(f"{first.name} and {second.name}, {metric.upper()}: {error}") from error
        _print(found, difference / 100, first, second)


def _print(pilot: Pilot, difference: float, first: Compared, second: Compared) -> None:
    from dfer.analysis.power import clips_needed, in_words, points, power, smallest_seen

    name, known = pilot.metric.upper(), [seeds for seeds in SEEDS if seeds == 1 or pilot.seeds > 1]
    at_hand = f"{pilot.clips:,} clips, {_number(pilot.folds, 'fold')}, {_number(pilot.seeds, 'seed')}"
    out.print(Text.assemble((second.name, "bold"), f" against {first.name}, {name}, on {at_hand}"), soft_wrap=True)
    out.print(f"Share of experiments that would see a difference of {points(difference)} points:", soft_wrap=True)
    table = new_table("", "clips", "folds", *(_number(seeds, "seed") for seeds in known))
    for folds in FOLDS:
        clips = round(folds * pilot.clips / pilot.folds)
        if clips < 2 * len(pilot.strata):
            continue
        shares = [power(pilot, difference, clips=clips, folds=folds, seeds=seeds) for seeds in known]
        table.add_row(f"{clips:,}", str(folds), *(f"{100 * share:.0f} %" for share in shares))
    out.print(table)
    for seeds in known:
        needs = in_words(difference, clips_needed(pilot, difference, seeds=seeds))
        out.print(f"With {_number(seeds, 'seed')}, {needs}.", soft_wrap=True)
    smallest = 100 * smallest_seen(pilot, clips=pilot.clips)
    out.print(f"The runs at hand show a difference of {smallest:.1f} points or more with 80 % power.", soft_wrap=True)
    if pilot.seeds == 1:
        out.print(
            "There is one training of each fold: what other seeds would change is not known, and counts as nothing. "
            "Train with two seeds or more (seeds: [0, 1, 2] in the pipeline) to know.\n",
            soft_wrap=True,
        )
    else:
        between = 100 * pilot.between_trainings**0.5
        out.print(f"From seed to seed, the difference varies by {between:.1f} points (sd), whatever the clips.\n")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

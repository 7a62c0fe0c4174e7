"""`dfer clean`: remove what no pipeline needs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, new_table, out, relative
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, read_config
from dfer.system.units import size

if TYPE_CHECKING:
    from dfer.storage.cleaning import Removal, Stored
    from tasks.inspection.clean import Plan


@app.command(epilog=examples("dfer clean", "dfer clean --all", "dfer clean --yes"))
def clean(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
    yes: Annotated[bool, typer.Option("--yes", help="Really remove it; without, say what would be removed.")] = False,
    every: Annotated[bool, typer.Option("--all", help="List every folder.")] = False,
) -> None:
    """Remove stage outputs that no pipeline needs as it is configured now, and what killed runs left behind.

    What registered models were made from stays, and what may still be needed. MLflow's runs are left alone.
    """
    _, pipelines = read_config(config, overrides)
    from dfer.storage.cleaning import in_training
    from dfer.storage.in_use import InUseError, alone, occupied
    from tasks.inspection.clean import plan

    work_dir, url = pipelines[0].work_dir, pipelines[0].work_url
    if url:
        raise InputError(
            f"work_dir is {url}: what other machines need of it is not known here, and nothing of it is removed. "
            f"What is kept of it on this machine is only a copy: {work_dir} can be deleted while no run is under way."
        )
    if not (work_dir / "stages").is_dir():
        out.print(f"{relative(work_dir)} holds no stage outputs: nothing to remove")
        return
    if yes:
        with alone(work_dir):
            if jobs := in_training(work_dir / "stages"):
                raise InUseError(f"{jobs[0]} is being trained: try again when that has ended")
            removals = plan(pipelines)
            _print_plan(removals, every=every)
            _remove(removals)
        return
    removals = plan(pipelines)
    _print_plan(removals, every=every)
    if not removals.remove:
        out.print("Nothing to remove.")
        return
    command = ["dfer", "clean", "--yes", *(word for value in overrides for word in ("--set", value))]
    command += ["--config", str(config)] if config != DEFAULT_CONFIG else []
    message = f"Nothing was removed. To remove {size(removals.num_bytes)}: {shlex.join(command)}"
    out.print(message, soft_wrap=True)
    if occupied(work_dir) or in_training(work_dir / "stages"):
        out.print("A run is under way here; that command will refuse until it has ended.")


def _print_plan(plan: Plan, *, every: bool) -> None:
    if plan.remove:
        table = new_table("To remove", "stage", "what", "size", "why")
        if every:
            for removal in plan.remove:
                table.add_row(removal.stage, str(relative(removal.path)), size(removal.num_bytes), removal.why)
        else:
            groups: dict[tuple[str, str], list[Removal]] = {}
            for removal in plan.remove:
                groups.setdefault((removal.stage, removal.why), []).append(removal)
            for (stage, why), group in groups.items():
                table.add_row(stage, _folders(len(group)), size(sum(removal.num_bytes for removal in group)), why)
        out.print(table)
    if plan.stays:
        table = new_table("Stays, though no pipeline needs it", "what", "size", "for")
        for reason, outputs in plan.stays.items():
            what = "\n".join(str(relative(output.path)) for output in outputs) if every else _by_stage(outputs)
            table.add_row(what, size(sum(output.num_bytes for output in outputs)), reason.splitlines()[0])
        out.print(table)
    for name, why in plan.unknown.items():
        message = f"{name} could not be looked through, and what was made of it stays: {why.splitlines()[0]}"
        out.print(message, style="dim", highlight=False, soft_wrap=True)


def _remove(plan: Plan) -> None:
    from dfer.storage.cleaning import remove, remove_locks
    from tasks.stages import STAGES

    results = list(remove(plan.root, plan.remove))
    remove_locks(plan.root, STAGES)
    sizes = [removal.num_bytes for removal, done in results if done]
    out.print(f"Removed {_folders(len(sizes))}, {size(sum(sizes))}.")
    for path in (removal.path for removal, done in results if not done):
        out.print(f"Stays, since a run works on it: {relative(path)}", soft_wrap=True)


def _folders(number: int) -> str:
    return f"{number} folder{'s' if number != 1 else ''}"


def _by_stage(outputs: Iterable[Stored]) -> str:
    numbers = Counter(output.stage for output in outputs)
    return ", ".join(f"{number} {stage}" for stage, number in numbers.items())

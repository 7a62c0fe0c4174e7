"""What the commands have in common: arguments, options, tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dfer.system.paths import expanded, printable

if TYPE_CHECKING:
    from dfer.prediction.models import TrainedModel

# Names of files, data sets and runs are shown as they are: [bold] or :heart: in them is no markup. Styles are given as
# arguments or as `rich.text.Text`.
out = Console(markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


def user_path(text: str) -> Path:
    """The parser of every option and argument that is a path."""
    try:
        return Path(expanded(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


PATH: dict[str, Any] = {"parser": user_path, "metavar": "PATH"}
Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", **PATH)]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A value that wins over the file; repeat for more.")
]
PipelineName = Annotated[str, typer.Argument(help="A pipeline of the configuration file; see `dfer pipelines`.")]

_NUMERIC = {"run", "cached", "seconds", "files", "frames", "with a face", "clips", "kept", "WAR %", "UAR %"}


def examples(*lines: str) -> str:
    """The examples below a command's help."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {line}" for line in lines)


def new_table(title: str, *columns: str) -> Table:
    """A table without lines; columns of numbers are aligned to the right."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMERIC else "left", overflow="fold")
    return table


def relative(path: Path) -> Path:
    """The path as a person in this folder would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_model(model: TrainedModel) -> None:
    """Say which model it is, what is to be known of how it was found, and whether its data were synthetic."""
    from dfer.prediction.models import SYNTHETIC

    out.print(printable(model.title), style="bold", highlight=False, soft_wrap=True)
    for note in model.notes:
        out.print(printable(note), style="yellow", highlight=False, soft_wrap=True)
    if model.synthetic:
        out.print(SYNTHETIC, style="yellow", soft_wrap=True)

"""The command `dfer` and its groups; the other modules of this folder add the commands."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Recognising dynamic facial expressions: from raw videos to compared, cross-evaluated models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
analyse_app = typer.Typer(help="Look at data sets, without any model.", no_args_is_help=True)
app.add_typer(analyse_app, name="analyse")
services_app = typer.Typer(help="Servers and workers for deployments, on this machine.", no_args_is_help=True)
app.add_typer(services_app, name="services")

"""`dfer register`."""

from __future__ import annotations

from typing import Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, out, print_model
from dfer.config.reading import DEFAULT_CONFIG
from dfer.system.paths import printable


@app.command(
    epilog=examples(
        "dfer register demo/soft --name expressions --alias champion",
        "dfer register runs:/0123456789abcdef0123456789abcdef --name expressions --alias challenger",
    )
)
def register(
    model: Annotated[str, typer.Argument(help="A trained model, as for `dfer predict`.", metavar="ARM")],
    name: Annotated[str, typer.Option(help="The name in MLflow's registry.")],
    alias: Annotated[str, typer.Option(help="What the version is called, for models:/NAME@ALIAS.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Register a trained model in MLflow: as NAME, which takes frames, and as NAME-video, which takes videos."""
    from tasks.tracking.client import configure

    configure()
    from tasks.tracking.registering import SUFFIX
    from tasks.tracking.registering import register as register_model

    done = register_model(model, name, alias, config=config, overrides=overrides)
    print_model(done.model)
    for its_name, version in done.versions.items():
        takes = "videos in base64" if its_name.endswith(SUFFIX) else "frames of aligned faces"
        text = f"{its_name} version {version} is models:/{its_name}@{alias}: takes {takes}"
        out.print(printable(text), highlight=False, soft_wrap=True)
    for licence in done.licences:
        out.print(printable(f"  {licence}"), style="dim", highlight=False, soft_wrap=True)
    serve = f"MLFLOW_TRACKING_URI={done.uri} mlflow models serve -m models:/{name}{SUFFIX}@{alias} --env-manager local"
    out.print(printable(f"Serve it: {serve}"), highlight=False, soft_wrap=True)

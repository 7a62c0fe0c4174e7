"""`dfer app`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, examples, out, print_model
from dfer.config.reading import DEFAULT_CONFIG


@app.command(
    "app", epilog=examples("dfer app --model demo/soft", "dfer app --model demo/soft --port 7861 --max-seconds 60")
)
def serve_page(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="PIPELINE/ARM or PIPELINE/NETWORK/ARM, the folder of a trained model, runs:/ID or models:/NAME@ALIAS.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on. The default is for this machine alone; there is no log-in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 7860,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="The longest video that is taken.")] = 300,
    max_megabytes: Annotated[float, typer.Option(min=0.01, help="The largest video that is taken.")] = 200,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Serve a page on which people try a model: upload or camera, the annotated video, timeline, table, downloads.

    What is uploaded is deleted when its page is closed, and nothing leaves the machine.
    """
    from dfer.app.limits import Limits
    from dfer.app.server import serve
    from dfer.prediction.models import open_model

    trained = open_model(model, config=config, overrides=overrides)
    print_model(trained)

    def on_ready(address: str) -> None:
        out.print(f"{address}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)

    serve(trained, Limits(max_seconds, max_megabytes), host=host, port=port, device=device, on_ready=on_ready)
    out.print("Ended: everything that was uploaded is deleted.")

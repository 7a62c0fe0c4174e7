"""`dfer export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import PATH, Config, Overrides, examples, out, print_model, relative
from dfer.config.reading import DEFAULT_CONFIG
from dfer.system.paths import printable, spelled


@app.command(
    epilog=examples(
        "dfer export demo/soft --onnx soft.onnx",
        "dfer export models:/expressions@champion --onnx champion.onnx",
    )
)
def export(
    model: Annotated[str, typer.Argument(help="A trained model, as for `dfer predict`.", metavar="MODEL")],
    file: Annotated[Path, typer.Option("--onnx", help="The file to write.", **PATH)],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Write a trained model as one file in ONNX, with its weights and its card, and check that it says the same."""
    if file.suffix != ".onnx":
        raise typer.BadParameter(f"{file}: expected a name that ends in .onnx")
    from dfer.prediction.export import export_onnx
    from dfer.prediction.models import open_model
    from dfer.system.units import size

    trained = open_model(model, config=config, overrides=overrides)
    print_model(trained)
    exported = export_onnx(trained, file)
    where = printable(spelled(relative(exported.path)))
    out.print(f"{where}: {size(exported.path.stat().st_size)}", highlight=False, soft_wrap=True)
    out.print(
        f"onnxruntime says what torch says of {exported.clips} clips: probabilities differ by at most "
        f"{exported.difference:.1g}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"Use it: dfer predict VIDEO --model {where} --out FOLDER", highlight=False, soft_wrap=True)

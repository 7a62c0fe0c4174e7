"""`dfer weights convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfer.cli.app import app
from dfer.cli.common import PATH, examples, out, relative, user_path
from dfer.config.problems import InputError
from dfer.storage.file_names import WEIGHTS
from dfer.system.paths import printable, spelled

weights_app = typer.Typer(help="Weight files.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command(
    "convert",
    epilog=examples(
        "dfer weights convert set1-model_best.pth",
        "dfer weights convert pretrain_DFEW.pth --out weights/gca-fold1.safetensors",
    ),
)
def convert(
    file: Annotated[Path, typer.Argument(help="The public weights of Former-DFER or GCA+IAL.", parser=user_path)],
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The .safetensors to write; else beside FILE, with the network's name.", **PATH
        ),
    ] = None,
) -> None:
    """Make a file for model.pretrained of a weight file that a network's authors gave out. No code in it is run."""
    if target is not None:
        _check(target)
    from safetensors.torch import save

    from dfer.models import WeightsError
    from dfer.models.conversion import convert as convert_weights
    from dfer.storage.files import write_atomically

    try:
        converted = convert_weights(file)
    except WeightsError as error:
        raise InputError(str(error)) from error
    if target is None:
        target = file.with_name(f"{file.stem}.{converted.network}.safetensors")
        _check(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, save(converted.state))
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}): choose another --out") from error
    where = printable(spelled(relative(target)))
    out.print(f"{len(converted.state)} tensors of {converted.network} in {where}", highlight=False, soft_wrap=True)
    if converted.unused:
        names = printable(", ".join(converted.unused))
        out.print(f"Left out, since its code never reads them: {names}", highlight=False, soft_wrap=True)
    out.print(f"Use them: --set model.name={converted.network} --set model.pretrained={where}", soft_wrap=True)


def _check(target: Path) -> None:
    if target.suffix != ".safetensors" or target.name == WEIGHTS:
        raise InputError(
            f"{target}: expected a name that ends in .safetensors and is not {WEIGHTS}, which is that of a model "
            "trained here"
        )
    if target.exists():
        raise InputError(f"{target} is there already: choose another --out, or remove it")

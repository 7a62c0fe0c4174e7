"""`dfer predict`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dfer.cli.app import app
from dfer.cli.common import PATH, Config, Overrides, err, examples, new_table, out, print_model, user_path
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG
from dfer.system.paths import printable, spelled

if TYPE_CHECKING:
    import pandas as pd

    from dfer.prediction.models import TrainedModel
    from dfer.prediction.run import Progress as Done

_ROWS = 50  # videos that are listed one by one
_SILENCE = 15.0  # seconds between lines where there is no bar
_ENOUGH = 0.02  # of the work, before it is said how long the rest will take


@app.command(
    epilog=examples(
        "dfer predict interview.mp4 --model demo/soft --out result --video",
        "dfer predict recordings/ --model work/stages/train/12e4c0b5a535944b --out results --people main",
        "dfer predict *.mp4 --model models:/expressions@champion --out results --window 3 --every 1 --abstain 0.3",
    )
)
def predict(
    videos: Annotated[
        list[Path], typer.Argument(help="Videos, pictures, folders of pictures, or folders of these.", parser=user_path)
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="PIPELINE/ARM or PIPELINE/NETWORK/ARM, the folder of a trained model, runs:/ID, models:/NAME@ALIAS, "
            "or a file of dfer export (.onnx).",
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", **PATH)],
    people: Annotated[
        Literal["all", "main"], typer.Option(help="Everybody, or the most prominent person of each video.")
    ] = "all",
    window: Annotated[float, typer.Option(help="Seconds that the model sees as one clip, at least 0.04.")] = 2.0,
    every: Annotated[float, typer.Option(help="Seconds from one window to the next, at least 0.04.")] = 0.5,
    annotate: Annotated[
        bool, typer.Option("--video", help="Also write a copy of each video with boxes and bars, and its sound.")
    ] = False,
    abstain: Annotated[
        float | None,
        typer.Option(help="Give no answer where the risk of a wrong one is above this share, 0 to 1."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Videos side by side; 0: one a core.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say what the people in any videos express, with a trained model: a table, a timeline and an annotated copy.

    Interrupted, the same command goes on.
    """
    from dfer.faces.listing import find_videos

    listing = find_videos(videos)
    from dfer.prediction.film import Request
    from dfer.prediction.models import open_model
    from dfer.prediction.run import abstain_below, predict_videos
    from dfer.prediction.windows import Sliding
    from dfer.prediction.words import about

    trained = open_model(model, config=config, overrides=overrides)
    try:
        request = Request(Sliding(window, every), people, abstain_below(trained, abstain))
    except ValueError as error:
        raise InputError(str(error)) from error
    print_model(trained)
    with _bar(len(listing.videos)) as on_progress:
        index = predict_videos(
            listing.videos,
            folder,
            trained,
            request,
            annotate=annotate,
            workers=workers,
            device=device,
            on_progress=on_progress,
        )
    _print_index(index, folder, listing.videos, trained)
    for why, names in listing.passed_over.items():
        out.print(printable(f"passed over, {why}: {len(names)}"), style="dim", soft_wrap=True)
    out.print(about(trained.certainty), highlight=False, soft_wrap=True)
    if abstain is not None:
        least = request.abstain_below
        text = f"No answer where the largest probability is below {least:.2f}: of the others, at most {abstain:.0%} are"
        out.print(f"{text} wrong, as far as is known with 95 % confidence", highlight=False, soft_wrap=True)
    _print_where(index, folder, annotate=annotate)
    if not (index["status"] == "ok").any():
        raise typer.Exit(1)


@contextmanager
def _bar(videos: int) -> Iterator[Any]:
    """Progress with rate and time left: a bar on a terminal, else a line now and then."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from dfer.system.units import duration, size

    began = told = time.monotonic()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)

        def on_progress(progress: Done) -> None:
            nonlocal told
            passed = time.monotonic() - began
            rate = progress.done / max(passed, 1e-9)
            text = f"{progress.videos} of {progress.videos_total} videos, {size(rate)} a second"
            bar.update(task, completed=progress.done, total=progress.total, description=text)
            if not err.is_terminal and time.monotonic() - told > _SILENCE:
                told = time.monotonic()
                share = progress.done / progress.total
                left = f", {duration(passed * (1 / share - 1))} left" if share > _ENOUGH else ""
                err.print(f"{share:.0%}: {text}{left}")

        yield on_progress


def _print_index(index: pd.DataFrame, folder: Path, videos: dict[str, Path], model: TrainedModel) -> None:
    from dfer.system.units import duration

    shown = index if len(index) <= _ROWS else index[index["status"] != "ok"].head(_ROWS)
    table = new_table("" if len(index) <= _ROWS else "Without a result", "video", "long", "people", "rows", "", "note")
    for row in shown.to_dict(orient="records"):
        note = f"{row['reason']}: {row['detail']}" if row["reason"] else row["remarks"]
        note = note.replace(spelled(videos[row["video"]]), "it")
        counts = [duration(row["seconds"]) if row["seconds"] else "", str(row["people"]), str(row["rows"])]
        table.add_row(printable(row["video"]).replace("\n", "\\n"), *counts, row["status"], printable(note))
    out.print(table)
    kept = int((index["status"] == "ok").sum())
    out.print(f"{kept} of {len(index)} videos with a result; every video is listed in {_said(folder)}/index.parquet")


def _print_where(index: pd.DataFrame, folder: Path, *, annotate: bool) -> None:
    from dfer.prediction.folder import ANNOTATED, TABLE_AS_TEXT, TIMELINE

    where = _said(folder)
    out.print("\nWhere to look", style="bold")
    out.print(f"  the table       {where}/{TABLE_AS_TEXT} (and .parquet)", highlight=False, soft_wrap=True)
    for place in index["folder"][index["status"] == "ok"].head(1):
        out.print(printable(f"  a timeline      {where}/{place}/{TIMELINE}"), highlight=False, soft_wrap=True)
        if annotate:
            out.print(printable(f"  a copy          {where}/{place}/{ANNOTATED}"), highlight=False, soft_wrap=True)


def _said(folder: Path) -> str:
    return printable(spelled(folder))

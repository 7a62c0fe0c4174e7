"""`dfer align`, `demo-data`, `ferplus-pictures`, `datasets`, `pipelines` and `models`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dfer.cli.app import app
from dfer.cli.common import PATH, Config, Overrides, err, examples, new_table, out, user_path
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, read_config, stage_settings
from dfer.config.settings import StageSettings
from dfer.system.paths import printable, spelled

if TYPE_CHECKING:
    import pandas as pd

    from dfer.faces.listing import Listing

_ROWS = 50  # clips that are listed one by one; of more, twice as many that are not kept or odd
_NAMED = 20  # files of a kind that are named one by one
_SILENCE = 15.0  # seconds between lines where there is no bar


@app.command(
    epilog=examples(
        "dfer align interview.mp4 --out faces",
        "dfer align recordings/ --out faces --contact-sheet --set alignment.size=112",
    )
)
def align(
    videos: Annotated[
        list[Path], typer.Argument(help="Videos, pictures, folders of pictures, or folders of these.", parser=user_path)
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: shards and index.parquet.", **PATH)],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Take the sections of this file; otherwise the defaults, all frames.", **PATH
        ),
    ] = None,
    contact_sheet: Annotated[
        bool,
        typer.Option("--contact-sheet", help="Also draw what was made of each video, problems first."),
    ] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Detect, follow and align the faces of any videos, and say which were kept and why others were not."""
    if config is None:
        settings = stage_settings(overrides)
    else:
        file, _ = read_config(config, overrides)
        settings = StageSettings(**{name: getattr(file, name) for name in StageSettings.model_fields})
    from rich.progress import Progress

    from dfer.faces.listing import find_videos
    from dfer.faces.videos import align_videos

    listing = find_videos(videos)
    by_name = listing.videos
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("aligning", total=len(by_name))
        workers = min(os.cpu_count() or 1, len(by_name))
        told = time.monotonic()

        def on_clip() -> None:
            nonlocal told
            bar.advance(task)
            # into a file there is no bar
            if not err.is_terminal and time.monotonic() - told > _SILENCE:
                told = time.monotonic()
                err.print(f"aligned {bar.tasks[task].completed:.0f} of {len(by_name)} clips")

        index = align_videos(by_name, folder, settings=settings, workers=workers, on_clip=on_clip)
    _print_index(index, folder, by_name)
    _print_passed_over(listing.passed_over)
    if contact_sheet:
        _draw_sheets(index, folder, listing)
    if not (index["status"] == "ok").any():
        raise typer.Exit(1)


def _draw_sheets(index: pd.DataFrame, folder: Path, listing: Listing) -> None:
    from rich.progress import Progress

    from dfer.report.contact_sheet import write_contact_sheets

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("drawing contact sheets", total=None)
        sheets = write_contact_sheets(
            index,
            folder,
            folder,
            title=spelled(folder),
            passed_over=listing.passed_over,
            sources=listing.videos,
            on_page=lambda done, pages: bar.update(task, completed=done, total=pages),
        )
    first, last = sheets.pages[0], sheets.pages[-1]
    pages = spelled(first) if first == last else f"{spelled(first)} to {last.name}"
    what = f"first {sheets.not_kept} not kept, then {sheets.odd} that look odd, then the others"
    out.print(f"Look at {printable(pages)}: {what}", highlight=False, soft_wrap=True)


def _print_index(index: pd.DataFrame, folder: Path, videos: Mapping[str, Path]) -> None:
    import pandas as pd

    from dfer.report.oddities import noted

    kept = index["status"] == "ok"
    noteworthy = ~kept | pd.Series([bool(noted(row)) for row in index.to_dict(orient="records")], index=index.index)
    all_rows = len(index) <= _ROWS
    rows = index if all_rows else index[noteworthy].sort_values("status", kind="stable").head(2 * _ROWS)
    title = "" if all_rows else "Not kept, or odd"
    table = new_table(title, "clip", "frames", "with a face", "kept", "", "why not, or what is odd")
    for row in rows.to_dict(orient="records"):
        note = f"{row['reason']}: {row['detail']}" if row["reason"] else "; ".join(noted(row).values())
        note = note.replace(spelled(videos[row["clip_id"]]), "it")
        counts = [str(row[name]) for name in ("frames_seen", "frames_with_face", "frames_kept")]
        table.add_row(printable(row["clip_id"]).replace("\n", "\\n"), *counts, row["status"], printable(note))
    out.print(table)
    if not all_rows and (more := int(noteworthy.sum()) - len(rows)) > 0:
        out.print(f"... and {more} more in the index")
    where = printable(spelled(folder))
    out.print(f"{kept.sum()} of {len(index)} clips kept, in {where}; every clip is listed in {where}/index.parquet")


def _print_passed_over(passed_over: dict[str, list[str]]) -> None:
    """What lay in the folders and is no clip."""
    if passed_over:
        table = new_table("\nPassed over", "files", "what", "which")
        for why, names in passed_over.items():
            more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            table.add_row(str(len(names)), why, printable(", ".join(names[:_NAMED])) + more)
        out.print(table)


@app.command(
    "demo-data", epilog=examples("dfer demo-data --out demo", "dfer demo-data --out small --clips 28 --seed 7")
)
def demo_data(
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", **PATH)],
    clips: Annotated[int, typer.Option(min=7, help="Clips of the DFEW-like set; the others have fewer.")] = 320,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
) -> None:
    """Write the demo data: synthetic clips in the layouts of DFEW, AFEW, FERV39k, animated from an old photograph."""
    from rich.progress import Progress

    from dfer.demo import generate

    if folder.is_file() or (folder.is_dir() and any(path.name != ".partial" for path in folder.iterdir())):
        raise InputError(f"{folder} is {'a file' if folder.is_file() else 'not empty'}: choose another --out")
    try:  # before the work that would be lost
        (folder / ".partial").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("drawing clips")
        summary = generate(
            folder, clips=clips, seed=seed, on_clip=lambda done, total: bar.update(task, completed=done, total=total)
        )
    table = new_table("", "data set", "clips", "odd ones", "where")
    for name, number in summary.clips.items():
        odd = sum(name in Path(path).parts for path in summary.odd)
        table.add_row(name, str(number), str(odd), str(folder / name))
    out.print(table)
    out.print(f"Look at {folder / 'contact_sheet.jpg'}; all of this is synthetic, see {folder / 'README.txt'}")


@app.command(
    epilog=examples("dfer ferplus-pictures /data/FERPlus", "dfer ferplus-pictures downloads --out /data/FERPlus")
)
def ferplus_pictures(
    folder: Annotated[
        Path, typer.Argument(help="Holds FER2013's fer2013.csv and FER+'s fer2013new.csv.", parser=user_path)
    ],
    out_folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write into; else the same.", **PATH)
    ] = None,
) -> None:
    """Write FER+'s pictures, which FER2013 gives as text, as files. Repeat it if it was interrupted."""
    from rich.progress import Progress

    from dfer.datasets.ferplus_pictures import write_pictures

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("writing pictures", total=None)
        written = write_pictures(folder, out_folder or folder, on_picture=lambda: bar.advance(task))
    for part, number in written.pictures.items():
        out.print(f"{number} pictures in {printable(spelled((out_folder or folder) / part))}", soft_wrap=True)
    out.print(f"Left out: {written.unnamed} without a name, in which nobody saw a face")
    if written.named_twice:
        names = ", ".join(written.named_twice[:_NAMED])
        out.print(f"Left out: {len(written.named_twice)} with the name of an earlier one: {names}", soft_wrap=True)


@app.command()
def datasets(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """The data sets of the configuration, and whether their folders exist."""
    file, _ = read_config(config, overrides)
    table = new_table("", "data set", "layout", "where", "exists")
    for name, dataset in file.datasets.items():
        where = "made by the pipeline (synthetic)" if dataset.generated else str(dataset.root)
        is_folder = (config.resolve().parent / dataset.root).is_dir()
        exists = "when needed" if dataset.generated else "yes" if is_folder else "no"
        table.add_row(name, dataset.layout, where, exists)
    out.print(table)


@app.command()
def pipelines(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """The pipelines of the configuration."""
    _, resolved = read_config(config, overrides)
    for pipeline in resolved:
        out.print(Text.assemble((pipeline.name, "bold"), f"  {pipeline.description}"))
        folds = f"fold{'s' if len(pipeline.folds) > 1 else ''} {', '.join(map(str, pipeline.folds))}"
        out.print(f"    {', '.join(pipeline.datasets)}; {folds}", style="dim", soft_wrap=True)
        for experiment in pipeline.experiments:
            arms = f": {', '.join(experiment.arms)}" if experiment.trains else ""
            out.print(f"    {experiment.name}  {experiment.entry.title}{arms}", style="dim", soft_wrap=True)


@app.command()
def models() -> None:
    """The networks that can be trained."""
    from dfer.models import available

    for name, facts in available().items():
        size = f"{facts['parameters']:,} parameters, {facts['gflops']} GFLOPs a clip; {facts['input']}"
        out.print(Text.assemble((name, "bold"), f"  {facts['description']}"), soft_wrap=True)
        out.print(f"    {size}; pretrained: {facts['pretrained']}; {facts['source']}", style="dim", soft_wrap=True)

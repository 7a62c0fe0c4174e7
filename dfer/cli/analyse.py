"""`dfer analyse leakage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfer.cli.app import analyse_app
from dfer.cli.common import PATH, Config, Overrides, err, examples, new_table, out
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, read_config

_ROWS = 20
_EACH = {
    "same subject": "whose subject is the same, by the data set's own table",
    "near-duplicate": "near-duplicates, by perceptual hash (pHash of 4 frames, 256 bits each; mirror images too)",
    "same scene": "of the same scene",
}


@analyse_app.command("leakage", epilog=examples("dfer analyse leakage demo-dfew --out leakage"))
def analyse_leakage(
    dataset: Annotated[str, typer.Argument(help="A data set of the configuration; see `dfer datasets`.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: pairs.csv, pictures.", **PATH)],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Find clips that give one another away across the border of a fold: duplicates, and takes of the same scene.

    Needs the aligned faces that a pipeline has made of the data set, and no model of it."""
    file, pipelines = read_config(config, overrides)
    if dataset not in file.datasets:
        raise InputError(f"no data set {dataset!r} under datasets in {config}; there are {', '.join(file.datasets)}")
    from rich.progress import Progress

    from dfer.analysis import leakage, signatures
    from dfer.report.pair_pages import write_pairs
    from tasks.inspection.aligned import find

    aligned = find(dataset, pipelines)
    try:  # before the work that would be lost
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pairs.csv").touch()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error
    kept = int((aligned.index["status"] == "ok").sum())
    try:
        with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("looking at clips", total=kept)
            looks = signatures.of_clips(aligned.index, aligned.root, lambda: bar.advance(task))
        limit = leakage.scene_likeness(looks)
        pairs = leakage.pairs(looks, aligned.clips)
    except ValueError as error:
        raise InputError(f"{dataset}: {error}") from error
    across = pairs[pairs["across"]]
    try:
        pairs.to_csv(folder / "pairs.csv", index=False)
        pages = write_pairs(pairs, aligned.index, aligned.root, folder, title=f"{dataset}: clips alike")
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error
    parts = aligned.clips["fold"] if aligned.clips["fold"].notna().any() else aligned.clips["split"]
    border = "fold" if aligned.clips["fold"].notna().any() else "split"
    without = int(parts.isna().sum())
    out.print(
        f"{dataset}: {kept:,} clips with aligned faces ({aligned.pipeline}), compared by {looks.by}.", soft_wrap=True
    )
    out.print(f"Pairs across the border of a {border}:")
    for kind in leakage.KINDS:
        how = f", as alike as the halves of one clip (likeness from {limit:.2f})" if kind == "same scene" else ""
        number, inside = int((across["kind"] == kind).sum()), int(((pairs["kind"] == kind) & ~pairs["across"]).sum())
        out.print(f"  {number:,} {_EACH[kind]}{how}; {inside:,} more across none", soft_wrap=True)
    if without:
        ids = aligned.clips.loc[parts.isna(), "clip_id"]
        joining = int((pairs["first"].isin(ids) != pairs["second"].isin(ids)).sum())
        out.print(
            f"Clips in no {border}: {without:,}; pairs that join one of them with a clip that is in one: {joining:,}; "
            "these leak where such clips are trained on (ambiguous: train).",
            soft_wrap=True,
        )
    if across.empty:
        out.print(f"No clip gives away one of another {border}.", soft_wrap=True)
    else:
        table = new_table("\nThe surest", "clip", "clip of another " + border, "kind", "bits", "likeness", "mirrored")
        for pair in across.head(_ROWS).itertuples():
            mirrored = "yes" if pair.mirrored else ""
            table.add_row(pair.first, pair.second, pair.kind, str(pair.bits), f"{pair.likeness:.2f}", mirrored)
        out.print(table)
    if pages:
        first, last = pages[0], pages[-1].name
        shown = str(first) if len(pages) == 1 else f"{first} to {last}"
        out.print(f"All pairs: {folder / 'pairs.csv'}; side by side: {shown}", soft_wrap=True)

"""`dfer compare` and `dfer analyse votes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from dfer.cli.app import analyse_app, app
from dfer.cli.common import PATH, Config, Overrides, examples, new_table, out
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, read_config

METRICS: tuple[Literal["war", "uar"], ...] = ("war", "uar")


@app.command(
    epilog=examples(
        "dfer compare demo/hard demo/midas", "dfer compare paper/resnet18_tsm/midas paper/resnet18_gru/midas --on afew"
    )
)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: ids of runs in MLflow, PIPELINE/ARM or PIPELINE/NETWORK/ARM; @disjoint, @30epochs behind"
        ),
    ],
    dataset: Annotated[str | None, typer.Option("--on", help="Whose clips; those trained on unless given.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say which differences between runs are real: paired bootstrap over clips, McNemar's test, calibration."""
    if len(set(runs)) < 2:
        raise InputError(f"two different runs or more are compared, found {', '.join(runs)}")
    _, pipelines = read_config(config, overrides)
    from dfer.analysis import statistics
    from dfer.analysis.power import would_need
    from dfer.labels import classes_of
    from tasks.inspection.compare import find, pairs

    compared = find(runs, pipelines, dataset)
    scores = new_table("Scores, with 95 % intervals", "arm or run", "trainings", "WAR %", "UAR %")
    probabilities = new_table("\nProbabilities", "arm or run", "ECE", "Brier", "NLL", "to voters", "AURC")
    for arm in compared:
        draws, metrics = statistics.bootstrap(arm.predictions), arm.scores()
        scores.add_row(arm.name, str(arm.runs), *(_with_interval(draws.interval(metric)) for metric in METRICS))
        values = [metrics[name] for name in ("ece", "brier", "nll", "js_divergence", "aurc")]
        probabilities.add_row(arm.name, *("no votes" if value is None else f"{value:.3f}" for value in values))
    out.print(scores, probabilities)
    made = pairs(compared)
    for first, second, comparison, corrected in made:
        mcnemar = comparison.mcnemar
        heading = Text.assemble("\n", (second.name, "bold"), f" against {first.name}, on {comparison.clips} clips")
        out.print(heading, soft_wrap=True)
        for metric in METRICS:
            difference = comparison.differences[metric]
            sentence = statistics.in_words(difference, metric.upper(), corrected_p=corrected[metric])
            out.print(f"  {sentence}", soft_wrap=True)
            if "could be chance" in sentence:
                tables = first.predictions, second.predictions
                needs = would_need(*tables, metric, difference.estimate, comparisons=len(METRICS) * len(made))
                out.print(f"    {needs}", soft_wrap=True)
        by_emotion = (
            _recall_in_words(emotion, comparison.differences[emotion]) for emotion in classes_of(first.predictions)
        )
        out.print(f"  recalls: {', '.join(filter(None, by_emotion))}", highlight=False, soft_wrap=True)
        out.print(
            f"  only {second.name} is right about {mcnemar.only_b} clips, only {first.name} about {mcnemar.only_a} "
            f"(McNemar's test, p = {mcnemar.p_value:.2g})",
            soft_wrap=True,
        )


def _recall_in_words(emotion: str, difference: Any) -> str:
    """'happy +6.2 [-3.1, 15.4]'; nothing for a class without clips."""
    if difference.estimate != difference.estimate:
        return ""
    low, middle, high = (100 * value for value in (difference.low, difference.estimate, difference.high))
    return f"{emotion} {middle:+.1f} [{low:.1f}, {high:.1f}]"


def _with_interval(interval: Any) -> str:
    low, middle, high = (f"{100 * value:.1f}" for value in (interval.low, interval.estimate, interval.high))
    return f"{middle} [{low}, {high}]"


@analyse_app.command(
    "votes", epilog=examples("dfer analyse votes crema-d --out votes --set datasets.crema-d.root=/data/CREMA-D")
)
def analyse_votes(
    dataset: Annotated[str, typer.Argument(help="A data set of the configuration; see `dfer datasets`.")],
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to write: pictures, votes.md, votes.json.", **PATH)
    ],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Show how annotators voted: which emotions together, and how far they agree. No video is read."""
    file, pipelines = read_config(config, overrides)
    if dataset not in file.datasets:
        raise InputError(f"no data set {dataset!r} under datasets in {config}; there are {', '.join(file.datasets)}")
    settings = file.datasets[dataset]
    if settings.generated:
        raise InputError(f"{dataset} is made by the pipelines; its votes are in their reports")
    from dfer.analysis.votes import PAGE, analyse
    from dfer.datasets import load_clips
    from dfer.datasets.vocabulary import in_order

    root = config.resolve().parent / settings.root
    clips = load_clips(settings.layout, root, dataset=dataset, source=settings.source)
    if clips["votes"].isna().all():
        raise InputError(f"{dataset}: no clip has votes, so nothing can be said of its annotators")
    clips = in_order(clips, [file.labels, *(one.settings.labels for one in pipelines if dataset in one.datasets)])
    try:
        summary = analyse(clips, folder, title=dataset)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error
    out.print((folder / PAGE).read_text(encoding="utf-8"), highlight=False, soft_wrap=True)
    out.print(f"{summary['clips']} clips; the pictures are in {folder}")

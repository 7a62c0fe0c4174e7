"""The command `dfer`. Libraries are loaded by the command that needs them: `--help` and mistakes answer at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dfer.config import DEFAULT_CONFIG, ConfigError, load_pipeline, read_config, stage_settings
from dfer.settings import StageSettings

if TYPE_CHECKING:
    import pandas as pd

    from dfer.config import Pipeline
    from flows.midas import Outcome

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

out = Console()
err = Console(stderr=True)

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A value that wins over the file; repeat for more.")
]


def _examples(*lines: str) -> str:
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {line}" for line in lines)


@app.command(
    epilog=_examples(
        "dfer run demo",
        "dfer run demo --set mixing.alpha=0.2 --set train.epochs=8",
        "dfer run dfew-fold1 --set datasets.dfew.root=/mnt/DFEW --set train.device=cuda",
        "dfer run paper --plan",
        "dfer run dfew-full --estimate",
        "dfer run paper --only table-5 --only figure-6",
    )
)
def run(
    pipeline: Annotated[str, typer.Argument(help="A pipeline of the configuration file; see `dfer pipelines`.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
    only: Annotated[
        list[str], typer.Option("--only", metavar="NAME", help="A table or figure to make; repeat for more.")
    ] = [],  # noqa: B006
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run and how long it took before.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="As --plan, and try for some seconds what never ran here.")
    ] = False,
) -> None:
    """Run a pipeline here and now. What is made already is not made again; interrupted, the same command goes on."""
    loaded = load_pipeline(pipeline, config, overrides, only)  # mistakes are found before anything heavy is loaded
    if plan or estimate:
        _print_forecast(loaded, measure=estimate)
        return
    # Prefect would show a failing task with its traceback as well as what is said below
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if os.environ.get("DFER_DEBUG") else "CRITICAL")
    # and its server that is stopped with the flow would speak of being stopped
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", os.environ["PREFECT_LOGGING_LEVEL"])
    out.print(f"[bold]{pipeline}[/bold]: starting Prefect (the very first start takes half a minute)")
    # the one place where the library reaches up: the command line is the way into the flows
    from flows.midas import midas
    from tasks import progress

    if out.is_terminal:
        with progress.on_terminal():
            outcome = midas(pipeline, str(config), overrides, only)
    else:
        outcome = midas(pipeline, str(config), overrides, only)
    _print_outcome(loaded, outcome)


def _print_forecast(pipeline: Pipeline, *, measure: bool) -> None:
    from tasks.forecast import forecast

    if measure:
        out.print("Trying what never ran here, some seconds each ...")
    seen = forecast(pipeline, measure=measure)
    if seen.trials:
        tried = _table("Measured now", "what", "how fast", "on")
        for trial in seen.trials:
            tried.add_row(trial.what, trial.result, trial.device)
        out.print(tried)
    stages = _table("Stages", "stage", "there", "to run", "one after another")
    for name, stage in seen.stages.items():
        now = f", {stage.measured_now} as measured now" if stage.measured_now else ""
        unmeasured = f", {stage.unmeasured} never measured here" if stage.unmeasured else ""
        duration = f"{_duration(stage.seconds)}{now}{unmeasured}" if stage.to_run else ""
        stages.add_row(name, str(stage.there), str(stage.to_run), duration)
    out.print(stages)
    trainings = _table("Trainings", "table or figure", "trainings", "there")
    for name, (needed, there) in seen.trainings.items():
        trainings.add_row(name, str(needed), str(there))
    out.print(trainings)
    for note in seen.notes:
        out.print(note)
    if unknown := sum(stage.unmeasured for stage in seen.stages.values()):
        said = f"at least {_duration(seen.seconds)}, and {unknown} tasks the like of which was never measured here"
    elif any(stage.measured_now for stage in seen.stages.values()):
        said = f"about {_duration(seen.seconds)}, as measured here before and now"
    else:
        said = f"about {_duration(seen.seconds)}, as measured here before"
    out.print(f"{pipeline.name}: {said}. Nothing was run.", soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _print_outcome(pipeline: Pipeline, outcome: Outcome) -> None:
    import pandas as pd

    from dfer.results import SYNTHETIC, as_text
    from tasks.report import failures, public_name
    from tasks.tracking import TrackedRun

    stages = _table("Stages", "stage", "run", "was there", "seconds", "why")
    for stage, made in outcome.stages.items():
        if made:
            executed = [m for m in made if m.executed]
            whys = list(dict.fromkeys(m.why for m in executed))
            seconds = f"{sum(m.seconds for m in executed):.1f}" if executed else ""
            stages.add_row(stage, str(len(executed)), str(len(made) - len(executed)), seconds, _few(whys))
    out.print(stages)

    clips = _table("Clips", "data set", "given", "kept", "not kept")
    for name, index in outcome.indexes.items():
        counts = index.output.counts
        clips.add_row(name, str(counts["given"]), str(counts["ok"]), failures(counts))
    out.print(clips)

    scores = _table("Scores", "table", "arm", "evaluated on", "WAR %", "UAR %", "clips scored")
    report = outcome.report.output.path
    before = ""
    for name, *cells in as_text(pd.read_csv(report / "results.csv")):
        scores.add_row(name if name != before else "", *cells)
        before = name
    out.print(scores)
    if any(dataset.generated for dataset in pipeline.datasets.values()):
        out.print(f"[yellow]{SYNTHETIC}[/yellow]")

    work = report.parents[2]
    public = _shown(work / "reports" / public_name(pipeline))
    out.print("\n[bold]Where to look next[/bold]")
    out.print(f"  the whole report     {public}/report.html", soft_wrap=True)
    out.print(f"  tables for a paper   {public}/tables", soft_wrap=True)
    run = TrackedRun.noted(report)
    if run is not None:
        ui = "make ui" if work == Path.cwd() / "work" else f"make ui WORK={work}"
        out.print(f"  runs in MLflow       {ui}, then {run.page}", soft_wrap=True)
    for name, index in outcome.indexes.items():
        out.print(f"  fate of every clip   {name}: {_shown(index.output.path)}/index.parquet", soft_wrap=True)


def _few(reasons: list[str]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return reasons[0] + more if reasons else ""


@app.command(
    epilog=_examples(
        "dfer align interview.mp4 --out faces", "dfer align recordings/ --out faces --set alignment.size=112"
    )
)
def align(
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: shards and index.parquet.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Take the sections of this file; otherwise the defaults, all frames."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Detect, follow and align the face of any videos, and say what was kept and what was not."""
    if config is None:
        settings = stage_settings(overrides)
    else:
        file, _ = read_config(config, overrides)
        settings = StageSettings(**{name: getattr(file, name) for name in StageSettings.model_fields})
    from rich.progress import Progress

    from dfer.faces.videos import align_videos, find_videos

    found = find_videos(videos)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("aligning", total=len(found))
        workers = min(os.cpu_count() or 1, len(found))
        index = align_videos(found, folder, settings=settings, workers=workers, on_clip=lambda: bar.advance(task))
    _print_index(index, folder)
    if not (index["status"] == "ok").any():
        raise typer.Exit(1)


def _print_index(index: pd.DataFrame, folder: Path) -> None:
    kept = index["status"] == "ok"
    rows = index if len(index) <= 50 else index[~kept].head(50)
    table = _table(
        "" if len(rows) == len(index) else "Not kept", "clip", "looked at", "with a face", "kept", "", "why not"
    )
    for row in rows.to_dict(orient="records"):
        why = f"{row['reason']}: {row['detail']}" if row["reason"] else ""
        numbers = [str(row[name]) for name in ("frames_seen", "frames_with_face", "frames_kept")]
        table.add_row(row["clip_id"], *numbers, row["status"], why)
    out.print(table)
    out.print(f"{kept.sum()} of {len(index)} clips kept, in {folder}; every clip is listed in {folder}/index.parquet")


@app.command(
    "demo-data", epilog=_examples("dfer demo-data --out demo", "dfer demo-data --out small --clips 28 --seed 7")
)
def demo_data(
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    clips: Annotated[int, typer.Option(min=7, help="Clips of the DFEW-like set; the others have fewer.")] = 320,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
) -> None:
    """Write the demo data: synthetic clips in the layouts of DFEW, AFEW, FERV39k, animated from an old photograph."""
    from rich.progress import Progress

    from dfer.demo import generate
    from dfer.faces.videos import InputError

    if folder.is_file() or (folder.is_dir() and any(path.name != ".partial" for path in folder.iterdir())):
        raise InputError(f"{folder} is {'a file' if folder.is_file() else 'not empty'}: choose another --out")
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("drawing clips")
        summary = generate(
            folder, clips=clips, seed=seed, on_clip=lambda done, total: bar.update(task, completed=done, total=total)
        )
    table = _table("", "data set", "clips", "odd ones", "where")
    for name, number in summary.clips.items():
        odd = sum(name in Path(path).parts for path in summary.odd)
        table.add_row(name, str(number), str(odd), str(folder / name))
    out.print(table)
    out.print(f"Look at {folder / 'contact_sheet.jpg'}; all of this is synthetic, see {folder / 'README.txt'}")


@app.command()
def datasets(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """The data sets of the configuration, and whether they are there."""
    file, _ = read_config(config, overrides)
    table = _table("", "data set", "layout", "where", "there")
    for name, dataset in file.datasets.items():
        where = "made by the pipeline (synthetic)" if dataset.generated else str(dataset.root)
        there = "when needed" if dataset.generated else "yes" if dataset.root.is_dir() else "no"
        table.add_row(name, dataset.layout, where, there)
    out.print(table)


@app.command()
def pipelines(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """The pipelines of the configuration."""
    for pipeline in read_config(config, overrides)[1]:
        out.print(f"[bold]{pipeline.name}[/bold]  {pipeline.description}")
        out.print(f"    {', '.join(pipeline.datasets)}; {_folds(pipeline)}", style="dim", soft_wrap=True)
        for experiment in pipeline.experiments:
            shown = f": {', '.join(experiment.arms)}" if experiment.trains else ""
            out.print(f"    {experiment.name}  {experiment.given.title}{shown}", style="dim", soft_wrap=True)


def _folds(pipeline: Pipeline) -> str:
    return f"fold{'s' if len(pipeline.folds) > 1 else ''} {', '.join(map(str, pipeline.folds))}"


@app.command()
def models() -> None:
    """The networks that can be trained."""
    from dfer.models import available

    for name, facts in available().items():
        size = f"{facts['parameters']:,} parameters, {facts['gflops']} GFLOPs a clip; {facts['input']}"
        out.print(f"[bold]{name}[/bold]  {facts['description']}", soft_wrap=True)
        out.print(f"    {size}; pretrained: {facts['pretrained']}; {facts['source']}", style="dim", soft_wrap=True)


@app.command(
    epilog=_examples(
        "dfer compare demo/hard demo/midas",
        "dfer compare paper/resnet18_tsm/midas paper/resnet18_gru/midas --on afew",
    )
)
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Two or more: ids of runs in MLflow, PIPELINE/ARM, or PIPELINE/NETWORK/ARM.")
    ],
    dataset: Annotated[str | None, typer.Option("--on", help="Whose clips; those trained on unless given.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say which differences between runs are real: paired bootstrap over clips, McNemar's test, calibration."""
    from dfer.faces.videos import InputError

    if len(set(runs)) < 2:
        raise InputError(f"two different runs or more are compared, found {', '.join(runs)}")
    _, known = read_config(config, overrides)
    from dfer.analysis import statistics
    from dfer.labels import EMOTIONS
    from tasks.compare import find, pairs

    compared = find(runs, known, dataset)
    scores = _table("Scores, with 95 % intervals", "arm or run", "trainings", "WAR %", "UAR %")
    trust = _table("\nProbabilities", "arm or run", "ECE", "Brier", "NLL", "to voters", "AURC")
    for one in compared:
        draws, numbers = statistics.bootstrap(one.predictions), one.scores()
        scores.add_row(one.name, str(one.runs), *(_with_interval(draws.interval(metric)) for metric in ("war", "uar")))
        measured = [numbers[name] for name in ("ece", "brier", "nll", "js_divergence", "aurc")]
        trust.add_row(one.name, *("no votes" if value is None else f"{value:.3f}" for value in measured))
    out.print(scores, trust)
    for first, second, comparison, corrected in pairs(compared):
        only = comparison.mcnemar
        out.print(f"\n[bold]{second.name}[/bold] against {first.name}, on {comparison.clips} clips", soft_wrap=True)
        for metric in ("war", "uar"):
            sentence = statistics.in_words(
                comparison.differences[metric], metric.upper(), corrected_p=corrected[metric]
            )
            out.print(f"  {sentence}", markup=False, soft_wrap=True)
        by_emotion = (_recall_in_words(emotion, comparison.differences[emotion]) for emotion in EMOTIONS)
        out.print(f"  recalls: {', '.join(filter(None, by_emotion))}", markup=False, highlight=False, soft_wrap=True)
        out.print(
            f"  only {second.name} is right about {only.only_b} clips, only {first.name} about {only.only_a} "
            f"(McNemar's test, p = {only.p_value:.2g})",
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
    return f"{middle} \\[{low}, {high}]"


@analyse_app.command(
    "votes",
    epilog=_examples("dfer analyse votes crema-d --out votes --set datasets.crema-d.root=/data/CREMA-D"),
)
def analyse_votes(
    dataset: Annotated[str, typer.Argument(help="A data set of the configuration; see `dfer datasets`.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: pictures, votes.md, votes.json.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Show what annotators said: which emotions are voted for together, how far they agree. No video is read."""
    from dfer.faces.videos import InputError

    file, _ = read_config(config, overrides)
    if dataset not in file.datasets:
        raise InputError(f"no data set {dataset!r} under datasets in {config}; there are {', '.join(file.datasets)}")
    settings = file.datasets[dataset]
    if settings.generated:
        raise InputError(f"{dataset} is made by the pipelines; its votes are in their reports")
    from dfer.analysis.votes import analyse
    from dfer.datasets import load_clips

    clips = load_clips(
        settings.layout, config.resolve().parent / settings.root, dataset=dataset, source=settings.source
    )
    try:
        said = analyse(clips, folder, title=dataset)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error
    out.print((folder / "votes.md").read_text(), markup=False, highlight=False, soft_wrap=True)
    out.print(f"{said['clips']} clips; the pictures are in {folder}")


@config_app.command(
    "check", epilog=_examples("dfer config check", "dfer config check dfew-full --set datasets.dfew.root=/mnt/DFEW")
)
def config_check(
    pipeline: Annotated[str | None, typer.Argument(help="Also look for what this pipeline reads.")] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say everything that is wrong with the configuration, with lines. Nothing is started, fetched or written."""
    if pipeline is not None:
        _check_data(load_pipeline(pipeline, config, overrides))
        out.print(f"{config}: {pipeline} can run")
        return
    names = [pipeline.name for pipeline in read_config(config, overrides)[1]]
    out.print(f"{config}: no problems; pipelines {', '.join(names)}. Data sets: `dfer config check PIPELINE`")


def _check_data(pipeline: Pipeline) -> None:
    """What the ingest stage will say of the pipeline's data sets. Raises Exit if one of them cannot be used."""
    from dfer.datasets import inspect

    fatal, allowed = False, pipeline.settings.shards.max_failed_share
    for name, dataset in pipeline.datasets.items():
        if not dataset.generated:
            clips, report = inspect(dataset.layout, dataset.root, dataset=name, source=dataset.source)
            out.print(report.as_text(), markup=False, highlight=False, soft_wrap=True)
            fatal = fatal or report.fatal
            if (missing := int((clips["source_size"] < 0).sum())) > allowed * len(clips):
                out.print(
                    f"ERROR more files are missing ({missing}) than shards.max_failed_share allows ({allowed:.0%})"
                )
                fatal = True
    if fatal:
        raise typer.Exit(1)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for column in columns:
        numeric = column in (
            "run",
            "was there",
            "seconds",
            "given",
            "kept",
            "WAR %",
            "UAR %",
            "looked at",
            "with a face",
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _shown(path: Path) -> Path:
    """The path as a person in this folder would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _said(error: BaseException) -> Iterable[str]:
    """The error and its notes, without tracebacks."""
    yield str(error) if str(error).strip("'\"").count(" ") else f"{type(error).__name__}: {error}"
    yield from (note for note in getattr(error, "__notes__", ()) if "Traceback" not in note)


def _interrupted(*_: object) -> None:
    """Ctrl-C: stop now. What waits for answers (of a server that was interrupted as well) would take minutes."""
    import psutil

    if "tasks.tracking" in sys.modules:
        sys.modules["tasks.tracking"].close_interrupted()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    err.print("\nInterrupted. What was finished is kept; the same command goes on from here.")
    sys.stdout.flush()
    os._exit(130)


def main() -> Any:
    """Entry point. Mistakes in what was asked for end with status 2, failures of the work with 1."""
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        return app()
    except ConfigError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("DFER_DEBUG"):
            raise
        for line in _said(error):
            err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        if type(error).__name__ == "InputError":
            sys.exit(2)
        err.print("(DFER_DEBUG=1 shows where this came from)", style="dim")
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, before)

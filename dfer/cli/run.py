"""`dfer run`."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, PipelineName, examples, new_table, out, relative
from dfer.config.reading import DEFAULT_CONFIG, load_pipeline
from dfer.storage.file_names import CONTACT_SHEETS, IN_WORDS, REPORT_PAGE
from dfer.system import garbage
from dfer.system.units import duration

_MODELS = 5  # of which the folders are named in the end

if TYPE_CHECKING:
    from dfer.config.pipeline import Pipeline
    from flows.midas import Outcome


@app.command(
    epilog=examples(
        "dfer run demo",
        "dfer run demo --set mixing.alpha=0.2 --set train.epochs=8",
        "dfer run dfew-fold1 --set datasets.dfew.root=/mnt/DFEW --set train.device=cuda",
        "dfer run paper --plan",
        "dfer run dfew-full --estimate",
        "dfer run paper --only table-5 --only figure-6",
        "dfer run demo --from evaluate",
    )
)
def run(
    pipeline: PipelineName,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006
    only: Annotated[
        list[str], typer.Option("--only", metavar="NAME", help="A table or figure to make; repeat for more.")
    ] = [],  # noqa: B006
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="Run this stage again, and what depends on it, although its outputs exist; see `dfer status`.",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%SZ"],
            help="With --from: outputs made after this time (UTC) are not made again. The command that a failed run "
            "prints includes it.",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run, and how long it took before.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="As --plan, and measure for some seconds what never ran here.")
    ] = False,
) -> None:
    """Run a pipeline here and now. Outputs that exist are not made again; interrupted, the same command goes on."""
    loaded = load_pipeline(pipeline, config, overrides, only)  # mistakes are found before anything heavy is loaded
    since = since.replace(tzinfo=UTC) if since else None
    if start_from is not None:
        from tasks.stages import starting_from

        loaded = starting_from(loaded, start_from, since=since.timestamp() if since else time.time())
    elif since:
        raise typer.BadParameter("goes with --from", param_hint="--since")
    if plan or estimate:
        _print_forecast(loaded, measure=estimate)
        return
    # Prefect would print the traceback of a failed task as well as the message below
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if os.environ.get("DFER_DEBUG") else "CRITICAL")
    # and its server, which stops with the flow, would report that
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", os.environ["PREFECT_LOGGING_LEVEL"])
    out.print(Text.assemble((pipeline, "bold"), ": starting Prefect (the very first start takes half a minute)"))
    from tasks.running.progress import Terminal, lines_on_stdout

    with Terminal() if out.is_terminal else lines_on_stdout():
        with garbage.loading():
            from flows.midas import midas
            from tasks.running.stage import on_sigterm

        if callable(on_interrupt := signal.getsignal(signal.SIGINT)):
            on_sigterm.set(on_interrupt)
        for handler in logging.getLogger().handlers:
            handler.addFilter(_fit_for_a_terminal)
        outcome = midas(pipeline, str(config), overrides, only, start_from, since)
    _print_outcome(loaded, outcome)


def _fit_for_a_terminal(record: logging.LogRecord) -> bool:
    """Warnings only: details and tracebacks are in the log, and an error that stops the run is printed in the end."""
    traceback = record.exc_info or record.exc_text
    return record.levelno >= logging.WARNING and not (traceback and not os.environ.get("DFER_DEBUG"))


def _print_forecast(pipeline: Pipeline, *, measure: bool) -> None:
    from tasks.inspection.forecast import forecast

    if measure:
        out.print("Measuring what never ran here, some seconds each ...")
    result = forecast(pipeline, measure=measure)
    if result.trials:
        trials = new_table("Measured now", "what", "how fast", "on")
        for trial in result.trials:
            trials.add_row(trial.what, trial.result, trial.device)
        out.print(trials)
    stages = new_table("Stages", "stage", "cached", "to run", "one after another")
    for name, stage in result.stages.items():
        now = f", {stage.measured_now} as measured now" if stage.measured_now else ""
        unmeasured = f", {stage.unmeasured} never measured here" if stage.unmeasured else ""
        seconds = f"{duration(stage.seconds)}{now}{unmeasured}" if stage.to_run else ""
        stages.add_row(name, str(stage.exist), str(stage.to_run), seconds)
    out.print(stages)
    trainings = new_table("Trainings", "table or figure", "trainings", "cached")
    for name, (needed, cached) in result.trainings.items():
        trainings.add_row(name, str(needed), str(cached))
    out.print(trainings)
    for note in result.notes:
        out.print(note)
    if pipeline.force_rerun is not None and pipeline.force_rerun.stage == "report":
        out.print("The report would be made again.")
    if unknown := sum(stage.unmeasured for stage in result.stages.values()):
        least = f"at least {duration(result.seconds)}, and" if result.seconds else "how long is not known:"
        total = f"{least} {unknown} tasks the like of which was never measured here"
    else:
        now = " and now" if any(stage.measured_now for stage in result.stages.values()) else ""
        total = f"about {duration(result.seconds)}, as measured here before{now}"
    out.print(f"{pipeline.name}: {total}. Nothing was run.", soft_wrap=True)


def _print_outcome(pipeline: Pipeline, outcome: Outcome) -> None:
    import pandas as pd

    from dfer.report.results import SYNTHETIC, as_text
    from tasks.report import MODEL_CARDS, RESULTS, failures, public_name
    from tasks.tracking.runs import outbox_of

    stages = new_table("Stages", "stage", "run", "cached", "seconds", "why")
    for stage, results in outcome.stages.items():
        if results:
            executed = [result for result in results if result.executed]
            reasons = list(dict.fromkeys(result.why for result in executed))
            seconds = f"{sum(result.seconds for result in executed):.1f}" if executed else ""
            stages.add_row(stage, str(len(executed)), str(len(results) - len(executed)), seconds, _first(reasons))
    out.print(stages)

    clips = new_table("Clips", "data set", "clips", "kept", "not kept")
    for name, index in outcome.indexes.items():
        counts = index.output.counts
        clips.add_row(name, str(counts["given"]), str(counts["ok"]), failures(counts))
    out.print(clips)

    scores = new_table("Scores", "table", "arm", "evaluated on", "WAR %", "UAR %", "scored", "all listed", "learnt")
    report, above = outcome.report.output.path, ""
    for name, *cells in as_text(pd.read_csv(report / RESULTS)):
        scores.add_row(name if name != above else "", *cells)
        above = name
    out.print(scores)
    for name, text in json.loads((report / IN_WORDS).read_text(encoding="utf-8")).items():
        out.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)
    if any(dataset.generated for dataset in pipeline.datasets.values()):
        out.print(SYNTHETIC, style="yellow")

    work = report.parents[2]
    public = relative(work / "reports" / public_name(pipeline))
    out.print("\nWhere to look next", style="bold")
    out.print(f"  the whole report     {public / REPORT_PAGE}", soft_wrap=True)
    out.print(f"  tables for a paper   {public}/tables", soft_wrap=True)
    if outcome.stages["train"]:
        out.print(f"  cards of the models  {public / MODEL_CARDS}", soft_wrap=True)
    if outcome.indexes:
        out.print(f"  clips in pictures    {public / CONTACT_SHEETS}", soft_wrap=True)
    run = outbox_of(pipeline).noted(report)
    if run is not None and run.page:
        ui = "make ui, then " if work == Path.cwd() / "work" else f"make ui WORK={work}, then "
        has_server = run.created["uri"].startswith("http")
        out.print(f"  runs in MLflow       {'' if has_server else ui}{run.page}", soft_wrap=True)
    if pipeline.work_url:
        out.print(f"  all of it            {pipeline.work_url}", soft_wrap=True)
    for trained in outcome.stages["train"][:_MODELS]:
        known = outbox_of(pipeline).noted(trained.output.path)
        title = f"{known.created['name']}: " if known is not None else ""
        out.print(f"  a trained model      {title}{relative(trained.output.path)}", soft_wrap=True)
    for name, index in outcome.indexes.items():
        out.print(f"  fate of every clip   {name}: {relative(index.output.path)}/index.parquet", soft_wrap=True)
    out.print(f"  log of this run      {relative(outcome.log)}", soft_wrap=True)


def _first(reasons: list[str]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return reasons[0] + more if reasons else ""

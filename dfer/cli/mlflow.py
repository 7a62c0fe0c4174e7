"""`dfer mlflow deliver`."""

from __future__ import annotations

import typer

from dfer.cli.app import app
from dfer.cli.common import Config, Overrides, err, examples, new_table, out
from dfer.config.reading import DEFAULT_CONFIG, read_config

mlflow_app = typer.Typer(help="What goes to MLflow.", no_args_is_help=True)
app.add_typer(mlflow_app, name="mlflow")


@mlflow_app.command("deliver", epilog=examples("dfer mlflow deliver", "dfer mlflow deliver --set work_dir=/data/work"))
def deliver(config: Config = DEFAULT_CONFIG, overrides: Overrides = []) -> None:  # noqa: B006
    """Send MLflow what it could not be sent during a run. Ends with status 1 if something is left."""
    from filelock import FileLock, Timeout

    from tasks.tracking.deliverer import LOCK
    from tasks.tracking.delivery import Delivery, Report
    from tasks.tracking.runs import outbox_of

    _, pipelines = read_config(config, overrides)
    outboxes = {outbox.root: outbox for outbox in map(outbox_of, pipelines)}
    left = 0
    for root, outbox in outboxes.items():
        outbox.close_abandoned()
        if not (waiting := outbox.pending()):
            continue
        delivery, report = Delivery(outbox), Report()
        try:
            with FileLock(root / LOCK, blocking=False):
                while outbox.pending() and not report.away and not report.stuck:
                    report.add(delivery.round())
        except Timeout:
            err.print(f"{root}: a run that is under way delivers it", style="yellow")
            left += len(waiting)
            continue
        table = new_table("Delivered to MLflow", "run", "delivered", "refused", "page")
        for run in waiting:
            counts = str(report.delivered[run.id]), str(report.refused[run.id])
            table.add_row(run.created["name"], *counts, run.page)
        out.print(table)
        for uri, why in (report.away | report.stuck).items():
            err.print(f"{uri}: {why}", style="red", highlight=False, soft_wrap=True)
        left += len(outbox.pending())
    if left:
        err.print(f"{left} runs wait; they are kept, and the next run of a pipeline delivers them as well")
        raise typer.Exit(1)
    out.print("MLflow has everything.")

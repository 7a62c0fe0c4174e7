"""Set up Prefect's server for the workers: work pool, limit, automations, deployments. Repeating it changes nothing.

    python -m flows.set_up --trainings 2

It speaks to the server of PREFECT_API_URL, in the folder of prefect.yaml.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from dfer.services.servers import HEARTBEAT, POOL
from dfer.system.proxies import without_loopback

TRAINING = "dfer-training"
SILENT = 4 * timedelta(seconds=HEARTBEAT)  # one or two heartbeats may be lost in a server's restart
NOT_STARTED = timedelta(minutes=15)  # a flow's libraries take minutes to load from a slow disk

_BEAT = "prefect.flow-run.heartbeat"
_ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
_BACK = {f"prefect.flow-run.{state}" for state in ("Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot")}


def automations() -> tuple[AutomationCore, ...]:
    """Mark runs whose process has died as crashed, so that people see it and the next run can start."""
    return (
        _crashed(
            "A run that has fallen silent has crashed",
            after={_BEAT},
            expect={_BEAT, *_ENDS},
            within=SILENT,
            message=f"Nothing was heard of its process for {SILENT.seconds} s. Retry the run to go on.",
        ),
        _crashed(
            "A run that was taken and never started has crashed",
            after={"prefect.flow-run.Pending"},
            expect={_BEAT, *_ENDS, *_BACK},
            within=NOT_STARTED,
            message=f"A worker took it, and it did not start in {NOT_STARTED.seconds // 60} minutes. Retry the run.",
        ),
    )


def _crashed(name: str, *, after: set[str], expect: set[str], within: timedelta, message: str) -> AutomationCore:
    return AutomationCore(
        name=name,
        description="Its process or its machine has died: retry the run, what was finished is kept.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after=after,
            expect=expect,
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def set_up(client: SyncPrefectClient, trainings: int) -> None:
    """Make the work pool, the limit of trainings at a time, and the automations."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    client.upsert_global_concurrency_limit_by_name(TRAINING, trainings)
    for automation in automations():
        if existing := client.read_automations_by_name(automation.name):
            client.update_automation(existing[0].id, automation)
        else:
            client.create_automation(automation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, required=True, help="places to train in, over all runs")
    os.environ.update(without_loopback(os.environ))
    with get_client(sync_client=True) as client:
        set_up(client, parser.parse_args().trainings)
    deployed = subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=False)
    sys.exit(deployed.returncode)


if __name__ == "__main__":
    main()

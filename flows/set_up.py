"""What Prefect's server has to know before a worker starts; run it as often as you like.

    python -m flows.set_up --trainings 2

It speaks to the server of PREFECT_API_URL, in the folder of prefect.yaml.
"""

from __future__ import annotations

import argparse
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

POOL = "dfer"
TRAINING = "dfer-training"
SILENT = timedelta(seconds=120)  # four heartbeats of a run: one or two may be lost in a server's restart

_BEAT = "prefect.flow-run.heartbeat"
_ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}


def silent_runs_crashed() -> AutomationCore:
    """The automation that gives up a run whose process has died without a word, so that the next one can start."""
    return AutomationCore(
        name="A run that has fallen silent has crashed",
        description="Its process or its machine has died: retry the run, what was finished is kept.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after={_BEAT},
            expect={_BEAT, *_ENDS},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENT,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"Nothing was heard of its process for {SILENT.seconds} s. Retry the run to go on.",
            )
        ],
    )


def set_up(client: SyncPrefectClient, trainings: int) -> None:
    """The work pool, the limit of trainings at a time, and the automation above."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    client.upsert_global_concurrency_limit_by_name(TRAINING, trainings)
    wanted = silent_runs_crashed()
    found = client.read_automations_by_name(wanted.name)
    if found:
        client.update_automation(found[0].id, wanted)
    else:
        client.create_automation(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, required=True, help="trainings at a time, over all runs")
    with get_client(sync_client=True) as client:
        set_up(client, parser.parse_args().trainings)
    deployed = subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=False)
    sys.exit(deployed.returncode)


if __name__ == "__main__":
    main()

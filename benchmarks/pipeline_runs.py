"""Runs the demo pipeline in one work folder, through its deployment, until it is done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_victims import flow_processes
from benchmarks.services import FINISHED, ROOT, Services
from dfer.services.servers import ask
from dfer.storage.manifest import MANIFEST

_TRIES = 12
_LONGEST = 1800.0  # seconds for one run

SMALL = (
    "demo_data.clips=21",
    "shards.clips_per_shard=12",
    "shards.max_failed_share=0.5",
    "shards.frames_per_segment=1",
    "pipelines.demo.arms=[hard, midas]",
    "model.width=0.125",
    "model.input_size=32",
)
"""Overrides: the smallest demo pipeline with every stage, several shards and two trainings."""


def overrides(work: Path, epochs: int) -> list[str]:
    """The overrides of a small pipeline in a work folder."""
    return [*SMALL, f"train.epochs={epochs}", f"work_dir={work}"]


def command_line(services: Services, work: Path, epochs: int) -> subprocess.Popen[str]:
    """`dfer run` with the services' addresses."""
    options = [word for value in overrides(work, epochs) for word in ("--set", value)]
    command = [sys.executable, "-c", "import dfer.cli; dfer.cli.main()", "run", "demo", *options]
    pipe, stderr = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, cwd=ROOT, env=services.environment, stdout=pipe, stderr=stderr, text=True)


def under_way(work: Path, stages: Sequence[str], since: float) -> bool:
    """Whether one of the stages started or finished after a time (seconds since 1970)."""
    patterns = [f"stages/{stage}/{part}" for stage in stages for part in (".*.partial/.state.json", f"*/{MANIFEST}")]
    for path in (path for pattern in patterns for path in work.glob(pattern)):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > since:
                return True
    return False


@dataclass
class Runs:
    """The runs of one work folder; `run` is the latest flow run's id, empty before the first."""

    services: Services
    work: Path
    epochs: int
    run: str = ""
    tries: int = 0

    @property
    def done(self) -> bool:
        return bool(self.run) and self._state() == "COMPLETED"

    def keep_going(self) -> None:
        """Start another run of the deployment if the last one has ended."""
        if self.run and not self._ended():
            return
        if self.tries == _TRIES:
            raise RuntimeError(f"{self.work}: not done after {_TRIES} runs; the last one is {self.run}")
        self.tries += 1
        self.run = self.services.deploy_run("midas/demo", overrides=overrides(self.work, self.epochs))

    def recover(self) -> None:
        """Wait until a run is working: it survived the kill, or a new one has started."""
        until = time.monotonic() + 300
        while time.monotonic() < until and not self.done:
            self.keep_going()
            if flow_processes(self.services)[0]:
                return
            time.sleep(0.5)

    def until_done(self) -> None:
        """Run until the pipeline is done. Raises RuntimeError if it does not come to an end."""
        until = time.monotonic() + _LONGEST
        while not self.done:
            self.keep_going()
            if time.monotonic() > until:
                raise RuntimeError(f"{self.work}: the run {self.run} does not end: {self._state()}")
            time.sleep(1)

    def _state(self) -> str:
        try:
            return str(self.services.flow_run(self.run)["state_type"])
        except (OSError, ValueError):
            return ""  # the server is down for a moment

    def _ended(self) -> bool:
        """Whether the last run has ended, or its process has without Prefect's knowledge."""
        state = self._state()
        if state in FINISHED:
            return not flow_processes(self.services)[0]
        if state not in ("RUNNING", "CANCELLING", "PENDING"):
            return False
        for _ in range(40):  # Prefect may notice soon, and a process may be about to start
            if flow_processes(self.services)[0] or self._state() in (*FINISHED, ""):
                return False
            time.sleep(0.5)
        crashed = {"state": {"type": "CRASHED", "message": "its process was killed"}, "force": True}
        ask(f"{self.services.environment['PREFECT_API_URL']}/flow_runs/{self.run}/set_state", crashed)
        return True

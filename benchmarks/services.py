"""The real services in a folder of their own, for what kills and restarts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dfer.services.processes import left_behind
from dfer.services.servers import ask
from dfer.services.state import Folder, read_state

ROOT = Path(__file__).parents[1]
FINISHED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Services:
    """The services of one work folder, as a person has them by `dfer services`.

    Attributes:
        work: a folder that every user of the machine can pass; pipelines may write below it as well.
        ports: of Prefect's server, MLflow's server and PostgreSQL.
    """

    work: Path
    ports: tuple[int, int, int]

    @property
    def environment(self) -> dict[str, str]:
        """For programs that talk to the servers."""
        prefect, mlflow, _ = self.ports
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        return {
            **own,
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
            "PREFECT_HOME": str(self.work / "client"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "COLUMNS": "200",  # or names are cut off in tables
        }

    @property
    def mlflow(self) -> str:
        """The address of MLflow's server."""
        return self.environment["MLFLOW_TRACKING_URI"]

    @property
    def folder(self) -> Folder:
        return Folder(self.work / "services")

    def dfer(self, *arguments: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        """`dfer services ...` on these services; whether it succeeded is for the caller to look at."""
        prefect, mlflow, postgres = self.ports
        values = {
            "work_dir": self.work,
            "services.prefect_port": prefect,
            "services.mlflow_port": mlflow,
            "services.postgres_port": postgres,
        }
        given = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-c", "import dfer.cli; dfer.cli.main()", "services", *arguments, *given]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=seconds)

    def up(self) -> str:
        """Start what is down; what was printed."""
        done = self.dfer("up")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def down(self) -> str:
        done = self.dfer("down")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, name: str) -> None:
        """SIGKILL to `postgres`, `prefect`, `mlflow` or `worker`; or to `runs`, the processes of all flow runs.

        A worker leaves its flow runs behind; the others are gone with all of their processes.
        """
        found = [] if name == "runs" else [psutil.Process(read_state(self.folder)[_full(name)].pid)]
        if name == "runs":
            worker = read_state(self.folder)["worker-1"].pid
            found = [process for process in left_behind(self.folder.root, "worker-1") if process.pid != worker]
        elif name != "worker":
            found += left_behind(self.folder.root, name)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=30)

    def prefect(self, *arguments: str, check: bool = True) -> str:
        """What Prefect's command printed."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, path: str, **question: object) -> list[dict]:
        """What Prefect's API answers to POST {path}/filter."""
        return ask(f"{self.environment['PREFECT_API_URL']}/{path}/filter", question)

    def deploy_run(self, deployment: str, **parameters: object) -> str:
        """Ask for a run of a deployment; the flow run's id."""
        given = [word for key, value in parameters.items() for word in ("--param", f"{key}={json.dumps(value)}")]
        return self.prefect("deployment", "run", deployment, *given).split("UUID: ")[1].split()[0]

    def flow_run(self, run: str) -> dict:
        (found,) = self.ask("flow_runs", flow_runs={"id": {"any_": [run]}})
        return found

    def wait_for(self, run: str, states: tuple[str, ...] = FINISHED, seconds: float = 900) -> dict:
        """Wait until a flow run is in one of the states (types, as COMPLETED); the flow run."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError):  # the server may be down for a while
                found = self.flow_run(run)
                if found["state_type"] in states:
                    return found
            time.sleep(1)
        log = self.folder.log("worker-1").read_text()[-5000:]
        raise AssertionError(f"{run} did not come to {states}: {self.flow_run(run)['state']}\n{log}")

    def task_states(self, run: str, seconds: float = 120) -> dict[str, str]:
        """The state's name of the newest run of every task of a finished flow run, by the task run's name.

        The server writes task runs down some time after they have happened: until all of them have ended, and for
        ten seconds nothing was new, is waited for.
        """
        before: dict[str, str] = {}
        until, since = time.monotonic() + seconds, 0.0
        while True:
            runs = self.ask("task_runs", flow_runs={"id": {"any_": [run]}}, limit=200)
            newest = {run["name"]: run for run in sorted(runs, key=lambda run: run["start_time"] or "")}
            states = {name: run["state_name"] for name, run in newest.items()}
            # a task whose input failed stays NotReady
            ended = all(run["state_type"] in FINISHED or run["state_name"] == "NotReady" for run in newest.values())
            if states != before:
                before, since = states, time.monotonic()
            if (ended and time.monotonic() - since > 10) or time.monotonic() > until:
                return states
            time.sleep(1)


def _full(name: str) -> str:
    return "worker-1" if name == "worker" else name

"""The real services in a separate folder, for programs that kill and restart them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dfer.services.ports import HOST
from dfer.services.processes import left_behind
from dfer.services.servers import ask
from dfer.services.state import Folder, read_state

ROOT = Path(__file__).parents[1]
FINISHED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Services:
    """The services of one work folder, as `dfer services` starts them."""

    work: Path  # a folder that every user of the machine can access; pipelines may write below it as well
    ports: tuple[int, int, int]  # of Prefect's server, MLflow's server and PostgreSQL
    database: str = "postgresql"  # services.database

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that use the servers."""
        prefect, mlflow, _ = self.ports
        others = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        return {
            **others,
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
            "PREFECT_HOME": str(self.work / "client"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "COLUMNS": "200",  # or tables cut names off
        }

    @property
    def mlflow(self) -> str:
        """The address of MLflow's server."""
        return self.environment["MLFLOW_TRACKING_URI"]

    @property
    def folder(self) -> Folder:
        return Folder(self.work / "services")

    def _python(self, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=seconds)

    def dfer(self, *arguments: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        """Run `dfer services ...` on these services; the caller checks whether it succeeded."""
        prefect, mlflow, postgres = self.ports
        values = {
            "work_dir": self.work,
            "services.prefect_port": prefect,
            "services.mlflow_port": mlflow,
            "services.postgres_port": postgres,
            "services.database": self.database,
        }
        options = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        return self._python("-c", "import dfer.cli; dfer.cli.main()", "services", *arguments, *options, seconds=seconds)

    def up(self) -> str:
        """Start what is down; returns the command's output."""
        return _output(self.dfer("up"))

    def down(self) -> str:
        return _output(self.dfer("down"))

    def kill(self, name: str) -> None:
        """Kill `postgres`, `prefect`, `mlflow` or `worker`; or `runs`, the processes of all flow runs.

        The flow runs of a killed worker survive; the other services are killed with all of their processes.
        """
        if name == "runs":
            processes = self.run_processes()
        else:
            processes = [psutil.Process(read_state(self.folder)["worker-1" if name == "worker" else name].pid)]
            processes += left_behind(self.folder.root, name) if name != "worker" else []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)

    def run_processes(self) -> list[psutil.Process]:
        """The processes of all flow runs: those that the worker started, and their children."""
        worker = read_state(self.folder)["worker-1"].pid
        return [process for process in left_behind(self.folder.root, "worker-1") if process.pid != worker]

    def prefect(self, *arguments: str) -> str:
        """Run Prefect's command; returns its output."""
        return _output(self._python("-m", "prefect", *arguments, seconds=600))

    def ask(self, path: str, **question: object) -> list[dict]:
        """Prefect's answer to POST {path}/filter."""
        return ask(f"{self.environment['PREFECT_API_URL']}/{path}/filter", question)

    def deploy_run(self, deployment: str, **parameters: object) -> str:
        """Start a run of a deployment; returns the flow run's id."""
        options = [word for key, value in parameters.items() for word in ("--param", f"{key}={json.dumps(value)}")]
        return self.prefect("deployment", "run", deployment, *options).split("UUID: ")[1].split()[0]

    def flow_run(self, run: str) -> dict:
        (flow_run,) = self.ask("flow_runs", flow_runs={"id": {"any_": [run]}})
        return flow_run

    def wait_for(self, run: str, states: tuple[str, ...] = FINISHED, seconds: float = 900) -> dict:
        """Wait until a flow run is in one of the states (types, as COMPLETED); returns it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError):  # the server may be down for a while
                flow_run = self.flow_run(run)
                if flow_run["state_type"] in states:
                    return flow_run
            time.sleep(0.5)
        log = self.folder.log("worker-1").read_text()[-5000:]
        raise AssertionError(f"{run} did not come to {states}: {self.flow_run(run)['state']}\n{log}")

    def task_states(self, run: str, tasks: int, seconds: float = 120) -> dict[str, str]:
        """Task run's name -> name of its newest state, for a finished flow run.

        The server records task runs with a delay: waits until so many have ended.
        """
        until = time.monotonic() + seconds
        while True:
            runs = self.ask("task_runs", flow_runs={"id": {"any_": [run]}}, limit=200)
            newest = {run["name"]: run for run in sorted(runs, key=lambda run: run["start_time"] or "")}
            ended = [run for run in newest.values() if run["state_type"] in FINISHED]
            if len(ended) >= tasks or time.monotonic() > until:
                return {name: run["state_name"] for name, run in newest.items()}
            time.sleep(0.5)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        port: int = server.getsockname()[1]
        return port


def _output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""Who is killed."""

from __future__ import annotations

import random
from contextlib import suppress

import psutil

from benchmarks.services import Services
from dfer.services.processes import left_behind
from dfer.services.state import read_state

COMPONENTS = ("flow", "child", "worker", "prefect", "postgres", "mlflow")


def strike(services: Services, component: str, chance: random.Random) -> str:
    """SIGKILL to a service, to the flow's process, or to a child of it by chance. What was hit; empty for none."""
    if component not in ("flow", "child"):
        services.kill(component)
        return component
    flows, children = flow_processes(services)
    victims = flows if component == "flow" else children
    for victim in [chance.choice(victims)] if victims else []:
        with suppress(psutil.NoSuchProcess):
            said = f"process {victim.pid} of {len(victims)}"
            victim.kill()
            victim.wait(30)
            return said
    return ""


def flow_processes(services: Services) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The processes of flow runs, and those that they have started to do their work."""
    worker = read_state(services.folder)["worker-1"].pid
    found = {process.pid: process for process in left_behind(services.folder.root, "worker-1") if process.pid != worker}
    flows: list[psutil.Process] = []
    children: list[psutil.Process] = []
    for process in found.values():
        with suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if "prefect.engine" in command:
                flows.append(process)
            elif "spawn_main" in command:
                children.append(process)
    return flows, children

"""Chooses and kills processes."""

from __future__ import annotations

import random
from contextlib import suppress

import psutil

from benchmarks.services import Services

COMPONENTS = ("flow", "child", "worker", "prefect", "postgres", "mlflow")


def strike(services: Services, component: str, chance: random.Random) -> str:
    """Kill a service, a flow's process, or a random child of it. Returns what was killed; "" for nothing."""
    if component not in ("flow", "child"):
        services.kill(component)
        return component
    flows, children = flow_processes(services)
    victims = flows if component == "flow" else children
    for victim in [chance.choice(victims)] if victims else []:
        with suppress(psutil.NoSuchProcess):
            hit = f"process {victim.pid} of {len(victims)}"
            victim.kill()
            victim.wait(30)
            return hit
    return ""


def flow_processes(services: Services) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The processes of flow runs, and the worker processes that they started."""
    flows: list[psutil.Process] = []
    children: list[psutil.Process] = []
    for process in services.run_processes():
        with suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if "prefect.engine" in command:
                flows.append(process)
            elif "spawn_main" in command:
                children.append(process)
    return flows, children

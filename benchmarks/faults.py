"""`python -m benchmarks.faults --kills 30 --seed 0 --out FILE.json --markdown FILE.md`: is anything lost?

Starts the real services and runs a reduced demo pipeline once, undisturbed. Then runs it in new work folders, killing
one process or service after the other (SIGKILL) at random times, restarting what is down, and repeating the pipeline
until it is done. The tables of every folder must equal those of the undisturbed run bit for bit, and MLflow must have
every epoch once. Damaged files, a full disk and two runs at once follow. The seed decides what is killed when.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import fault_damage
from benchmarks.fault_evidence import differences, mlflow_problems, tables
from benchmarks.fault_victims import COMPONENTS, strike
from benchmarks.pipeline_runs import Runs, under_way
from benchmarks.services import Services, free_port
from tasks import stages

STAGES = tuple(stage for stage in stages.STAGES if stage != "split")  # of the demo
KILLS_PER_FOLDER = 5
EPOCHS = 6
_LATEST = 4.0  # seconds after the start of a stage

logger = logging.getLogger("benchmarks.faults")


@dataclass(frozen=True)
class Kill:
    """What to kill, and how many seconds after the start of which stage."""

    component: str
    stage: str
    delay: float


@dataclass(frozen=True)
class Killed:
    """The result of a kill."""

    kill: Kill
    folder: int  # number of the work folder
    hit: str  # what was killed; empty if no such process existed at that moment
    seconds: float  # from the kill until all services were up and a run was working again


@dataclass
class Log:
    """Everything that happened. `lost` names results that are missing, different or duplicate; it must be empty."""

    seed: int
    undisturbed_seconds: float = 0.0
    kills: list[Killed] = field(default_factory=list)
    damage: list[fault_damage.Damaged] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the log, as JSON")
    parser.add_argument("--markdown", type=Path, help="the tables, for the documentation")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # accessible to all users: PostgreSQL may run as another one
    work = Path(tempfile.mkdtemp(prefix="dfer-faults-"))
    work.chmod(0o755)
    services = Services(work, (free_port(), free_port(), free_port()))
    try:
        services.up()
        log = suite(services, options.kills, options.seed)
    finally:
        services.down()
    shutil.rmtree(work)
    if options.out is not None:
        options.out.write_text(json.dumps(asdict(log), indent=1))
    command = f"python -m benchmarks.faults --kills {options.kills} --seed {options.seed}"
    page = as_markdown(log, command)
    if options.markdown is not None:
        options.markdown.write_text(page)
    sys.stdout.write(page)
    return 1 if any(log.lost.values()) else 0


def suite(services: Services, kills: int, seed: int) -> Log:
    """Run everything on running services."""
    log = Log(seed)
    started = time.monotonic()
    undisturbed = Runs(services, services.work / "undisturbed", EPOCHS)
    undisturbed.until_done()
    log.undisturbed_seconds = round(time.monotonic() - started, 1)
    expected = tables(undisturbed.work)
    log.lost["undisturbed"] = mlflow_problems(undisturbed.work, services.mlflow, EPOCHS)
    logger.info("undisturbed: %.0f s, %d results to compare", log.undisturbed_seconds, len(expected))

    runs = undisturbed
    for number, kills_of_folder in enumerate(plan(kills, seed), 1):
        runs = Runs(services, services.work / f"disturbed-{number}", EPOCHS)
        log.kills += [disturb(runs, kill, number, seed + at) for at, kill in enumerate(kills_of_folder)]
        runs.until_done()
        problems = differences(expected, tables(runs.work)) + mlflow_problems(runs.work, services.mlflow, EPOCHS)
        log.lost[f"folder {number}"] = problems
        logger.info("folder %d: %s", number, "; ".join(problems) or "nothing lost")

    for damaged in fault_damage.all_kinds(runs, expected, random.Random(seed)):
        log.damage.append(damaged)
        log.lost[damaged.what] = damaged.lost
        logger.info("%s: %s", damaged.what, "; ".join(damaged.lost) or damaged.noticed)
    fault_damage.full_disk(services, expected, log.lost, log.skipped, EPOCHS)
    fault_damage.two_at_once(services, expected, log.lost, EPOCHS)
    return log


def plan(kills: int, seed: int) -> list[list[Kill]]:
    """The kills of each work folder, in the order of the stages. Components and stages take turns, so that all of them
    occur equally often; the times and the pairs are random."""
    chance = random.Random(seed)
    victims = _in_turn(COMPONENTS, kills, chance)
    stages = _in_turn(STAGES, kills, chance)
    folders = []
    for first in range(0, kills, KILLS_PER_FOLDER):
        some = sorted(stages[first : first + KILLS_PER_FOLDER], key=STAGES.index)
        pairs = zip(victims[first : first + KILLS_PER_FOLDER], some, strict=True)
        folders.append([Kill(victim, stage, round(chance.uniform(0, _LATEST), 2)) for victim, stage in pairs])
    return folders


def disturb(runs: Runs, kill: Kill, folder: int, seed: int) -> Killed:
    """Wait for the stage, kill, restart what is down, and wait until a run works again."""
    since = time.time()
    while not under_way(runs.work, STAGES[STAGES.index(kill.stage) :], since):
        if runs.done:
            break  # the stage was too short to be noticed
        runs.keep_going()
        time.sleep(0.1)
    time.sleep(kill.delay)
    hit = strike(runs.services, kill.component, random.Random(seed))
    started = time.monotonic()
    runs.services.up()
    runs.recover()
    killed = Killed(kill, folder, hit, round(time.monotonic() - started, 1))
    logger.info("%s in %s after %.1f s: %s; going on after %.0f s", kill.component, kill.stage, kill.delay,
                hit or "nothing to kill", killed.seconds)  # fmt: skip
    return killed


def as_markdown(log: Log, command: str) -> str:
    """The tables of the documentation."""
    hits = [killed for killed in log.kills if killed.hit]
    lost = sum(len(problems) for problems in log.lost.values())
    lines = [
        f"`{command}`: {len(hits)} kills in {len({k.folder for k in log.kills})} runs of the pipeline, {lost} lost. "
        f"Undisturbed, the pipeline takes {log.undisturbed_seconds:.0f} s here.",
        "",
        f"| killed | {' | '.join(STAGES)} | kills | seconds until work goes on: median, longest |",
        "|---|" + "---|" * (len(STAGES) + 2),
    ]
    for component in COMPONENTS:
        kills = [killed for killed in hits if killed.kill.component == component]
        counts = [sum(killed.kill.stage == stage for killed in kills) for stage in STAGES]
        seconds = [killed.seconds for killed in kills]
        took = f"{statistics.median(seconds):.0f}, {max(seconds):.0f}" if seconds else ""
        lines.append(f"| {component} | {' | '.join(str(n or '') for n in counts)} | {len(kills)} | {took} |")
    lines += ["", "| damage | noticed by the next run | lost |", "|---|---|---|"]
    lines += [f"| {damaged.what} | {damaged.noticed} | {len(damaged.lost)} |" for damaged in log.damage]
    for what in ("full disk", "two runs at once"):
        result = f"not tried: {log.skipped[what]}" if what in log.skipped else "went on, with the same results"
        lines.append(f"| {what} | {result} | {len(log.lost.get(what, []))} |")
    lines += [f"- {where}: {problem}" for where, problems in log.lost.items() for problem in problems]
    return "\n".join(lines) + "\n"


def _in_turn(names: Sequence[str], number: int, chance: random.Random) -> list[str]:
    """`number` of the names, all equally often, in random order."""
    drawn: list[str] = []
    while len(drawn) < number:
        drawn += chance.sample(names, len(names))
    return drawn[:number]


if __name__ == "__main__":
    sys.exit(main())

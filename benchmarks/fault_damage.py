"""Damages files, fills a disk, and starts two runs at once."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_evidence import differences, mlflow_problems, tables
from benchmarks.pipeline_runs import Runs, command_line
from benchmarks.services import Services

# files of a finished work folder in which a bit is flipped
_FILES = {
    "a bit of a shard": "stages/align/[!.]*/clips.parquet",
    "a bit of a manifest": "stages/align/[!.]*/manifest.json",
    "a bit of a model": "stages/train/[!.]*/model.safetensors",
}


@dataclass(frozen=True)
class Damaged:
    """The damaged thing, how the next run noticed it, and what was lost."""

    what: str
    noticed: str
    lost: list[str]


def all_kinds(runs: Runs, expected: Mapping[str, str], chance: random.Random) -> Iterator[Damaged]:
    """Damage one thing after the other in a finished folder, and run the pipeline again each time."""
    for what, pattern in _FILES.items():
        path = chance.choice(sorted(runs.work.glob(pattern)))
        _flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
        since = time.time()
        if problems := _run(runs.services, runs.work, runs.epochs):
            yield Damaged(what, "no", problems)
        else:
            noticed = f"{path.parent.parent.name} made again" if path.stat().st_mtime > since else "no"
            yield Damaged(what, noticed, differences(expected, tables(runs.work)))
    yield _damaged_checkpoint(runs.services, expected, runs.epochs, chance)


def full_disk(
    services: Services, expected: Mapping[str, str], lost: dict[str, list[str]], skipped: dict[str, str], epochs: int
) -> None:
    """A work folder on a disk that is too small; then the disk is made larger."""
    work = services.work / "full-disk"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(work)], capture_output=True, text=True
    )
    if mounted.returncode:
        skipped["full disk"] = mounted.stderr.strip()
        return
    try:
        process = command_line(services, work, epochs)
        output, _ = process.communicate(timeout=1800)
        reported = "No space left" in output and process.returncode
        problems = [] if reported else [f"the full disk was not reported: {output[-1500:]}"]
        subprocess.run(["mount", "-o", "remount,size=1g", str(work)], check=True)
        lost["full disk"] = problems + _finish(services, work, expected, epochs)
    finally:
        subprocess.run(["umount", str(work)], check=False)


def two_at_once(services: Services, expected: Mapping[str, str], lost: dict[str, list[str]], epochs: int) -> None:
    """The same pipeline twice at the same time in the same folder."""
    work = services.work / "two-at-once"
    both = [command_line(services, work, epochs) for _ in range(2)]
    outputs = [process.communicate(timeout=1800)[0] for process in both]
    failed = [f"failed: {text[-500:]}" for process, text in zip(both, outputs, strict=True) if process.returncode]
    lost["two runs at once"] = failed or _lost(services, work, expected, epochs)


def _damaged_checkpoint(services: Services, expected: Mapping[str, str], epochs: int, chance: random.Random) -> Damaged:
    work, what = services.work / "checkpoint", "a bit of a checkpoint"
    process = command_line(services, work, epochs)
    while not (checkpoints := sorted(work.glob("stages/train/.*.partial/checkpoint.pt"))):
        if process.poll() is not None:
            problem = f"the run ended before a checkpoint existed: {process.communicate()[0][-500:]}"
            return Damaged(what, "no", [problem])
        time.sleep(0.02)
    process.kill()
    process.communicate()
    time.sleep(2)  # until its children have ended
    if not checkpoints[0].exists():
        return Damaged(what, "no", ["the training was over before it could be killed"])
    # in the middle, where the tensors are
    _flip(checkpoints[0], checkpoints[0].stat().st_size // 2 + chance.randrange(100), 0)
    lost = _finish(services, work, expected, epochs)
    return Damaged(what, "the training was begun anew" if not lost else "no", lost)


def _finish(services: Services, work: Path, expected: Mapping[str, str], epochs: int) -> list[str]:
    return _run(services, work, epochs) or _lost(services, work, expected, epochs)


def _run(services: Services, work: Path, epochs: int) -> list[str]:
    """Run the pipeline; returns its problems."""
    process = command_line(services, work, epochs)
    output, _ = process.communicate(timeout=1800)
    return [f"the run failed: {output[-500:]}"] if process.returncode else []


def _lost(services: Services, work: Path, expected: Mapping[str, str], epochs: int) -> list[str]:
    return differences(expected, tables(work)) + mlflow_problems(work, services.mlflow, epochs)


def _flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)

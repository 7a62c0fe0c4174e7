"""Shows the time of each stage of a finished run: `python -m benchmarks.profile_run WORK_DIR [--wall SECONDS]`.

Reads the manifests of its stage outputs and the histories of its trainings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.manifests import outputs_of_newest_report
from dfer.storage.file_names import HISTORY

ORDER = ("demo-data", "ingest", "align", "index", "train", "evaluate", "report")
CLIPS = {"align": "given", "index": "given", "ingest": "clips", "evaluate": "scored"}
"""Stage -> name of the number of clips in a manifest's counts."""


@dataclass(frozen=True)
class Line:
    """A stage, or a part of one."""

    stage: str
    part: str  # name of the part; "" for the whole stage
    outputs: int  # number of outputs
    clips: int  # number of processed clips; of trainings, clips times epochs; 0 if it does not apply
    seconds: float  # summed over the outputs, although some of them were made in parallel


def profile(work: Path) -> list[Line]:
    """Every stage of the run that made the newest report, and the parts of its trainings.

    Raises FileNotFoundError if no report is finished, or an output that it was made from is missing.
    """
    by_stage: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for manifest, _ in outputs_of_newest_report(work):
        by_stage[manifest["stage"]].append(manifest)
    lines = []
    for stage in ORDER:
        if manifests := by_stage.get(stage):
            clips = sum(_clips(stage, manifest) for manifest in manifests)
            seconds = sum(manifest["seconds"] for manifest in manifests)
            lines.append(Line(stage, "", len(manifests), clips, seconds))
            if stage == "train":
                lines += _training(work / "stages" / "train", manifests, seconds)
    return lines


def as_markdown(lines: list[Line], *, wall: float | None = None) -> str:
    """The table; with `wall`, the seconds of the whole command, also the number of parallel stages."""
    total = sum(line.seconds for line in lines if not line.part)
    rows = ["| stage | outputs | clips | seconds | share | clips a second |", "|---|---:|---:|---:|---:|---:|"]
    for line in lines:
        name = f"&nbsp;&nbsp;{line.part}" if line.part else line.stage
        rate = f"{line.clips / line.seconds:,.1f}" if line.clips and line.seconds else ""
        clips = f"{line.clips:,}" if line.clips else ""
        outputs = "" if line.part else str(line.outputs)
        rows.append(f"| {name} | {outputs} | {clips} | {line.seconds:,.1f} | {_share(line.seconds, total)} | {rate} |")
    rows.append(f"| **all stages, one after another** | | | {total:,.1f} | | |")
    if wall is not None:
        rows.append(f"| **the whole command, as a clock saw it** | | | {wall:,.1f} | | |")
        rows.append(f"| stages at a time, on average | | | {total / wall:.2f} | | |")
    return "\n".join(rows)


def _clips(stage: str, manifest: Mapping[str, Any]) -> int:
    counts = manifest["counts"]
    if stage == "demo-data":
        return sum(counts.values())
    if stage == "train":
        return int(counts["clips"] * counts["epochs"])
    return int(counts[CLIPS[stage]]) if stage in CLIPS else 0


def _training(folder: Path, manifests: list[Mapping[str, Any]], seconds: float) -> list[Line]:
    """The parts of the trainings' seconds: steps, waiting for clips, and everything outside the epochs."""
    epochs = [
        epoch
        for manifest in manifests
        for epoch in json.loads((folder / manifest["hash"] / HISTORY).read_text())["epochs"]
    ]
    clips = sum(_clips("train", manifest) for manifest in manifests)
    waiting = sum(epoch.get("data_seconds", 0.0) for epoch in epochs)
    stepping = sum(epoch["seconds"] for epoch in epochs) - waiting
    return [
        Line("train", "steps", len(manifests), clips, stepping),
        Line("train", "waiting for clips", len(manifests), 0, waiting),
        Line("train", "start, test fold, tracking, pictures", len(manifests), 0, seconds - stepping - waiting),
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_run", description=__doc__)
    parser.add_argument("work", type=Path, help="work_dir of the configuration")
    parser.add_argument("--wall", type=float, help="seconds that the whole command took")
    arguments = parser.parse_args()
    sys.stdout.write(as_markdown(profile(arguments.work), wall=arguments.wall) + "\n")


if __name__ == "__main__":
    main()

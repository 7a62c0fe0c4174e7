"""Writes the demo data sets."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2

from dfer.demo.annotations import write_annotations, write_lists
from dfer.demo.annotators import MAJORITY
from dfer.demo.casting import DATA_SETS, FOLDS, ODDITIES, ClipPlan, plan_clips
from dfer.demo.clips import write_clip
from dfer.demo.sheet import write_contact_sheet
from dfer.labels import EMOTIONS
from dfer.system.processes import pool

_LOG = logging.getLogger(__name__)
_PARTIAL: Final = ".partial"
_SHEET: Final = "contact_sheet.jpg"
_README: Final = "README.txt"


@dataclass(frozen=True)
class DemoSummary:
    """The written data."""

    folder: Path
    seed: int
    clips: dict[str, int]  # data set -> number of regular clips
    classes: dict[str, dict[str, int]]  # data set -> emotion -> number of regular clips with this label
    folds: dict[int, dict[str, int]]  # fold -> rows of dfew's "train" and "test" list, including odd clips
    lists: dict[str, int]  # rows of ferv39k's "train" and "test" list
    unlabelled: int  # number of regular dfew clips without a single label
    odd: dict[str, str]  # path of an odd clip -> its problem or peculiarity
    seconds: float  # how long the writing took


def generate(
    out: Path,
    *,
    clips: int = 320,
    seed: int = 0,
    data_sets: Collection[str] = DATA_SETS,
    workers: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> DemoSummary:
    """Write small data sets in the layouts of DFEW, AFEW and FERV39k, with a contact sheet of dfew and a README.

    A clip's bytes depend on `clips` and `seed` alone, whatever else is written. Everything is written to `out/.partial`
    and moved when complete, README.txt last, so that an interrupted run leaves nothing that looks finished.

    Args:
        clips: number of regular clips of dfew, at least 7. afew gets about a quarter as many, ferv39k a third for
            training and a ninth for testing; dfew gets some odd ones as well.
        data_sets: those of DATA_SETS to write.
        workers: number of processes, by default one for each CPU.
        on_clip: called with the numbers of finished and of all clips after each clip.

    Raises FileExistsError if `out` has demo data already, ValueError for too few clips or workers or an unknown data
    set.
    """
    began = time.monotonic()
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if not data_sets or not set(data_sets) <= set(DATA_SETS):
        wanted = ", ".join(data_sets) or "none"
        raise ValueError(f"data_sets must be of {', '.join(DATA_SETS)}; got {wanted}")
    plans = [plan for plan in plan_clips(clips, seed) if plan.dataset in data_sets]
    parts = (*data_sets, *([_SHEET] if "dfew" in data_sets else []), _README)
    for part in parts:
        if (out / part).exists():
            raise FileExistsError(f"{out / part} exists already; remove it or choose another folder")
    partial = out / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    for folder in {(partial / plan.path).parent for plan in plans}:
        folder.mkdir(parents=True, exist_ok=True)

    for done, _ in enumerate(_write_clips(plans, partial, seed, workers or os.cpu_count() or 1), start=1):
        if on_clip is not None:
            on_clip(done, len(plans))
    if "dfew" in data_sets:
        write_annotations([plan for plan in plans if plan.dataset == "dfew"], partial / "dfew")
        write_contact_sheet(plans, partial, partial / _SHEET)
    if "ferv39k" in data_sets:
        write_lists([plan for plan in plans if plan.dataset == "ferv39k"], partial / "ferv39k")
    summary = summarize(plans, out, seed, time.monotonic() - began)
    (partial / _README).write_text(readme(summary), encoding="utf-8")
    for part in parts:
        (partial / part).replace(out / part)
    partial.rmdir()
    _LOG.info("demo data: %d clips of %s in %s, %.0f s", len(plans), ", ".join(data_sets), out, summary.seconds)
    return summary


def summarize(plans: Sequence[ClipPlan], out: Path, seed: int, seconds: float) -> DemoSummary:
    """Count the content of the plans."""
    regular = [plan for plan in plans if not plan.oddity]
    classes = Counter((plan.dataset, plan.label) for plan in regular)
    labelled = [plan for plan in plans if plan.fold is not None]
    tests = Counter(plan.fold for plan in labelled)
    return DemoSummary(
        folder=out,
        seed=seed,
        clips=dict(Counter(plan.dataset for plan in regular)),
        classes={
            dataset: {emotion: classes[dataset, label] for label, emotion in enumerate(EMOTIONS)}
            for dataset in DATA_SETS
        },
        folds={fold: {"train": len(labelled) - tests[fold], "test": tests[fold]} for fold in FOLDS},
        lists=dict(Counter(plan.split for plan in plans if plan.split is not None)),
        unlabelled=classes["dfew", None],
        odd={plan.path: ODDITIES[plan.oddity] for plan in plans if plan.oddity},
        seconds=seconds,
    )


def readme(summary: DemoSummary) -> str:
    """The text of README.txt."""
    about = {"dfew": _about_dfew, "afew": _about_afew, "ferv39k": _about_ferv39k}
    described = "".join(about[dataset](summary) for dataset in DATA_SETS if dataset in summary.clips)
    odd = "\n".join(f"  {path}: {oddity}" for path, oddity in summary.odd.items())
    odd_clips = f"\nOdd clips in dfew, beyond these, as every collection has them:\n{odd}\n" if odd else ""
    return f"""Demo data for dynamic facial expression recognition: SYNTHETIC.

The faces come from one photograph in the public domain (Fifth Solvay Conference, Brussels 1927, by Benjamin
Couprie) and were animated by warping it. Nobody in it ever made these expressions, and no annotator ever saw them:
the votes are drawn at random from the expressions' intensities. Numbers obtained on this data prove that the pipeline
runs, not that the method works.

Seed {summary.seed}. The same seed gives the same bytes.

{described}{odd_clips}"""


def _about_dfew(summary: DemoSummary) -> str:
    folds = ", ".join(f"{fold}: {sizes['train']}/{sizes['test']}" for fold, sizes in summary.folds.items())
    return f"""dfew/  {summary.clips["dfew"]} clips in the layout of DFEW, ten votes each.
       A single label needs {MAJORITY} votes (DFEW: more than 6): {_per_class(summary, "dfew")};
       {summary.unlabelled} without one, in no fold.
       Folds (train/test rows): {folds}.
       No person is in both parts of a fold.
"""


def _about_afew(summary: DemoSummary) -> str:
    return f"""afew/  {summary.clips["afew"]} clips in the layout of AFEW: other people, another camera.
       The label is the intended emotion: {_per_class(summary, "afew")}.
"""


def _about_ferv39k(summary: DemoSummary) -> str:
    return f"""ferv39k/  {summary.clips["ferv39k"]} clips in the layout of FERV39k: faces cut out, as numbered pictures.
       The label is the intended emotion: {_per_class(summary, "ferv39k")}.
       {summary.lists["train"]} to train on, of dfew's people, and {summary.lists["test"]} to test on, of afew's.
"""


def _per_class(summary: DemoSummary, dataset: str) -> str:
    return ", ".join(f"{emotion} {count}" for emotion, count in summary.classes[dataset].items())


def _write_clips(plans: Sequence[ClipPlan], out: Path, seed: int, workers: int) -> Iterator[None]:
    if workers == 1:
        for plan in plans:
            write_clip(plan, out, seed)
            yield
        return
    with pool(min(workers, len(plans))) as processes:
        futures = [processes.submit(_write_single_threaded, plan, out, seed) for plan in plans]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            processes.shutdown(cancel_futures=True)


def _write_single_threaded(plan: ClipPlan, out: Path, seed: int) -> None:
    cv2.setNumThreads(1)
    write_clip(plan, out, seed)

"""`python -m benchmarks.fuzz --inputs 10000 --seed 0 --markdown FILE.md`: damaged inputs of all kinds.

Makes damaged videos, folders of frames, workbooks, lists and configurations, and reads each as the pipeline does, in
processes that read many. No input may end in a traceback, a crash or a hang, take much memory, or be kept with the
picture of another one: every picture has a mark that says whose it is. An input with a problem is kept in --out.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.fuzz.pool import KINDS, Result, kind_of, make_input, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test; 1 if there was a problem."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds make equal inputs")
    parser.add_argument("--only", choices=KINDS, help="inputs of this kind alone")
    parser.add_argument("--input", type=int, nargs="+", metavar="N", help="these inputs alone, in this order")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("work/fuzz"), help="where inputs with a problem are kept")
    parser.add_argument("--markdown", type=Path, help="the tables, for the documentation")
    options = parser.parse_args(arguments)
    logging.getLogger().addHandler(logging.NullHandler())  # what readers log about damage is not what is tested
    if options.input:
        return _repeat(options.input, options.seed, options.out.absolute() / f"seed-{options.seed}")

    numbers = _numbers(options.inputs, options.only)
    random.Random(options.seed).shuffle(numbers)
    started = time.monotonic()
    results = fuzz(numbers, options.seed, options.out.absolute(), options.workers)
    only = f" --only {options.only}" if options.only else ""
    command = f"python -m benchmarks.fuzz --inputs {options.inputs} --seed {options.seed}{only}"
    page = as_markdown(results, command, time.monotonic() - started)
    if options.markdown is not None:
        options.markdown.write_text(page)
    sys.stdout.write(page)
    return 1 if any(result.outcome.problem for result in results) else 0


def fuzz(numbers: Sequence[int], seed: int, out: Path, workers: int) -> list[Result]:
    """Read the inputs of these numbers; those with a problem are kept in `out`."""
    progress = Console(stderr=True, highlight=False, markup=False, emoji=False)
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".inputs-", dir=out))
    done = itertools.count(1)

    def note(result: Result) -> None:
        folder = scratch / str(result.number)
        if result.outcome.problem:
            kept = out / f"seed-{seed}" / str(result.number)
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(kept)
            (kept / "problem.txt").write_text(_how_to_repeat(result, seed), errors="backslashreplace")
            progress.print(f"{result.number} ({result.plan.kind}, {result.plan.what}): {result.outcome.problem}",
                           markup=False)  # fmt: skip
        else:
            shutil.rmtree(folder)
        if (number := next(done)) % 500 == 0:
            progress.print(f"{number} of {len(numbers)}")

    try:
        return run(numbers, seed, scratch, workers=workers, on_result=note)
    finally:
        shutil.rmtree(scratch)


def as_markdown(results: Sequence[Result], command: str, seconds: float) -> str:
    """The tables of the documentation."""
    problems = [result for result in results if result.outcome.problem]
    counts = f"{len(results):,} inputs in {seconds / 60:.0f} minutes, {len(problems)} with a problem"
    lines = [
        f"`{command}`: {counts}.",
        "",
        "| inputs | number | kept as they are | kept, damage visible | not kept, with a reason | problems |",
        "|---|---|---|---|---|---|",
    ]
    fine = [result for result in results if not result.outcome.problem]
    for kind in KINDS:
        became = Counter(result.outcome.result for result in fine if result.plan.kind == kind)
        failed = sum(result.plan.kind == kind for result in problems)
        numbers = [became["kept"], became["smeared"], became["refused"], failed]
        if total := sum(numbers):
            lines.append(f"| {kind} | {total:,} | {' | '.join(f'{number:,}' for number in numbers)} |")
    lines += ["", "| inputs | reasons |", "|---|---|"]
    for kind in KINDS:
        reasons = Counter(r.outcome.reason for r in fine if r.plan.kind == kind and r.outcome.result == "refused")
        if reasons:
            lines.append(f"| {kind} | {', '.join(f'{reason} {count:,}' for reason, count in reasons.most_common())} |")
    again = sum(r.outcome.result == "smeared" and bool(r.outcome.reason) for r in fine)
    lines += ["", f"Damaged frames with other pixels when they are read again: in {again} of the inputs."]
    lines += ["", *(f"- {r.number}, {r.plan.kind}, {r.plan.what}: {r.outcome.problem}" for r in problems)]
    return "\n".join(lines).rstrip() + "\n"


def _numbers(inputs: int, only: str | None) -> list[int]:
    """The numbers of the first so many inputs of a kind, or of all kinds in turn."""
    return list(itertools.islice((n for n in itertools.count() if only in (None, kind_of(n))), inputs))


def _repeat(numbers: Sequence[int], seed: int, out: Path) -> int:
    """Read these inputs in one process, in this order, and keep them all."""
    with tempfile.TemporaryDirectory() as scratch:
        results = {r.number: r for r in run(numbers, seed, Path(scratch), workers=1, on_result=lambda _: None)}
    for number in numbers:
        shutil.rmtree(out / str(number), ignore_errors=True)
        make_input(number, seed, out / str(number))
        plan, outcome = results[number].plan, results[number].outcome
        said = outcome.problem or f"{outcome.result} {outcome.reason}".strip()
        sys.stdout.write(f"{number}: {plan.kind}, {plan.what}: {said}\n  {out / str(number)}\n")
    return 1 if any(result.outcome.problem for result in results.values()) else 0


def _how_to_repeat(result: Result, seed: int) -> str:
    command = f"python -m benchmarks.fuzz --seed {seed} --input"
    before = " ".join(map(str, result.before))
    return (
        f"{result.plan.kind}, {result.plan.what}: {result.outcome.problem}\n\n{command} {result.number}\n\n"
        f"If it is well alone, with what the same process had read before:\n{command} {before} {result.number}\n"
    )


if __name__ == "__main__":
    sys.exit(main())

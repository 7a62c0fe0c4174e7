"""The report's tables as plain data: made once, then rendered as HTML, Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dfer.analysis.statistics import Interval
from dfer.config.published import PublishedRow, PublishedTable
from dfer.labels import EMOTIONS
from dfer.report.content import ArmResult
from dfer.report.numbers import HEADLINES, ArmNumbers, ExperimentNumbers, Pair
from dfer.report.results import SYNTHETIC

CHOSEN_ON_TEST = "†"
MINUS = "\N{MINUS SIGN}"
CHOSEN_ON_TEST_NOTE = "best epoch chosen on the test fold: too good"
CHOSEN_BY_VALIDATION = "Epoch by validation: the best UAR on an inner part of the training folds."
VALIDATION_NOTE = "(val): validation part; the labels of the test part are not public."
SYNTHETIC_PUBLISHED = "The published rows are about real clips and must never be compared with the synthetic ones."


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Attributes:
        text: to be read first.
        small: lines to be read second, such as an interval.
        url: where the number comes from; empty if nowhere.
        links: more pages, each under its own text.
        value, low, high: the number and its interval, unrounded; None where the cell holds no number.
        best: largest of the own rows in its column.
    """

    text: str
    small: tuple[str, ...] = ()
    url: str = ""
    links: tuple[Link, ...] = ()
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row; `kind` tells own results from published ones."""

    cells: tuple[Cell, ...]
    kind: Literal["own", "published"] = "own"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: file name without suffix.
        title: its caption.
        columns: headings.
        text_columns: how many of the first columns hold words; the others hold numbers.
        lines: rows, the own ones first.
        published_from: source of the published rows; empty without any.
        warnings: to be said above it, since they change what it means.
        notes: to be said below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    text_columns: int
    lines: tuple[Line, ...]
    published_from: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def file_name(text: str) -> str:
    """`text` as part of a file name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")


def shortened(table: Table) -> Table:
    """The table for a terminal: methods, WAR and UAR with their intervals; no recalls, links and runs."""
    kept = [
        place
        for place, name in enumerate(table.columns)
        if place < table.text_columns or name.startswith(("WAR", "UAR"))
    ]

    def short(line: Line) -> Line:
        cells = [replace(line.cells[place], small=line.cells[place].small[:1], url="") for place in kept]
        if line.kind == "published":
            cells[0] = replace(cells[0], small=line.cells[0].small)
        return replace(line, cells=tuple(cells))

    notes = tuple(note for note in table.notes if not note.startswith("Published"))
    return replace(
        table, columns=tuple(table.columns[place] for place in kept), lines=tuple(map(short, table.lines)), notes=notes
    )


def percent(share: float) -> str:
    """'57.4'; a dash for nan."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference in percentage points: '+1.9', with a minus sign where there is one."""
    if math.isnan(share):
        return "–"
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def p_value(value: float, *, at_most: bool = False) -> str:
    """'< 0.001' or three decimals, with '≤' where no more than that is known."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"≤ {value:.3f}" if at_most and value < 1 else f"{value:.3f}"


def scores(experiment: ExperimentNumbers) -> Table:
    """The experiment's rows and the published ones under the same headings: WAR and UAR, recalls where they are shown.

    A number is the mean over folds and seeds, with the 95 % interval of the bootstrap over clips.
    """
    recalls = EMOTIONS if experiment.result.show == "per-class" else ()
    metrics = (*recalls, "uar", "war")
    published = experiment.result.published
    beside = {} if published is None or experiment.synthetic else {row.row: row for row in published.rows}
    own = _with_best([_own_line(arm, metrics, beside) for arm in experiment.arms], range(2, 2 + len(metrics)))
    warnings = [SYNTHETIC] if experiment.synthetic and own else []
    if published and experiment.synthetic:
        warnings.append(SYNTHETIC_PUBLISHED)
    notes = (
        "In percent: mean over folds and seeds; 95 % intervals, of a bootstrap over clips for UAR and WAR, Wilson's "
        "for the classes; ± is a standard deviation.",
        *_protocol_notes(experiment.arms),
    )
    rows = published.rows if published else ()
    headings = tuple({"uar": "UAR", "war": "WAR"}.get(name, name) for name in metrics)
    about_runs = ("clips scored", "runs") if own else ()
    return Table(
        name=file_name(experiment.result.name),
        title=experiment.result.title,
        columns=("method", "labels", *headings, *about_runs),
        text_columns=2,
        lines=(*own, *(_published_line(row, metrics, empty=len(about_runs)) for row in rows)),
        published_from=f"{published.source}; {published.dataset}, {published.protocol}" if published else "",
        warnings=tuple(warnings),
        notes=(notes if own else ()) + (_published_notes(published) if published else ()),
    )


def comparisons(experiment: ExperimentNumbers) -> Table:
    """All pairs of the experiment's arms, the strongest difference first."""
    lines = []
    for pair in experiment.pairs:
        comparison = pair.comparison
        lines.append(
            Line(
                (
                    Cell(versus(pair, experiment)),
                    *(_difference(comparison.differences[name]) for name in HEADLINES),
                    *(
                        Cell(
                            p_value(pair.corrected[name], at_most=comparison.at_floor(name)), value=pair.corrected[name]
                        )
                        for name in HEADLINES
                    ),
                    Cell(
                        p_value(comparison.mcnemar.p_value),
                        small=(f"{comparison.mcnemar.only_b} : {comparison.mcnemar.only_a}",),
                        value=comparison.mcnemar.p_value,
                    ),
                    Cell(str(comparison.clips), value=comparison.clips),
                )
            )
        )
    return Table(
        name=f"{file_name(experiment.result.name)}-comparisons",
        title=f"{experiment.result.title}: differences",
        columns=("arms", "WAR", "UAR", "p of WAR", "p of UAR", "McNemar's p", "clips"),
        text_columns=1,
        lines=tuple(lines),
        warnings=(SYNTHETIC,) if experiment.synthetic else (),
        notes=(
            "Percentage points with 95 % intervals, paired bootstrap over clips. p of WAR and UAR: of the same "
            f"bootstrap, after Holm's correction over all {2 * len(experiment.pairs)} of this table. McNemar's p is "
            "not corrected; below it: clips that only the first arm of the two got right, and only the second.",
            *_protocol_notes(experiment.arms),
        ),
    )


def recall_differences(experiment: ExperimentNumbers) -> Table:
    """The same pairs, class by class."""
    return Table(
        name=f"{file_name(experiment.result.name)}-recall-differences",
        title=f"{experiment.result.title}: differences of the recall of each class",
        columns=("arms", *EMOTIONS),
        text_columns=1,
        lines=tuple(
            Line(
                (
                    Cell(versus(pair, experiment)),
                    *(_difference(pair.comparison.differences[emotion]) for emotion in EMOTIONS),
                )
            )
            for pair in experiment.pairs
        ),
        warnings=(SYNTHETIC,) if experiment.synthetic else (),
        notes=(
            "Percentage points with 95 % intervals of the paired bootstrap over clips, not corrected for being many. "
            "An interval of no width means that no resample differs: both arms are all right or all wrong.",
            *_protocol_notes(experiment.arms),
        ),
    )


def temporal(experiment: ExperimentNumbers) -> Table:
    """Every order of frames at test time, with its difference to frames in order."""
    pairs = {id(pair.second): pair for pair in experiment.pairs}
    lines = []
    for arm in experiment.arms:
        pair = pairs.get(id(arm))
        differences = [_difference(pair.comparison.differences[name]) if pair else Cell("") for name in HEADLINES]
        war, uar = (_score(arm, name) for name in HEADLINES)
        model = Cell(f"{arm.result.name}{_flag(arm)}", small=(where(arm.result),))
        lines.append(Line((model, Cell(arm.result.frames), war, differences[0], uar, differences[1])))
    return Table(
        name=file_name(experiment.result.name),
        title=experiment.result.title,
        columns=("method", "frames", "WAR", "WAR: difference", "UAR", "UAR: difference"),
        text_columns=2,
        lines=tuple(lines),
        warnings=(SYNTHETIC,) if experiment.synthetic else (),
        notes=(
            "Frames of the test clips in order, shuffled, reversed, or the peak frame repeated. A score that does not "
            "fall needs no time. In percent with 95 % intervals; differences are to frames in order.",
            *_protocol_notes(experiment.arms),
        ),
    )


def calibration(arms: Sequence[ArmNumbers], *, synthetic: bool) -> Table:
    """How far the probabilities can be trusted, and how far they are from the voters."""
    lines = []
    for arm in arms:
        numbers, voters = arm.calibration, arm.voters
        lines.append(
            Line(
                (
                    _name(arm),
                    *(_plain(numbers[name], arm) for name in ("ece", "brier", "nll")),
                    _plain(arm.aurc, arm),
                    *(
                        _plain(voters.against[name] if voters else None, arm)
                        for name in ("model_js", "human_js", "human_exceeds_model", "model_accuracy", "human_accuracy")
                    ),
                    _plain(voters.entropy_correlation[0] if voters else None, arm),
                )
            )
        )
    return Table(
        name="calibration",
        title="Calibration and agreement with the voters",
        columns=(
            "arm",
            "ECE",
            "Brier",
            "NLL",
            "AURC",
            "JS to voters",
            "JS among voters",
            "voters disagree more",
            "accuracy, model",
            "accuracy, one voter",
            "entropy, rank corr.",
        ),
        text_columns=1,
        lines=tuple(lines),
        warnings=(SYNTHETIC,) if synthetic else (),
        notes=(
            "ECE (15 bins), Brier, NLL (nats), AURC (area under the risk-coverage curve): lower is better. JS: "
            "Jensen-Shannon divergence in nats. JS among voters: between two random halves of a clip's votes, which "
            "are fewer votes and so differ a little more than two full panels would. Voters disagree more: share of "
            "clips where that exceeds the model's divergence. One voter: how often one annotator agrees with the "
            "majority of the others; model: the same for its prediction. Rank correlation (Spearman) of the model's "
            "entropy with the voters'.",
            "Arms whose targets are normalised by softmax, as MIDAS's are, learn nearly flat probabilities: their ECE, "
            "Brier, NLL and JS are large by construction.",
            *_protocol_notes(arms),
        ),
    )


def by_ambiguity(arms: Sequence[ArmNumbers], *, synthetic: bool) -> Table:
    """WAR of every arm by how much the voters of a clip disagree; all arms are over the same data set."""
    voted = [(arm, arm.voters.bins) for arm in arms if arm.voters is not None]
    widest = max((bins for _, bins in voted), key=len)
    lines = [
        Line(
            (
                _name(arm),
                *(
                    Cell(percent(row.war), small=(f"UAR {percent(row.uar)}",), url=_url(arm), value=row.war)
                    for row in bins.itertuples()
                ),
                *(Cell("–") for _ in range(len(widest) - len(bins))),
            )
        )
        for arm, bins in voted
    ]
    dataset = arms[0].result.evaluated_on
    headings = [f"{_range(row.low, row.high)} ({row.clips} clips)" for row in widest.itertuples()]
    return Table(
        name=f"ambiguity-{file_name(dataset)}",
        title=f"WAR by the voters' disagreement, {dataset}",
        columns=("arm", *headings),
        text_columns=1,
        lines=tuple(lines),
        warnings=(SYNTHETIC,) if synthetic else (),
        notes=("Columns: entropy of a clip's votes in nats, 0 = all agree. In percent.", *_protocol_notes(arms)),
    )


def _range(low: float, high: float) -> str:
    ends = [f"{end:.2f}" for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def short_names(arms: Sequence[ArmNumbers]) -> list[str]:
    """Each arm by what tells it apart from the others, "midas" where all have the same network; † for its protocol."""
    words = {
        "model": "{}",
        "arm": "{}",
        "frames": "{}",
        "trained_on": "from {}",
        "evaluated_on": "on {}",
        "part": "({})",
    }
    telling = [name for name in words if len({getattr(arm.result, name) for arm in arms}) > 1] or ["model", "arm"]
    return [" ".join(words[name].format(getattr(arm.result, name)) for name in telling) + _flag(arm) for arm in arms]


def trainings(arms: Sequence[ArmNumbers], *, synthetic: bool) -> Table:
    """How many clips every arm was trained on, and how many were left out for which reason."""
    lines = []
    for arm in arms:
        summaries = [run.training for run in arm.result.runs]
        clips = [summary["clips"]["training"] for summary in summaries if "clips" in summary]
        left_out: dict[str, list[int]] = {}
        for summary in summaries:
            for reason, count in summary.get("left_out", {}).items():
                left_out.setdefault(reason, []).append(count)
        said = [f"{reason}: {_from_to(counts)}" for reason, counts in left_out.items() if any(counts)]
        lines.append(
            Line(
                (
                    Cell(f"{arm.result.name}{_flag(arm)}", small=(f"on {arm.result.trained_on}",)),
                    Cell(", ".join(said) or "nothing"),
                    Cell(str(len(summaries)), value=len(summaries)),
                    Cell(_from_to(clips) if clips else "–"),
                )
            )
        )
    return Table(
        name="trainings",
        title="Clips of the trainings",
        columns=("arm", "left out", "runs", "clips"),
        text_columns=2,
        lines=tuple(lines),
        warnings=(SYNTHETIC,) if synthetic else (),
        notes=tuple(note for note in ("Numbers of clips; a range where the runs differ.", flagged(arms)) if note),
    )


def _from_to(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def versus(pair: Pair, experiment: ExperimentNumbers) -> str:
    """'midas against hard'."""
    names = {id(arm): name for arm, name in zip(experiment.arms, short_names(experiment.arms), strict=True)}
    return f"{names[id(pair.second)]} against {names[id(pair.first)]}"


def full_name(arm: ArmNumbers) -> str:
    """The arm with everything that tells it apart: order of frames if not the right one, flag of the protocol."""
    frames = "" if arm.result.frames == "in order" else f", frames {arm.result.frames}"
    return f"{arm.result.name}{frames}{_flag(arm)}"


def _flag(arm: ArmNumbers) -> str:
    return CHOSEN_ON_TEST if arm.chosen_on_test else ""


def where(result: ArmResult) -> str:
    """'dfew → afew (val)': trained on, tested on, which part, and how the epoch was chosen if it is not the last."""
    epoch = ", epoch by validation" if result.protocol == "validation" else ""
    return f"{result.trained_on} → {result.evaluated_on} ({result.part}{epoch})"


def spread_in_words(arm: ArmNumbers, metric: str) -> tuple[str, ...]:
    """'± 1.2 over 5 folds' and '± 0.4 over 3 seeds', as far as there is more than one."""
    spread = arm.spread.loc[metric]
    return tuple(
        f"± {percent(spread[f'sd_{of}'])} over {int(spread[of])} {of}" for of in ("folds", "seeds") if spread[of] > 1
    )


def _own_line(arm: ArmNumbers, metrics: Sequence[str], published: Mapping[str | None, PublishedRow]) -> Line:
    frames = "" if arm.result.frames == "in order" else f", frames {arm.result.frames}"
    same = published.get(arm.result.name)
    numbers = [_score(arm, name) for name in metrics]
    if same is not None:
        numbers = [
            replace(cell, small=(*cell.small, f"published {same.values[name]:.2f}")) if name in same.values else cell
            for name, cell in zip(metrics, numbers, strict=True)
        ]
    return Line(
        (
            Cell(f"{arm.result.model}{_flag(arm)}", small=(where(arm.result),)),
            Cell(f"{arm.result.arm}{frames}"),
            *numbers,
            Cell(f"{arm.scored} of {arm.listed}", small=(f"{percent(arm.scored / arm.listed)} %",)),
            Cell("", links=_runs(arm.result)),
        )
    )


def _published_line(row: PublishedRow, metrics: Sequence[str], *, empty: int) -> Line:
    numbers = (
        Cell(f"{row.values[name]:.2f}", value=row.values[name] / 100) if name in row.values else Cell("–")
        for name in metrics
    )
    words = (Cell(row.method, small=(row.citation,)), Cell(row.label))
    return Line((*words, *numbers, *(Cell("") for _ in range(empty))), "published")


def _published_notes(table: PublishedTable) -> tuple[str, ...]:
    notes = [table.note, *(f"{row.method}, {row.label}: {row.note}" for row in table.rows if row.note)]
    return tuple(f"Published: {note}" for note in notes if note)


def _runs(result: ArmResult) -> tuple[Link, ...]:
    """Every run by its fold and seed; a link without a URL is to be shown as words."""
    seeds = {run.seed for run in result.runs}
    named = []
    for run in result.runs:
        words = [f"fold {run.fold}"] if run.fold is not None else []
        if len(seeds) > 1 or not words:
            words.append(f"seed {run.seed}")
        best = run.training.get("best_on_test_fold")
        if result.protocol == "paper" and best:
            words.append(f"epoch {best['epoch']}")
        named.append(Link(", ".join(words), run.url))
    return tuple(named)


def _name(arm: ArmNumbers) -> Cell:
    return Cell(full_name(arm), small=(where(arm.result),), url=_url(arm))


def _score(arm: ArmNumbers, metric: str) -> Cell:
    interval = arm.intervals[metric]
    if math.isnan(interval.estimate):
        return Cell("–", small=("no clips",))
    if metric in HEADLINES:
        shown, spread = f"[{percent(interval.low)}, {percent(interval.high)}]", spread_in_words(arm, metric)
    else:  # of a tenth of the clips and as much wider: no decimals, so that seven of them fit beside each other
        shown, spread = f"[{100 * interval.low:.0f}, {100 * interval.high:.0f}]", ()
    return Cell(
        percent(interval.estimate),
        small=(shown, *spread),
        url=_url(arm),
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
    )


def _difference(interval: Interval) -> Cell:
    if math.isnan(interval.estimate):
        return Cell("–", small=("no clips",))
    return Cell(
        points(interval.estimate),
        small=(f"[{points(interval.low)}, {points(interval.high)}]",),
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
    )


def _url(arm: ArmNumbers) -> str:
    """Where the arm's runs are side by side, or its only run."""
    return arm.result.url or (arm.result.runs[0].url if len(arm.result.runs) == 1 else "")


def _plain(number: float | None, arm: ArmNumbers) -> Cell:
    if number is None or math.isnan(number):
        return Cell("–")
    return Cell(f"{number:.3f}".replace("-", MINUS), url=_url(arm), value=number)


def _with_best(lines: Sequence[Line], columns: range) -> tuple[Line, ...]:
    """The largest number of each column marked, ties all; where all are the same none is the best of anything."""
    if len(lines) < 2:
        return tuple(lines)
    largest = {}
    for column in columns:
        values = [value for line in lines if (value := line.cells[column].value) is not None]
        largest[column] = max(values) if len(set(values)) > 1 else None
    return tuple(
        replace(
            line,
            cells=tuple(
                replace(cell, best=True) if cell.value is not None and cell.value == largest.get(place) else cell
                for place, cell in enumerate(line.cells)
            ),
        )
        for line in lines
    )


def flagged(arms: Sequence[ArmNumbers]) -> str:
    """What the † means, empty where no arm has it."""
    return f"{CHOSEN_ON_TEST} {CHOSEN_ON_TEST_NOTE}." if any(arm.chosen_on_test for arm in arms) else ""


def _protocol_notes(arms: Sequence[ArmNumbers]) -> tuple[str, ...]:
    validation = VALIDATION_NOTE if any(arm.result.part == "val" for arm in arms) else ""
    chosen = CHOSEN_BY_VALIDATION if any(arm.result.protocol == "validation" for arm in arms) else ""
    return tuple(note for note in (flagged(arms), chosen, validation) if note)

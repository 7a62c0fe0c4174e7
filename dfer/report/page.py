"""What the report holds and in which order: tables, charts and words, before any of it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from dfer.analysis.statistics import LEVEL, in_words
from dfer.plots import ARM_COLOURS, LOSS_ABOVE_ENTROPY, row_shares, shown_losses
from dfer.report import disagreement, figures, leakage, spread, tables, verdict
from dfer.report.content import ReportContent
from dfer.report.in_words import would_need
from dfer.report.names import file_name, flag, full_name, short_names, versus, where
from dfer.report.numbers import HEADLINES, ArmNumbers, DatasetNumbers, ExperimentNumbers, Pair, ReportNumbers
from dfer.report.table import MINUS, Table, percent

_SELDOM = 0.5  # of the searched frames that have the person's face, below which a clip is listed apart
BRIEF = 3  # sentences an experiment at the top of the page
MATRICES = 8  # arms of an experiment that have a confusion matrix each; more of them would bury the rest
PER_CHART = len(ARM_COLOURS)


@dataclass(frozen=True)
class Chart:
    """A picture; `name` is its file without suffix, `alt` says in words what it shows."""

    name: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class HeatMap:
    """Shares float64[K, K] in [0, 1], nan for a row without clips; and the same as a chart for a paper."""

    caption: str
    corner: str
    rows: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    chart: Chart


@dataclass(frozen=True)
class Claim:
    """A difference in words; `verdict` is "better", "worse", or empty where it could be chance.

    `needs`: how many clips would show a difference as large, where it could be chance; else empty.
    """

    text: str
    verdict: Literal["better", "worse", ""]
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.needs})" if self.needs else self.text


@dataclass(frozen=True)
class Sentence:
    """Two arms by name, and a claim about each of their scores."""

    arms: str
    claims: tuple[Claim, ...]
    caution: str = ""  # which of the two is not trained to its end, or empty

    def __str__(self) -> str:
        return f"{self.arms}{f' ({self.caution})' if self.caution else ''}: {'; '.join(map(str, self.claims))}"


@dataclass(frozen=True)
class ExperimentPart:
    """The section of an experiment."""

    numbers: ExperimentNumbers
    anchor: str
    sentences: tuple[Sentence, ...]  # its strongest differences in words
    brief: tuple[Sentence, ...]  # those of them that no section before it has
    table: Table | None  # its scores; None for a figure about votes
    charts: tuple[Chart, ...]
    heat_maps: tuple[HeatMap, ...]
    differences: tuple[Table, ...]  # tables of its pairs of arms; empty for fewer than two arms


@dataclass(frozen=True)
class Section:
    """A section about the arms of all experiments."""

    anchor: str  # its id in the page
    title: str
    entry: str  # what the contents call it
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()
    text: str = ""  # shown below the title; may be empty
    folded: tuple[Chart, ...] = ()  # more charts, which the page folds under the heading `folded_under`
    folded_under: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report."""

    content: ReportContent
    numbers: ReportNumbers
    experiments: tuple[ExperimentPart, ...]
    sections: tuple[Section, ...]

    @property
    def tables(self) -> Iterator[Table]:
        """Every table."""
        for experiment in self.experiments:
            yield from (experiment.table,) if experiment.table else ()
            yield from experiment.differences
        for section in self.sections:
            yield from section.tables

    @property
    def charts(self) -> Iterator[Chart]:
        """Every chart, those of heat maps included."""
        for experiment in self.experiments:
            yield from experiment.charts
            yield from (heat_map.chart for heat_map in experiment.heat_maps)
        for section in self.sections:
            yield from (*section.folded, *section.charts)


def assemble(content: ReportContent, numbers: ReportNumbers) -> Page:
    """The report's parts in their order."""
    known: set[tuple[int, int]] = set()
    sections = [section(numbers) for section in SECTIONS]
    return Page(
        content,
        numbers,
        tuple(_experiment(experiment, numbers, known) for experiment in numbers.experiments),
        tuple(section for section in sections if section.tables or section.charts),
    )


def _experiment(numbers: ExperimentNumbers, report: ReportNumbers, known: set[tuple[int, int]]) -> ExperimentPart:
    """The section; `known` holds the pairs of arms in the sentences of earlier sections and gets those of this one."""
    result, arms = numbers.result, numbers.arms
    name = file_name(result.name)
    charts: list[Chart] = []
    heat_maps: list[HeatMap] = []
    repeats = _has_its_scores_elsewhere(numbers, report)
    pairs = () if repeats else numbers.pairs
    if arms and not repeats and result.show != "disagreement":
        charts += [*_length_charts(name, arms), *_score_charts(name, arms)]
        if result.show == "networks" and any(figures.gflops(arm) for arm in arms):
            charts.append(_work(name, arms))
    if arms and result.show == "disagreement":
        charts = [
            Chart(f"{name}-{file}", title, alt, figure) for file, title, alt, figure in disagreement.charts(numbers)
        ]
    few = result.show in ("scores", "per-class") and len(arms) <= MATRICES
    if arms and (few or result.show == "confusion"):
        named = zip(arms, short_names(arms), strict=True)
        heat_maps += [_confusion(f"{name}-confusion-{place}", *arm) for place, arm in enumerate(named, 1)]
    for dataset in report.datasets:
        if dataset.facts.name == result.dataset and result.show == "class-distribution":
            charts.append(_class_distribution(name, dataset))
        if dataset.facts.name == result.dataset and result.show == "coexistence" and dataset.coexistence is not None:
            heat_maps.append(_coexistence(name, dataset.facts.name, dataset.coexistence))
    strongest = {(id(pair.first), id(pair.second)): in_brief(pair, numbers) for pair in pairs[:BRIEF]}
    table = tables.confusions if repeats else OF_SHOW.get(result.show)
    brief = tuple(sentence for pair, sentence in strongest.items() if pair not in known)
    known.update(strongest)
    return ExperimentPart(
        numbers=numbers,
        anchor=name,
        sentences=tuple(strongest.values()),
        brief=brief,
        table=table(numbers) if table is not None else None,
        charts=tuple(charts),
        heat_maps=tuple(heat_maps),
        differences=tuple(of_pairs(numbers) for of_pairs in OF_PAIRS if pairs),
    )


def _has_its_scores_elsewhere(numbers: ExperimentNumbers, report: ReportNumbers) -> bool:
    """Whether this is a figure of confusions, and each of its arms has its scores in the section of some table."""
    of_tables = {
        id(arm)
        for other in report.experiments
        for arm in other.arms
        if other.result.show in ("scores", "networks", "per-class")
    }
    return numbers.result.show == "confusion" and bool(numbers.arms) and of_tables.issuperset(map(id, numbers.arms))


def _work(name: str, arms: Sequence[ArmNumbers]) -> Chart:
    caption = "UAR against the work of one clip's forward pass, in GFLOPs"
    known = [arm for arm in arms if figures.gflops(arm)]
    best = max(known, key=lambda arm: arm.intervals["uar"].estimate)
    alt = f"{caption}; the highest is {best.result.name} with {percent(best.intervals['uar'].estimate)} %"
    return Chart(f"{name}-work", caption, alt, figures.work(known))


def in_brief(pair: Pair, experiment: ExperimentNumbers) -> Sentence:
    """A pair in words: "midas against hard", "+1.9 WAR [0.7, 3.1]: real at 95 %", and the same for UAR."""
    claims = []
    for name in HEADLINES:
        difference, corrected = pair.comparison.differences[name], pair.corrected[name]
        text = in_words(difference, name.upper(), corrected_p=corrected).replace("-", MINUS)
        real = not difference.low <= 0 <= difference.high and corrected <= 1 - LEVEL
        if real:
            claims.append(Claim(text, "better" if difference.estimate > 0 else "worse"))
        else:
            claims.append(Claim(text, "", would_need(pair, name, experiment)))
    return Sentence(versus(pair, experiment), tuple(claims), _caution(pair, experiment))


def _caution(pair: Pair, experiment: ExperimentNumbers) -> str:
    """'not converged: midas has learnt 48 % of its own training clips, soft 71 %'; empty where both have learnt enough,
    or where that is not known."""
    names = dict(zip(map(id, experiment.arms), short_names(experiment.arms), strict=True))
    shares = [(names[id(arm)], tables.learnt(arm)) for arm in (pair.second, pair.first)]
    few = [(name, share) for name, share in shares if share is not None and share < tables.CONVERGED]
    if not few:
        return ""
    (name, share), *others = few
    also = "".join(f", {other} {percent(its)} %" for other, its in others)
    return f"not converged: {name} has learnt {percent(share)} % of its own training clips{also}"


def _parts(arms: Sequence[ArmNumbers]) -> list[tuple[Sequence[ArmNumbers], list[str]]]:
    """The arms and their short names, no more at once than a chart has colours."""
    names = short_names(arms)
    slices = [slice(start, start + PER_CHART) for start in range(0, len(arms), PER_CHART)]
    return [(arms[part], names[part]) for part in slices]


def _score_charts(name: str, arms: Sequence[ArmNumbers]) -> Iterator[Chart]:
    shorts = short_names(arms)
    alt = "; ".join(
        f"{short}: WAR {percent(arm.intervals['war'].estimate)}, UAR {percent(arm.intervals['uar'].estimate)}"
        for short, arm in zip(shorts, arms, strict=True)
    )
    yield Chart(f"{name}-scores", "WAR and UAR with 95 % intervals", alt, figures.intervals(arms, shorts))
    parts = _parts(arms)
    for number, (some, names) in enumerate(parts, 1):
        caption = "Recall of each class" + (f" ({number} of {len(parts)})" if len(parts) > 1 else "")
        alt = "; ".join(
            f"{short}: " + ", ".join(f"{emotion} {percent(arm.intervals[emotion].estimate)}" for emotion in arm.classes)
            for short, arm in zip(names, some, strict=True)
        )
        yield Chart(f"{name}-per-class-{number}", caption, alt, figures.per_class(some, names))


def _length_charts(name: str, arms: Sequence[ArmNumbers]) -> Iterator[Chart]:
    """Scores by the length of the training, where an experiment compares lengths."""
    of_lengths = [arm for arm in arms if arm.result.epochs is not None]
    if not of_lengths:
        return
    for metric in HEADLINES:
        caption = f"{metric.upper()} by the length of the training, with 95 % intervals"
        alt = "; ".join(f"{full_name(arm)}: {percent(arm.intervals[metric].estimate)}" for arm in of_lengths)
        yield Chart(f"{name}-length-{metric}", caption, alt, figures.by_length(of_lengths, metric))


def _confusion(name: str, arm: ArmNumbers, short: str) -> HeatMap:
    caption = f"Confusion of {short}, % of the row"
    clips = zip(arm.classes, arm.confusion.sum(axis=1).tolist(), strict=True)
    return HeatMap(
        caption,
        "true ↓ predicted →",
        tuple(f"{emotion} ({count})" for emotion, count in clips),
        row_shares(arm.confusion),
        Chart(name, caption, caption, figures.confusion(arm.confusion, arm.classes)),
    )


def _coexistence(name: str, dataset: str, shares: pd.DataFrame) -> HeatMap:
    caption = f"{dataset}: mean share of the votes, %, of the clips of each class"
    chart = Chart(f"{name}-coexistence", caption, caption, figures.coexistence(shares))
    classes = tuple(str(name) for name in shares.columns)
    return HeatMap(caption, "label ↓ voted →", classes, shares.to_numpy("float64"), chart)


def _class_distribution(name: str, dataset: DatasetNumbers) -> Chart:
    alt = ", ".join(f"{emotion} {count}" for emotion, count in dataset.distribution.items())
    caption = f"{dataset.facts.name}: clips by their single label"
    return Chart(f"{name}-class-distribution", caption, alt, figures.class_distribution(dataset))


def _calibration(numbers: ReportNumbers) -> Section:
    return Section(
        "section-calibration",
        "Calibration and agreement with the voters",
        "Calibration and agreement",
        (tables.calibration(numbers),) if numbers.main_arms else (),
        folded=tuple(_reliability(arm, place) for place, arm in enumerate(numbers.main_arms, 1)),
        folded_under="Reliability diagrams",
    )


def _reliability(arm: ArmNumbers, place: int) -> Chart:
    name = full_name(arm)
    caption = f"{name}, {where(arm.result)}: ECE {arm.calibration['ece']:.3f}"
    file = f"reliability-{place:02d}-{file_name(name)}"
    return Chart(file, caption, f"Reliability of {caption}", figures.reliability(arm))


def _ambiguity(numbers: ReportNumbers) -> Section:
    by_set: dict[str, list[ArmNumbers]] = {}
    for arm in numbers.main_arms:
        by_set.setdefault(arm.result.evaluated_on, []).append(arm)
    return Section(
        "section-ambiguity",
        "Ambiguity and abstaining",
        "Ambiguity and abstaining",
        tuple(
            tables.by_ambiguity(name, arms, synthetic=name in numbers.synthetic_sets)
            for name, arms in by_set.items()
            if any(arm.voters for arm in arms)
        ),
        tuple(_ambiguity_charts(numbers)),
        "A model that knows when people disagree can leave those clips to them: its risk falls when it answers only "
        "where it is most certain.",
    )


def _ambiguity_charts(numbers: ReportNumbers) -> Iterator[Chart]:
    """Two charts an experiment: of its arms that are no audits, unless one before it shows all of them."""
    shown: list[set[int]] = []
    for experiment in numbers.experiments:
        arms = [arm for arm in experiment.arms if not arm.is_audit]
        identities = set(map(id, arms))
        if not arms or any(identities <= before for before in shown):
            continue
        shown.append(identities)
        title = experiment.result.title
        for number, (some, names) in enumerate(_parts(arms), 1):
            part = f"{file_name(experiment.result.name)}-{number}"
            alt = "AURC: " + ", ".join(f"{name} {arm.aurc:.3f}" for name, arm in zip(names, some, strict=True))
            figure = figures.risk_coverage(some, names)
            yield Chart(f"risk-coverage-{part}", f"{title}: risk by coverage (AURC)", alt, figure)
            voted = [(arm, name) for arm, name in zip(some, names, strict=True) if arm.voters]
            if voted:
                figure = figures.by_ambiguity(*zip(*voted, strict=True))
                caption = f"{title}: WAR by the voters' disagreement"
                yield Chart(f"ambiguity-{part}", caption, f"{caption}; the numbers are in the table", figure)


def _verdict(numbers: ReportNumbers) -> Section:
    of_arms = verdict.over_sets(numbers)
    return Section(
        "section-verdict",
        "Over data sets",
        "Over data sets",
        tuple(verdict.as_table(one, numbers) for one in of_arms),
        tuple(Chart(*chart) for one in of_arms for chart in verdict.charts(one)),
    )


def _spread(numbers: ReportNumbers) -> Section:
    every = spread.spreads(numbers)
    return Section(
        "section-spread",
        "Seeds, folds and clips",
        "Seeds, folds and clips",
        (spread.as_table(every, numbers),) if every else (),
        tuple(Chart(*chart) for chart in spread.charts(every)),
    )


def _leakage(numbers: ReportNumbers) -> Section:
    return Section(
        "section-leakage",
        "Clips that give one another away",
        "Leakage across folds",
        leakage.as_tables(numbers),
        tuple(Chart(*chart) for chart in leakage.charts(numbers)),
        leakage.TEXT,
    )


def _seldom_seen(numbers: ReportNumbers) -> Section:
    seldom: set[str] = set()
    for dataset in numbers.datasets:
        if (index := dataset.facts.index) is not None:
            rarely = (index["status"] == "ok") & (index["frames_kept"] < _SELDOM * index["frames_seen"])
            seldom.update(index.loc[rarely, "clip_id"])
    tested = any(arm.result.predictions["clip_id"].isin(seldom).any() for arm in numbers.main_arms)
    return Section(
        "section-seldom-seen",
        "Faces that are seldom seen",
        "Faces seldom seen",
        (tables.seldom_seen(numbers, seldom),) if tested else (),
    )


def _trainings(numbers: ReportNumbers) -> Section:
    arms = [arm for arm in enumerate(numbers.trained_arms, 1) if figures.histories(arm[1])]
    above_entropy = any(shown_losses(figures.histories(arm))[1] == LOSS_ABOVE_ENTROPY for _, arm in arms)
    return Section(
        "section-training",
        "Trainings",
        "Trainings and learning curves",
        (tables.trainings(numbers),) if numbers.arms else (),
        tuple(_learning(*arm) for arm in arms),
        f"{_LEARNING_NOTE}{_ENTROPY_NOTE if above_entropy else ''}" if arms else "",
    )


_LEARNING_NOTE = (
    "One line a run. The dotted line is chance; nothing is chosen on the test fold unless the name says so (†)."
)
_ENTROPY_NOTE = (
    " No loss can be less than the mean entropy of its targets, which for mixed or flattened labels is nearly all of "
    "it: the curves show what is above that."
)


def _learning(place: int, arm: ArmNumbers) -> Chart:
    result = arm.result
    runs = f"{len(result.runs)} run{'s' if len(result.runs) > 1 else ''}"
    caption = f"{result.name}{flag(arm)} on {result.trained_on}, {runs}"
    losses, what = shown_losses(figures.histories(arm))
    alt = f"{caption}; {what} in the last epoch: {', '.join(f'{values.iloc[-1]:.2f}' for values in losses)}"
    return Chart(f"learning-{place:02d}-{file_name(result.name)}", caption, alt, figures.learning_curves(arm))


OF_SHOW: Mapping[str, Callable[[ExperimentNumbers], Table]] = {
    "scores": tables.scores,
    "networks": tables.scores,
    "per-class": tables.scores,
    "probabilities": tables.probabilities,
    "disagreement": disagreement.as_table,
    "confusion": tables.scores,
    "temporal": tables.temporal,
}
"""The table of an experiment, by what the experiment shows; a figure about votes has none."""

OF_PAIRS: Sequence[Callable[[ExperimentNumbers], Table]] = (tables.comparisons, tables.recall_differences)
"""The tables below an experiment of two arms or more."""

SECTIONS: Sequence[Callable[[ReportNumbers], Section]] = (
    _verdict,
    _spread,
    _leakage,
    _calibration,
    _ambiguity,
    _seldom_seen,
    _trainings,
)
"""The sections after the experiments; one without tables and charts is left out."""

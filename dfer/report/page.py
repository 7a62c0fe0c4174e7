"""What stands where in the report: tables, charts and words in their order, before any of it is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from dfer.analysis.statistics import LEVEL, in_words
from dfer.labels import EMOTIONS
from dfer.report import figures, tables
from dfer.report.content import ReportContent
from dfer.report.numbers import HEADLINES, ArmNumbers, DatasetNumbers, ExperimentNumbers, HardClips, Pair, ReportNumbers
from dfer.report.tables import Table, file_name, percent

BRIEF = 3  # sentences an experiment at the top of the page
PER_CHART = len(figures.ARM_COLOURS)


@dataclass(frozen=True)
class Chart:
    """A picture; `name` is its file without suffix, `alt` says in words what it shows."""

    name: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class HeatMap:
    """Shares float64[7, 7] in [0, 1], nan for a row without clips; and the same as a chart for a paper."""

    caption: str
    corner: str
    rows: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    chart: Chart


@dataclass(frozen=True)
class Words:
    """A difference in words; `verdict` is "better", "worse", or empty where it could be chance."""

    text: str
    verdict: str


@dataclass(frozen=True)
class Sentence:
    """Which two arms, and what is said about each of their scores."""

    arms: str
    words: tuple[Words, ...]

    def __str__(self) -> str:
        return f"{self.arms}: {'; '.join(words.text for words in self.words)}"


@dataclass(frozen=True)
class ExperimentPart:
    """A section.

    Attributes:
        sentences: its strongest differences in words.
        brief: those of them that no section before it has said.
        table: None for a figure about votes.
        comparisons, recalls: None for fewer than two arms.
    """

    numbers: ExperimentNumbers
    anchor: str
    sentences: tuple[Sentence, ...]
    brief: tuple[Sentence, ...]
    table: Table | None
    charts: tuple[Chart, ...]
    heat_maps: tuple[HeatMap, ...]
    comparisons: Table | None
    recalls: Table | None


@dataclass(frozen=True)
class Page:
    """The whole report."""

    content: ReportContent
    arms: tuple[ArmNumbers, ...]
    experiments: tuple[ExperimentPart, ...]
    calibration: Table | None
    reliability: tuple[Chart, ...]
    ambiguity: tuple[Table, ...]
    ambiguity_charts: tuple[Chart, ...]
    learning: tuple[Chart, ...]
    trainings: Table | None
    hardest: tuple[HardClips, ...]
    datasets: tuple[DatasetNumbers, ...]

    @property
    def tables(self) -> Iterator[Table]:
        """Every table."""
        for experiment in self.experiments:
            yield from (
                table for table in (experiment.table, experiment.comparisons, experiment.recalls) if table is not None
            )
        if self.calibration:
            yield self.calibration
        yield from self.ambiguity
        if self.trainings:
            yield self.trainings

    @property
    def charts(self) -> Iterator[Chart]:
        """Every chart, those of heat maps included."""
        for experiment in self.experiments:
            yield from experiment.charts
            yield from (heat_map.chart for heat_map in experiment.heat_maps)
        yield from (*self.reliability, *self.ambiguity_charts, *self.learning)


def assemble(content: ReportContent, numbers: ReportNumbers) -> Page:
    """The report's parts in their order."""
    # other orders of frames and epochs chosen on the test fold are audits of the same model, not other ways to use it
    arms = [arm for arm in numbers.arms if arm.result.frames == "in order" and not arm.chosen_on_test]
    sets = list(dict.fromkeys(arm.result.evaluated_on for arm in arms))
    by_set = {name: [arm for arm in arms if arm.result.evaluated_on == name] for name in sets}
    synthetic = {facts.name for facts in content.datasets if facts.synthetic}
    # models that were tested on several sets are shown where they have the most runs
    by_runs = sorted(numbers.arms, key=lambda arm: len(arm.result.runs))
    most = {(arm.result.name, arm.result.trained_on, arm.result.protocol): arm for arm in by_runs}
    trained = [arm for arm in numbers.arms if any(arm is other for other in most.values())]
    said: set[tuple[int, int]] = set()
    return Page(
        content=content,
        arms=numbers.arms,
        experiments=tuple(_experiment(experiment, numbers, said) for experiment in numbers.experiments),
        calibration=tables.calibration(arms, synthetic=content.synthetic) if arms else None,
        reliability=tuple(_reliability(arm, place) for place, arm in enumerate(arms, 1)),
        ambiguity=tuple(
            tables.by_ambiguity(given, synthetic=name in synthetic)
            for name, given in by_set.items()
            if any(arm.voters for arm in given)
        ),
        ambiguity_charts=tuple(_ambiguity_charts(numbers, arms)),
        learning=tuple(
            _learning(arm, place) for place, arm in enumerate(trained, 1) if any(run.history for run in arm.result.runs)
        ),
        trainings=tables.trainings(trained, synthetic=content.synthetic) if trained else None,
        hardest=numbers.hardest,
        datasets=numbers.datasets,
    )


def _experiment(numbers: ExperimentNumbers, report: ReportNumbers, said: set[tuple[int, int]]) -> ExperimentPart:
    """A section; `said` holds the pairs of arms that the sections before it have put into words, and gets its own."""
    result, arms = numbers.result, numbers.arms
    name = file_name(result.name)
    table = None
    if result.show == "temporal":
        table = tables.temporal(numbers)
    elif result.show in ("scores", "per-class", "confusion"):
        table = tables.scores(numbers)
    charts: list[Chart] = []
    heat_maps: list[HeatMap] = []
    if arms:
        charts += _score_charts(name, arms)
    if arms and result.show != "temporal":
        shorts = tables.short_names(arms)
        heat_maps += [
            _confusion(name, place, arm, short) for place, (arm, short) in enumerate(zip(arms, shorts, strict=True), 1)
        ]
    about = [dataset for dataset in report.datasets if dataset.facts.name == result.dataset]
    if result.show == "class-distribution":
        charts += [_class_distribution(name, dataset) for dataset in about]
    if result.show == "coexistence":
        heat_maps += [found for dataset in about if (found := _coexistence(name, dataset))]
    strongest = numbers.pairs[:BRIEF]
    new = [pair for pair in strongest if (id(pair.first), id(pair.second)) not in said]
    said.update((id(pair.first), id(pair.second)) for pair in strongest)
    return ExperimentPart(
        numbers=numbers,
        anchor=name,
        sentences=tuple(in_brief(pair, numbers) for pair in strongest),
        brief=tuple(in_brief(pair, numbers) for pair in new),
        table=table,
        charts=tuple(charts),
        heat_maps=tuple(heat_maps),
        comparisons=tables.comparisons(numbers) if numbers.pairs else None,
        recalls=tables.recall_differences(numbers) if numbers.pairs else None,
    )


def in_brief(pair: Pair, experiment: ExperimentNumbers) -> Sentence:
    """A pair in words: "midas against hard", "+1.9 WAR [0.7, 3.1]: real at 95 %", and the same for UAR."""
    words = []
    for name in HEADLINES:
        difference, corrected = pair.comparison.differences[name], pair.corrected[name]
        said = in_words(difference, name.upper(), corrected_p=corrected).replace("-", tables.MINUS)
        real = not difference.low <= 0 <= difference.high and corrected <= 1 - LEVEL
        words.append(Words(said, ("better" if difference.estimate > 0 else "worse") if real else ""))
    return Sentence(tables.versus(pair, experiment), tuple(words))


def _score_charts(name: str, arms: Sequence[ArmNumbers]) -> list[Chart]:
    shorts = tables.short_names(arms)
    said = "; ".join(
        f"{short}: WAR {percent(arm.intervals['war'].estimate)}, UAR {percent(arm.intervals['uar'].estimate)}"
        for short, arm in zip(shorts, arms, strict=True)
    )
    charts = [Chart(f"{name}-scores", "WAR and UAR with 95 % intervals", said, figures.intervals(arms, shorts))]
    parts = range(0, len(arms), PER_CHART)
    for number, start in enumerate(parts, 1):
        some, names = arms[start : start + PER_CHART], shorts[start : start + PER_CHART]
        caption = "Recall of each class" + (f" ({number} of {len(parts)})" if len(parts) > 1 else "")
        alt = "; ".join(
            f"{short}: " + ", ".join(f"{emotion} {percent(arm.intervals[emotion].estimate)}" for emotion in EMOTIONS)
            for short, arm in zip(names, some, strict=True)
        )
        charts.append(Chart(f"{name}-per-class-{number}", caption, alt, figures.per_class(some, names)))
    return charts


def _confusion(name: str, place: int, arm: ArmNumbers, short: str) -> HeatMap:
    clips = arm.confusion.sum(axis=1)
    caption = f"Confusion of {short}, % of the row"
    chart = Chart(f"{name}-confusion-{place}", caption, caption, figures.confusion(arm.confusion))
    rows = tuple(f"{emotion} ({count})" for emotion, count in zip(EMOTIONS, clips.tolist(), strict=True))
    return HeatMap(caption, "true ↓ predicted →", rows, figures.row_shares(arm.confusion), chart)


def _coexistence(name: str, dataset: DatasetNumbers) -> HeatMap | None:
    if dataset.coexistence is None:
        return None
    caption = f"{dataset.facts.name}: mean share of the votes, %, of the clips of each class"
    chart = Chart(f"{name}-coexistence", caption, caption, figures.coexistence(dataset.coexistence))
    shares = dataset.coexistence.to_numpy("float64")
    return HeatMap(caption, "label ↓ voted →", EMOTIONS, shares, chart)


def _class_distribution(name: str, dataset: DatasetNumbers) -> Chart:
    """Clips of each class of a data set."""
    alt = ", ".join(f"{emotion} {count}" for emotion, count in dataset.distribution.items())
    caption = f"{dataset.facts.name}: clips by their single label"
    return Chart(f"{name}-class-distribution", caption, alt, figures.class_distribution(dataset))


def _reliability(arm: ArmNumbers, place: int) -> Chart:
    name = tables.full_name(arm)
    caption = f"{name}, {tables.where(arm.result)}: ECE {arm.calibration['ece']:.3f}"
    return Chart(
        f"reliability-{place:02d}-{file_name(name)}", caption, f"Reliability of {caption}", figures.reliability(arm)
    )


def _ambiguity_charts(report: ReportNumbers, arms: Sequence[ArmNumbers]) -> Iterator[Chart]:
    """Two charts a table: of its arms that are among `arms`, unless a table before it has shown all of them."""
    shown: list[set[int]] = []
    for experiment in report.experiments:
        given = [arm for arm in experiment.arms if any(arm is other for other in arms)]
        if not given or any({id(arm) for arm in given} <= before for before in shown):
            continue
        shown.append({id(arm) for arm in given})
        title, shorts = experiment.result.title, tables.short_names(given)
        for number, start in enumerate(range(0, len(given), PER_CHART), 1):
            some, names = given[start : start + PER_CHART], shorts[start : start + PER_CHART]
            part = f"{file_name(experiment.result.name)}-{number}"
            alt = "AURC: " + ", ".join(f"{name} {arm.aurc:.3f}" for name, arm in zip(names, some, strict=True))
            figure = figures.risk_coverage(some, names)
            yield Chart(f"risk-coverage-{part}", f"{title}: risk by coverage (AURC)", alt, figure)
            voted = [(arm, name) for arm, name in zip(some, names, strict=True) if arm.voters]
            if voted:
                figure = figures.by_ambiguity(*zip(*voted, strict=True))
                caption = f"{title}: WAR by the voters' disagreement"
                yield Chart(f"ambiguity-{part}", caption, f"{caption}; the numbers are in the table", figure)


def _learning(arm: ArmNumbers, place: int) -> Chart:
    result = arm.result
    flag = tables.CHOSEN_ON_TEST if arm.chosen_on_test else ""
    caption = f"{result.name}{flag} on {result.trained_on}, {len(result.runs)} run{'s' if len(result.runs) > 1 else ''}"
    last = [run.history[-1]["loss"] for run in result.runs if run.history]
    alt = f"{caption}; last losses: {', '.join(f'{loss:.2f}' for loss in last)}"
    return Chart(f"learning-{place:02d}-{file_name(result.name)}", caption, alt, figures.learning_curves(arm))

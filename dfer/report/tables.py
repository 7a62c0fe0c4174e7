"""The report's tables: each is a list of columns, and a column is a heading and what it shows of an arm or a pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from dfer import metrics
from dfer.config.catalogue import NETWORKS
from dfer.config.published import PublishedRow
from dfer.labels import EMOTIONS
from dfer.report import in_words, table
from dfer.report.names import (
    file_name,
    flag,
    flag_note,
    full_name,
    missing_note,
    other_frames,
    protocol_notes,
    short_names,
    variant,
    versus,
    where,
)
from dfer.report.numbers import HEADLINES, ArmNumbers, ExperimentNumbers, Pair, ReportNumbers
from dfer.report.results import SYNTHETIC
from dfer.report.table import DASH, EMPTY, NO_CLIPS, Cell, Column, Link, Table, difference, p_value, percent

SYNTHETIC_PUBLISHED = "The published rows are about real clips and must never be compared with the synthetic ones."


def scores(experiment: ExperimentNumbers) -> Table:
    """The experiment's rows and the published ones under the same headings: WAR and UAR, recalls where they are shown.

    A number is the mean over folds and seeds, with the 95 % interval of the bootstrap over clips.
    """
    arms, published = experiment.arms, experiment.result.published
    beside = {} if published is None or experiment.synthetic else {row.row: row for row in published.rows}

    def score(metric: str) -> Column[ArmNumbers]:
        def ours(arm: ArmNumbers) -> Cell:
            cell, theirs = _score(arm, metric), beside.get(arm.result.name)
            if theirs is None or metric not in theirs.values:
                return cell
            return replace(cell, small=(*cell.small, f"published {theirs.values[metric]:.2f}{flag(theirs)}"))

        def theirs(row: PublishedRow) -> Cell:
            value = row.values.get(metric)
            return DASH if value is None else Cell(f"{value:.2f}", value=value / 100)

        return Column(metric.upper() if metric in HEADLINES else metric, ours, theirs, mark_best=True)

    columns = [
        Column("method", _network, lambda row: Cell(row.method + flag(row), small=(row.citation,)), text=True),
        Column(
            "labels",
            lambda arm: Cell(arm.result.arm + variant(arm) + other_frames(arm)),
            lambda row: Cell(row.label),
            text=True,
        ),
        *map(score, _classes(experiment) if experiment.result.show == "per-class" else ()),
        score("uar"),
        score("war"),
    ]
    notes: list[str] = []
    if arms:
        columns += _all_listed(arms)
        columns += _of_network() if experiment.result.show == "networks" else []
        columns += [Column("clips scored", _clips_scored), Column("runs", lambda arm: Cell("", links=_runs(arm)))]
        notes = [
            "In percent: mean over folds and seeds; 95 % intervals, of a bootstrap over clips for UAR and WAR, "
            "Wilson's for the classes; ± is a standard deviation.",
            *([_ALL_LISTED_NOTE] if _all_listed(arms) else []),
            *protocol_notes(arms),
            *(_NETWORK_NOTES if experiment.result.show == "networks" else _not_converged(arms)),
            *_reconstructions(arms),
        ]
    warnings = _synthetic(experiment.synthetic and bool(arms))
    if published:
        if not flag_note(arms) and (note := flag_note(published.rows)):
            notes.append(note)
        warnings += _synthetic(experiment.synthetic, SYNTHETIC_PUBLISHED)
        remarks = [published.note, *(f"{row.method}, {row.label}: {row.note}" for row in published.rows if row.note)]
        notes += [f"Published: {remark}" for remark in remarks if remark]
    result = experiment.result
    words = in_words.sentence(experiment)
    notes += filter(None, [missing_note(result.rows), in_words.NOTE if words else "", in_words.needed(experiment)])
    return table.build(
        file_name(result.name),
        result.title,
        columns,
        arms,
        published=published,
        warnings=warnings,
        in_words=words,
        notes=notes,
        page=lambda arm: arm.url,
    )


def temporal(experiment: ExperimentNumbers) -> Table:
    """Every order of frames at test time, with its difference to frames in order."""
    pairs = {id(pair.second): pair for pair in experiment.pairs}

    def change(metric: str) -> Callable[[ArmNumbers], Cell]:
        return lambda arm: _difference(metric)(pairs[id(arm)]) if id(arm) in pairs else EMPTY

    return table.build(
        file_name(experiment.result.name),
        experiment.result.title,
        [
            Column("method", lambda arm: Cell(arm.result.name + flag(arm), small=(where(arm.result),)), text=True),
            Column("frames", lambda arm: Cell(arm.result.frames), text=True),
            Column("WAR", lambda arm: _score(arm, "war")),
            Column("WAR: difference", change("war")),
            Column("UAR", lambda arm: _score(arm, "uar")),
            Column("UAR: difference", change("uar")),
        ],
        experiment.arms,
        warnings=_synthetic(experiment.synthetic),
        notes=(
            "Frames of the test clips in order, shuffled, reversed, or the peak frame repeated. A score that does not "
            "fall needs no time. In percent with 95 % intervals; differences are to frames in order.",
            *protocol_notes(experiment.arms),
            *filter(None, [missing_note(experiment.result.rows)]),
        ),
        page=lambda arm: arm.url,
    )


def confusions(experiment: ExperimentNumbers) -> Table:
    """What the clips of each class were most often taken for: what the experiment's matrices show first."""

    def taken_for(place: int) -> Callable[[ArmNumbers], Cell]:
        def cell(arm: ArmNumbers) -> Cell:
            row = arm.confusion[place]
            if not row.sum():
                return NO_CLIPS
            wrong = np.where(np.arange(len(row)) == place, 0, row)
            if not wrong.any():
                return Cell("–", small=("all right",))
            names = [name for name, clips in zip(arm.classes, wrong, strict=True) if clips == wrong.max()]
            return Cell(
                ", ".join(names), small=(f"{percent(wrong.max() / row.sum())} %", *(["each"] * (len(names) > 1)))
            )

        return cell

    return table.build(
        file_name(experiment.result.name),
        experiment.result.title,
        [
            Column("method", _network, text=True),
            Column("labels", lambda arm: Cell(arm.result.arm + other_frames(arm)), text=True),
            *(Column(name, taken_for(place)) for place, name in enumerate(_classes(experiment))),
        ],
        experiment.arms,
        warnings=_synthetic(experiment.synthetic),
        notes=(
            "What the clips of each class were most often mistaken for, in percent of the class's clips over all runs. "
            "Scores and differences of these arms are in the tables above.",
            *protocol_notes(experiment.arms),
        ),
        page=lambda arm: arm.url,
    )


def comparisons(experiment: ExperimentNumbers) -> Table:
    """All pairs of the experiment's arms, the strongest difference first."""

    def p_of(metric: str) -> Callable[[Pair], Cell]:
        return lambda pair: Cell(
            p_value(pair.corrected[metric], at_most=pair.comparison.at_floor(metric)), value=pair.corrected[metric]
        )

    def mcnemar(pair: Pair) -> Cell:
        test = pair.comparison.mcnemar
        return Cell(p_value(test.p_value), small=(f"{test.only_b} : {test.only_a}",), value=test.p_value)

    return table.build(
        f"{file_name(experiment.result.name)}-comparisons",
        f"{experiment.result.title}: differences",
        [
            Column("arms", lambda pair: Cell(versus(pair, experiment)), text=True),
            Column("WAR", _difference("war")),
            Column("UAR", _difference("uar")),
            Column("p of WAR", p_of("war")),
            Column("p of UAR", p_of("uar")),
            Column("McNemar's p", mcnemar),
            Column("clips", lambda pair: table.count(pair.comparison.clips)),
        ],
        experiment.pairs,
        warnings=_synthetic(experiment.synthetic),
        notes=(
            "Percentage points with 95 % intervals, paired bootstrap over clips. p of WAR and UAR: of the same "
            f"bootstrap, after Holm's correction over all {2 * len(experiment.pairs)} of this table. McNemar's p is "
            "not corrected; below it: clips that only the first arm of the two got right, and only the second.",
            *protocol_notes(experiment.arms),
        ),
        page=lambda pair: pair.second.url,
    )


def recall_differences(experiment: ExperimentNumbers) -> Table:
    """The same pairs, class by class."""
    return table.build(
        f"{file_name(experiment.result.name)}-recall-differences",
        f"{experiment.result.title}: differences of the recall of each class",
        [
            Column("arms", lambda pair: Cell(versus(pair, experiment)), text=True),
            *(Column(name, _difference(name)) for name in _classes(experiment)),
        ],
        experiment.pairs,
        warnings=_synthetic(experiment.synthetic),
        notes=(
            "Percentage points with 95 % intervals of the paired bootstrap over clips, not corrected for being many. "
            "An interval of no width means that no resample differs: both arms are all right or all wrong.",
            *protocol_notes(experiment.arms),
        ),
        folded_under="Differences by class",
        page=lambda pair: pair.second.url,
    )


def calibration(numbers: ReportNumbers) -> Table:
    """How far the probabilities of all arms can be trusted, and how far they are from the voters."""
    title = "Calibration and agreement with the voters"
    return _of_probabilities("calibration", title, numbers.main_arms, synthetic=numbers.synthetic)


def probabilities(experiment: ExperimentNumbers) -> Table:
    """The same of an experiment's arms."""
    result = experiment.result
    return _of_probabilities(
        file_name(result.name), result.title, experiment.arms, synthetic=experiment.synthetic and bool(experiment.arms)
    )


def _of_probabilities(name: str, title: str, arms: Sequence[ArmNumbers], *, synthetic: bool) -> Table:
    def of_model(heading: str, name: str) -> Column[ArmNumbers]:
        return _number(heading, lambda arm: arm.calibration[name])

    def of_voters(heading: str, name: str) -> Column[ArmNumbers]:
        return _number(heading, lambda arm: arm.voters.against[name] if arm.voters else None)

    return table.build(
        name,
        title,
        [
            Column("arm", lambda arm: _arm(arm, ", raw softmax" if arm.is_raw else ""), text=True),
            of_model("ECE", "ece"),
            of_model("Brier", "brier"),
            of_model("NLL", "nll"),
            _number("AURC", lambda arm: arm.aurc),
            of_voters("JS to voters", "model_js"),
            of_voters("JS among voters", "human_js"),
            of_voters("voters disagree more", "human_exceeds_model"),
            of_voters("accuracy, model", "model_accuracy"),
            of_voters("accuracy, one voter", "human_accuracy"),
            _number("entropy, rank corr.", lambda arm: arm.voters.entropy_correlation[0] if arm.voters else None),
        ],
        [row for arm in arms for row in (arm, arm.raw) if row is not None],
        warnings=_synthetic(synthetic),
        notes=(
            "ECE (15 bins), Brier, NLL (nats), AURC (area under the risk-coverage curve): lower is better. JS: "
            "Jensen-Shannon divergence in nats. JS among voters: between two random halves of a clip's votes, which "
            "are fewer votes and so differ a little more than two full panels would. Voters disagree more: share of "
            "clips where that exceeds the model's divergence. One voter: how often one annotator agrees with the "
            "majority of the others; model: the same for its prediction. Rank correlation (Spearman) of the model's "
            "entropy with the voters'.",
            *_read_out_notes(arms),
            *protocol_notes(arms),
        ),
        page=lambda arm: arm.url,
    )


def _read_out_notes(arms: Sequence[ArmNumbers]) -> tuple[str, ...]:
    if not any(arm.raw for arm in arms):
        return ()
    return (
        "Arms whose targets are normalised by softmax, as MIDAS's are, learn nearly flat probabilities. They are read "
        "out by its inverse, which estimates the voters' distribution; the raw softmax of their logits is in a row of "
        "its own. WAR and UAR are the same.",
    )


def by_ambiguity(dataset: str, arms: Sequence[ArmNumbers], *, synthetic: bool) -> Table:
    """WAR of every arm by how much the voters of a clip disagree; the arms are tested on `dataset`, some with votes."""
    bins: dict[int, list[Any]] = {id(arm): list(arm.voters.bins.itertuples()) for arm in arms if arm.voters}
    widest = max(bins.values(), key=len)

    def war(place: int) -> Callable[[ArmNumbers], Cell]:
        def cell(arm: ArmNumbers) -> Cell:
            if place >= len(bins[id(arm)]):
                return DASH
            scores = bins[id(arm)][place]
            return Cell(percent(scores.war), small=(f"UAR {percent(scores.uar)}",), value=scores.war)

        return cell

    def heading(low: float, high: float, clips: int) -> str:
        return f"{' to '.join(dict.fromkeys((f'{low:.2f}', f'{high:.2f}')))} ({clips} clips)"

    return table.build(
        f"ambiguity-{file_name(dataset)}",
        f"WAR by the voters' disagreement, {dataset}",
        [
            Column("arm", _arm, text=True),
            *(
                Column(heading(scores.low, scores.high, scores.clips), war(place))
                for place, scores in enumerate(widest)
            ),
        ],
        [arm for arm in arms if arm.voters],
        warnings=_synthetic(synthetic),
        notes=("Columns: entropy of a clip's votes in nats, 0 = all agree. In percent.", *protocol_notes(arms)),
        page=lambda arm: arm.url,
    )


def trainings(numbers: ReportNumbers) -> Table:
    """How many clips every arm was trained on, and how many were left out for which reason."""

    def arm_on_set(arm: ArmNumbers) -> Cell:
        return Cell(arm.result.name + flag(arm), small=(f"on {arm.result.trained_on}",))

    def left_out(arm: ArmNumbers) -> Cell:
        counts: dict[str, list[int]] = {}
        for run in arm.result.runs:
            for reason, number in run.training.get("left_out", {}).items():
                counts.setdefault(reason, []).append(number)
        reasons = [f"{reason}: {_from_to(numbers)}" for reason, numbers in counts.items() if any(numbers)]
        return Cell(", ".join(reasons) or "nothing")

    def clips(arm: ArmNumbers) -> Cell:
        counts = [run.training["clips"]["training"] for run in arm.result.runs if "clips" in run.training]
        return Cell(_from_to(counts)) if counts else DASH

    return table.build(
        "trainings",
        "Clips of the trainings",
        [
            Column("arm", arm_on_set, text=True),
            Column("left out", left_out, text=True),
            Column("runs", lambda arm: table.count(len(arm.result.runs))),
            Column("clips", clips),
            Column("learnt %", _learnt),
        ],
        numbers.trained_arms,
        warnings=_synthetic(numbers.synthetic),
        notes=filter(
            None,
            (
                "Numbers of clips; a range where the runs differ. Learnt: the share of an arm's own training clips "
                "that it recognises, unmixed and as an evaluation sees them. An arm far below the others needs a "
                "longer training before it is compared.",
                flag_note(numbers.trained_arms),
            ),
        ),
        page=lambda arm: arm.url,
    )


def seldom_seen(numbers: ReportNumbers, clips: Collection[str]) -> Table:
    """The scores with and without `clips`, whose face is seen in less than half of their frames."""

    def score(kept: bool) -> Callable[[ArmNumbers], Cell]:
        def cell(arm: ArmNumbers) -> Cell:
            labelled = arm.result.predictions.dropna(subset="label")
            chosen = labelled if kept else labelled[~labelled["clip_id"].isin(clips)]
            if not len(chosen):
                return DASH
            label, prediction = chosen["label"].to_numpy("int64"), chosen["prediction"].to_numpy("int64")
            return Cell(
                percent(metrics.war(label, prediction)),
                small=(f"UAR {percent(metrics.uar(label, prediction, len(arm.classes)))}",),
            )

        return cell

    def number(arm: ArmNumbers) -> Cell:
        ids = arm.result.predictions["clip_id"]
        return table.count(ids[ids.isin(clips)].nunique())

    return table.build(
        "seldom-seen",
        "WAR with and without clips whose face is seldom seen",
        [
            Column("arm", _arm, text=True),
            Column("such clips", number),
            Column("with them", score(True)),
            Column("without them", score(False)),
        ],
        [arm for arm in numbers.main_arms if arm.result.predictions["clip_id"].isin(clips).any()],
        warnings=_synthetic(numbers.synthetic),
        notes=(
            "Clips of which less than half of the searched frames have the person's face. In percent, of all runs' "
            "predictions taken together.",
        ),
        page=lambda arm: arm.url,
    )


def _classes(experiment: ExperimentNumbers) -> tuple[str, ...]:
    """The classes of the arms; without any, those of the published rows."""
    return experiment.arms[0].classes if experiment.arms else EMOTIONS


def _synthetic(synthetic: bool, warning: str = SYNTHETIC) -> tuple[str, ...]:
    return (warning,) if synthetic else ()


CONVERGED = 0.95
"""The share of its own training clips that an arm has to recognise before it is compared."""

_NETWORK_NOTES = (
    "GFLOPs: of one clip's forward pass as it was trained here, convolutions and matrix products, a multiplication "
    "with its addition counted as two. Memory: the most that a training's process held, of its GPU or "
    "(libraries included) of RAM. Seconds an epoch: the median over all epochs, on this machine.",
    f"Not converged: an arm that has learnt less than {100 * CONVERGED:.0f} % of its own training clips needs a "
    "longer training before it is compared.",
)


_ALL_LISTED_NOTE = (
    "All listed: of all clips that the protocol lists, those in which no face was found counted as wrong; the other "
    "scores leave them out."
)


def _not_converged(arms: Sequence[ArmNumbers]) -> list[str]:
    """Which arms have learnt too little to be compared."""
    shares = zip(short_names(arms), map(learnt, arms), strict=True)
    few = [f"{name} ({percent(share)} %)" for name, share in shares if share is not None and share < CONVERGED]
    return (
        [f"Not converged, by the share of its own training clips that it has learnt: {', '.join(few)}."] if few else []
    )


def _all_listed(arms: Sequence[ArmNumbers]) -> list[Column[ArmNumbers]]:
    """The scores over all clips that the protocol lists, where some of them have no prediction."""
    known = not any(math.isnan(arm.all_listed[metric]) for arm in arms for metric in HEADLINES)
    if not known or all(arm.scored == arm.listed for arm in arms):
        return []

    def score(metric: str) -> Column[ArmNumbers]:
        return Column(
            f"{metric.upper()}, all listed",
            lambda arm: Cell(percent(arm.all_listed[metric]), value=arm.all_listed[metric]),
            mark_best=True,
        )

    return [score("uar"), score("war")]


def _of_network() -> list[Column[ArmNumbers]]:
    """What a network costs, as its trainings measured it."""

    def of_runs(key: str, shown: Callable[[float], str]) -> Callable[[ArmNumbers], Cell]:
        def cell(arm: ArmNumbers) -> Cell:
            values = [run.training["network"][key] for run in arm.result.runs if "network" in run.training]
            return Cell(shown(max(values)), value=max(values)) if values else DASH

        return cell

    def seconds(arm: ArmNumbers) -> Cell:
        epochs = [row["seconds"] for run in arm.result.runs for row in run.history if "seconds" in row]
        return Cell(f"{median(epochs):.3g}", value=median(epochs)) if epochs else DASH

    return [
        Column("parameters, M", of_runs("parameters", lambda count: f"{count / 1e6:.3g}")),
        Column("GFLOPs", of_runs("gflops", lambda gflops: f"{gflops:.3g}")),
        Column("s an epoch", seconds),
        Column("memory, GiB", of_runs("peak_gib", lambda gib: f"{gib:.2g}")),
        Column("learnt %", _learnt_enough),
    ]


def learnt(arm: ArmNumbers) -> float | None:
    """The share of its own training clips that an arm recognises, the mean over its runs; None if it is not known."""
    shares = [run.history[-1].get("training_war") for run in arm.result.runs if run.history]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None


def _learnt(arm: ArmNumbers) -> Cell:
    share = learnt(arm)
    return DASH if share is None else Cell(f"{100 * share:.1f}", value=share)


def _learnt_enough(arm: ArmNumbers) -> Cell:
    """The same, marked where it is too little to compare the arm."""
    cell = _learnt(arm)
    return replace(cell, small=("not converged",)) if cell.value is not None and cell.value < CONVERGED else cell


def _reconstructions(arms: Sequence[ArmNumbers]) -> list[str]:
    """What is known and what was chosen of networks that could not be built as published."""
    names = dict.fromkeys(arm.result.model for arm in arms)
    return [
        f"{name}: {NETWORKS[name].reconstructed}" for name in names if name in NETWORKS if NETWORKS[name].reconstructed
    ]


def _arm(arm: ArmNumbers, what: str = "") -> Cell:
    return Cell(full_name(arm) + what, small=(where(arm.result),), url=arm.url)


def _network(arm: ArmNumbers) -> Cell:
    return Cell(arm.result.model + flag(arm), small=(where(arm.result),))


def _clips_scored(arm: ArmNumbers) -> Cell:
    return Cell(f"{arm.scored} of {arm.listed}", small=(f"{percent(arm.scored / arm.listed)} %",))


def _number(heading: str, value: Callable[[ArmNumbers], float | None]) -> Column[ArmNumbers]:
    return Column(heading, lambda arm: table.number(value(arm)))


def _difference(metric: str) -> Callable[[Pair], Cell]:
    return lambda pair: difference(pair.comparison.differences[metric])


def _score(arm: ArmNumbers, metric: str) -> Cell:
    interval = arm.intervals[metric]
    if math.isnan(interval.estimate):
        return NO_CLIPS
    if metric in HEADLINES:
        small = [f"[{percent(interval.low)}, {percent(interval.high)}]", *_spread(arm, metric)]
    else:  # of a tenth of the clips and as much wider: no decimals, so that seven of them fit beside each other
        small = [f"[{100 * interval.low:.0f}, {100 * interval.high:.0f}]"]
    return Cell(
        percent(interval.estimate),
        small=tuple(small),
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
    )


def _spread(arm: ArmNumbers, metric: str) -> list[str]:
    """'± 1.2 over 5 folds' and '± 0.4 over 3 seeds', as far as there is more than one."""
    spread = arm.spread.loc[metric]
    several = [of for of in ("folds", "seeds") if spread[of] > 1]
    return [f"± {percent(spread[f'sd_{of}'])} over {int(spread[of])} {of}" for of in several]


def _runs(arm: ArmNumbers) -> tuple[Link, ...]:
    """Every run by its fold and seed; a link without a URL is shown as words."""
    result = arm.result
    seeds = {run.seed for run in result.runs}
    links = []
    for run in result.runs:
        words = [f"fold {run.fold}"] if run.fold is not None else []
        if len(seeds) > 1 or not words:
            words.append(f"seed {run.seed}")
        best = run.training.get("best_on_test_fold")
        if arm.chosen_on_test and best:
            words.append(f"epoch {best['epoch']}")
        links.append(Link(", ".join(words), run.url))
    return tuple(links)


def _from_to(counts: Sequence[int]) -> str:
    return " to ".join(dict.fromkeys((f"{min(counts):,}", f"{max(counts):,}")))

"""Every number of the report, from what was predicted; nothing is rendered here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.analysis import ambiguity, arm_table, calibration, disagreement, statistics, votes
from dfer.analysis.disagreement import Disagreement
from dfer.analysis.statistics import Comparison, Interval
from dfer.analysis.variance import Metric
from dfer.labels import classes_of, soft_labels
from dfer.report.content import ArmResult, DatasetFacts, ExperimentResult, FoldRun, ReportContent

HEADLINES: tuple[Metric, ...] = ("war", "uar")
HARDEST = 6
EXAMPLES = 3
Compared = dict[tuple[int, int], Comparison]


@dataclass(frozen=True)
class VoterNumbers:
    """An arm against its voters, of the clips that have votes (see `dfer.analysis.ambiguity`)."""

    against: Mapping[str, float]
    bins: pd.DataFrame
    entropy_correlation: tuple[float, float]


@dataclass(frozen=True)
class ArmNumbers:
    """One arm, computed once however many experiments show it."""

    result: ArmResult
    intervals: Mapping[str, Interval]  # "war", "uar" and each class's recall (nan without clips), shares in [0, 1]
    spread: pd.DataFrame  # over folds and seeds, see `dfer.analysis.statistics.spread`
    confusion: npt.NDArray[np.int64]  # int64[K, K], rows = true class, summed over all runs
    scored: int  # scored, listed: distinct clips with a label and a prediction, and those that the protocol lists
    listed: int
    # "war", "uar": mean over folds and seeds where a listed clip without a face counts as wrong; nan if not known
    all_listed: Mapping[str, float]
    calibration: Mapping[str, float | int | None]  # see `dfer.analysis.calibration.summary`
    reliability: pd.DataFrame  # see `dfer.analysis.calibration.reliability`
    risk_coverage: pd.DataFrame  # risk_coverage, aurc: see `dfer.analysis.ambiguity`
    aurc: float
    voters: VoterNumbers | None  # None for clips without votes
    # the same by the softmax of the logits: calibration, aurc and voters; None if that is how they are read out
    raw: ArmNumbers | None = None
    is_raw: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that its clips were told apart in."""
        return classes_of(self.result.predictions)

    @property
    def url(self) -> str:
        """Where the arm's runs are side by side, or its only run; empty if there is none."""
        return self.result.url or (self.result.runs[0].url if len(self.result.runs) == 1 else "")

    @property
    def chosen_on_test(self) -> bool:
        return self.result.protocol == "paper"

    @property
    def is_audit(self) -> bool:
        """With frames in another order or an epoch chosen on the test fold: no other way to use the same model."""
        return self.chosen_on_test or not self.result.in_order


@dataclass(frozen=True)
class Pair:
    """Two arms of an experiment: `second` - `first`."""

    first: ArmNumbers
    second: ArmNumbers
    comparison: Comparison
    # p-values of "war" and "uar" after Holm's correction over all of the experiment's (pairs, both metrics)
    corrected: Mapping[str, float]

    @property
    def strength(self) -> tuple[float, float]:
        """Sorts the strongest first: the smallest corrected p-value, then the largest difference."""
        differences = [abs(self.comparison.differences[name].estimate) for name in HEADLINES]
        return min(self.corrected.values()), -max(differences)


@dataclass(frozen=True)
class ExperimentNumbers:
    """A table or figure with its numbers; `pairs` are sorted with the strongest first."""

    result: ExperimentResult
    arms: tuple[ArmNumbers, ...]
    pairs: tuple[Pair, ...]
    synthetic: bool
    # of each arm, where the experiment shows it; None for an arm that was tested on clips without several votes
    disagreement: tuple[Disagreement | None, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Clips of which nothing was aligned, for one reason; `examples` are (clip id, detail)."""

    reason: str
    clips: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DatasetNumbers:
    """Counts of a data set; `coexistence` is None where no clip has both votes and a single label."""

    facts: DatasetFacts
    clips: int
    labelled: int
    voted: int
    aligned: int | None
    distribution: Mapping[str, int]
    coexistence: pd.DataFrame | None
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class HardClip:
    """A clip that is hard for an arm."""

    clip_id: str
    label: int
    nll: float  # negative log-likelihood of the label in nats, the mean over the arm's runs that predicted the clip
    probabilities: npt.NDArray[np.float64]  # float64[K], their mean
    voters: npt.NDArray[np.float64] | None  # float64[K], shares of the votes; None without votes
    shard: str  # shard, row: where its frames are; see `dfer.faces.index`
    row: int


@dataclass(frozen=True)
class HardClips:
    arm: ArmNumbers
    clips: tuple[HardClip, ...]


@dataclass(frozen=True)
class ReportNumbers:
    """All numbers; `arms` are the distinct ones in the order of their first appearance."""

    experiments: tuple[ExperimentNumbers, ...]
    arms: tuple[ArmNumbers, ...]
    datasets: tuple[DatasetNumbers, ...]
    hardest: tuple[HardClips, ...]

    @property
    def main_arms(self) -> tuple[ArmNumbers, ...]:
        """Those that are no audits."""
        return tuple(arm for arm in self.arms if not arm.is_audit)

    @property
    def trained_arms(self) -> tuple[ArmNumbers, ...]:
        """Every training once: models that were tested on several sets are shown where they have the most runs."""
        by_runs = sorted(self.arms, key=lambda arm: len(arm.result.runs))
        most = {_training_of(arm.result): id(arm) for arm in by_runs}
        return tuple(arm for arm in self.arms if id(arm) in most.values())

    @property
    def synthetic_sets(self) -> set[str]:
        return {dataset.facts.name for dataset in self.datasets if dataset.facts.synthetic}

    @property
    def synthetic(self) -> bool:
        return bool(self.synthetic_sets)


def compute(content: ReportContent) -> ReportNumbers:
    """All numbers of a report; ValueError if two rows of an experiment disagree about a clip's label."""
    arms: dict[tuple[object, ...], ArmNumbers] = {}
    compared: Compared = {}
    experiments = []
    synthetic = {facts.name for facts in content.datasets if facts.synthetic}
    for experiment in content.experiments:
        for row in experiment.rows:
            if row.runs and _identity(row) not in arms:
                arms[_identity(row)] = _arm_numbers(row)
        shown = tuple(arms[_identity(row)] for row in experiment.rows if row.runs)
        sets = {experiment.dataset}.union(*({row.trained_on, row.evaluated_on} for row in experiment.rows))
        pairs = _pairs(experiment, shown, compared)
        of_voters: tuple[Disagreement | None, ...] = ()
        if experiment.show == "disagreement":
            of_voters = tuple(disagreement.measure(arm.result.predictions) for arm in shown)
        experiments.append(ExperimentNumbers(experiment, shown, pairs, bool(sets & synthetic), of_voters))
    return ReportNumbers(
        tuple(experiments),
        tuple(arms.values()),
        tuple(_dataset_numbers(facts) for facts in content.datasets),
        _hardest(experiments, content.datasets),
    )


def _identity(result: ArmResult) -> tuple[object, ...]:
    """The same for the same arm in another experiment; the scores tell apart arms of one name over other clips."""
    runs = tuple((run.fold, run.seed, run.url, run.metrics["nll"], run.metrics["num_listed"]) for run in result.runs)
    tested = (result.evaluated_on, result.part, result.protocol, result.frames)
    return (*_training_of(result), *tested, runs)


def _training_of(result: ArmResult) -> tuple[object, ...]:
    """The same for rows with the same trainings, whatever they are tested on."""
    return (result.name, result.trained_on, result.split, result.epochs, result.protocol)


def _arm_numbers(result: ArmResult) -> ArmNumbers:
    table = result.predictions
    draws = statistics.bootstrap(table)
    scored = table[table["label"].notna()]
    numbers = ArmNumbers(
        result=result,
        intervals={**{name: draws.interval(name) for name in HEADLINES}, **statistics.recall_intervals(table)},
        spread=statistics.spread(_per_run(result.runs)),
        confusion=np.sum([np.asarray(run.metrics["confusion_matrix"]) for run in result.runs], axis=0),
        scored=scored["clip_id"].nunique(),
        all_listed=_all_listed(result.runs),
        listed=_listed(result.runs, repeated=bool(table.duplicated(["clip_id", "seed"]).any())),
        calibration=calibration.summary(table),
        reliability=calibration.reliability(table),
        risk_coverage=ambiguity.risk_coverage(scored),
        aurc=ambiguity.aurc(scored),
        voters=_voter_numbers(scored),
    )
    raw = arm_table.by_softmax(table)
    return numbers if raw is None else replace(numbers, raw=_by_softmax(numbers, raw))


def _by_softmax(numbers: ArmNumbers, raw: pd.DataFrame) -> ArmNumbers:
    """What depends on probabilities, of the same arm's table with those of the softmax."""
    scored = raw[raw["label"].notna()]
    return replace(
        numbers,
        calibration=calibration.summary(raw),
        reliability=calibration.reliability(raw),
        risk_coverage=ambiguity.risk_coverage(scored),
        aurc=ambiguity.aurc(scored),
        voters=_voter_numbers(scored),
        is_raw=True,
    )


def _voter_numbers(scored: pd.DataFrame) -> VoterNumbers | None:
    # one vote says nothing about disagreement
    voted = scored[[votes is not None and sum(votes) > 1 for votes in scored["votes"]]]
    if voted.empty:
        return None
    return VoterNumbers(
        ambiguity.against_voters(voted), ambiguity.by_ambiguity(voted), ambiguity.entropy_correlation(voted)
    )


def _per_run(runs: Sequence[FoldRun]) -> pd.DataFrame:
    rows = [(run.fold, run.seed, run.metrics["war"], run.metrics["uar"]) for run in runs]
    return pd.DataFrame(rows, columns=["fold", "seed", *HEADLINES]).astype({"fold": "Int64"})


def _all_listed(runs: Sequence[FoldRun]) -> dict[str, float]:
    scores = [{name: run.metrics.get(f"{name}_all_listed", np.nan) for name in HEADLINES} for run in runs]
    per_run = pd.DataFrame(scores).assign(fold=[run.fold for run in runs], seed=[run.seed for run in runs])
    return statistics.spread(per_run)["mean"].to_dict()


def _listed(runs: Sequence[FoldRun], *, repeated: bool) -> int:
    """Clips that the protocol lists: of all folds together, or, where every fold's model saw the same clips, of one."""
    counts = {run.fold: run.metrics["num_listed"] for run in runs}  # whatever the seed
    return max(counts.values()) if repeated else sum(counts.values())


def _pairs(experiment: ExperimentResult, arms: Sequence[ArmNumbers], compared: Compared) -> tuple[Pair, ...]:
    """All pairs over the same clips; in a temporal audit only each order of frames against the right one, and of many
    networks, splits or lengths of training only the arms of each: a correction for a thousand pairs would leave nothing
    that could be seen.

    `compared` keeps what other experiments have compared already.
    """
    chosen = []
    for one, other in combinations(arms, 2):
        first, second = (other, one) if other.result.in_order and not one.result.in_order else (one, other)
        if experiment.show == "networks" and first.result.model != second.result.model:
            continue
        if (first.result.split, first.result.epochs) != (second.result.split, second.result.epochs):
            continue
        if not _share_clips(first, second) or (experiment.show == "temporal" and not _audits(first, second)):
            continue
        key = (id(first), id(second))
        if key not in compared:
            compared[key] = statistics.compare(first.result.predictions, second.result.predictions)
        chosen.append((first, second, compared[key]))
    corrected = statistics.holm([comparison.p_values[name] for *_, comparison in chosen for name in HEADLINES])
    by_pair = zip(chosen, corrected[0::2], corrected[1::2], strict=True)
    pairs = [Pair(*pair, {"war": war, "uar": uar}) for pair, war, uar in by_pair]
    return tuple(sorted(pairs, key=lambda pair: pair.strength))


def _share_clips(first: ArmNumbers, second: ArmNumbers) -> bool:
    """Whether both predicted some clip of the same fold of the same data set."""
    if first.result.evaluated_on != second.result.evaluated_on:
        return False
    clips = [
        {(run.fold, clip_id) for run in arm.result.runs for clip_id in run.predictions["clip_id"]}
        for arm in (first, second)
    ]
    return not clips[0].isdisjoint(clips[1])


def _audits(first: ArmNumbers, second: ArmNumbers) -> bool:
    """Whether the second is the first one's model with its frames in another order."""
    models = [(arm.result.name, arm.result.trained_on, arm.result.protocol) for arm in (first, second)]
    return models[0] == models[1] and first.result.in_order and not second.result.in_order


def _dataset_numbers(facts: DatasetFacts) -> DatasetNumbers:
    clips = facts.clips
    voted = clips["votes"].notna()
    failed = pd.DataFrame() if facts.index is None else facts.index[facts.index["status"] != "ok"]
    both = clips[voted & clips["label"].notna()]
    return DatasetNumbers(
        facts=facts,
        clips=len(clips),
        labelled=int(clips["label"].notna().sum()),
        voted=int(voted.sum()),
        aligned=None if facts.index is None else len(facts.index) - len(failed),
        distribution=votes.class_distribution(clips),
        coexistence=votes.coexistence(both) if len(both) else None,
        left_out=_left_out(failed),
    )


def _left_out(failed: pd.DataFrame) -> tuple[LeftOut, ...]:
    if failed.empty:
        return ()
    left_out = []
    for reason, clips in Counter(failed["reason"]).most_common():
        examples = failed.loc[failed["reason"] == reason, ["clip_id", "detail"]].head(EXAMPLES)
        left_out.append(LeftOut(reason, clips, tuple(examples.itertuples(index=False, name=None))))
    return tuple(left_out)


def _hardest(experiments: Sequence[ExperimentNumbers], datasets: Sequence[DatasetFacts]) -> tuple[HardClips, ...]:
    """Of each data set with frames, the clips with the highest NLL under its main arm."""
    chosen = []
    for facts in datasets:
        arm = _main_arm(facts.name, experiments)
        if arm is not None and facts.index is not None:
            chosen.append(HardClips(arm, _hard_clips(arm, facts.index)))
    return tuple(chosen)


def _main_arm(dataset: str, experiments: Sequence[ExperimentNumbers]) -> ArmNumbers | None:
    """The arm that most experiments show; of several, the one with the best UAR."""
    candidates = [
        arm
        for experiment in experiments
        for arm in experiment.arms
        if arm.result.evaluated_on == dataset and not arm.is_audit
    ]
    shown, arms = Counter(map(id, candidates)), {id(arm): arm for arm in candidates}
    best = max(shown, key=lambda key: (shown[key], arms[key].intervals["uar"].estimate), default=None)
    return None if best is None else arms[best]


def _hard_clips(arm: ArmNumbers, index: pd.DataFrame) -> tuple[HardClip, ...]:
    scored = arm.result.predictions
    scored = scored[scored["label"].notna()]
    labels = scored["label"].to_numpy("int64")
    probabilities = np.stack(scored["probabilities"].to_list())
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    by_clip = scored.assign(nll=-np.log(right)).groupby("clip_id")["nll"].mean()
    # ties in the order of the names, so that the page is the same for the same numbers
    worst = by_clip.sort_index().sort_values(ascending=False, kind="stable").head(HARDEST)
    places = index.set_index("clip_id")
    clips = []
    for clip_id, value in worst.items():
        rows = (scored["clip_id"] == clip_id).to_numpy()
        first = scored[rows].iloc[0]
        voters = None if first["votes"] is None else soft_labels([list(first["votes"])])[0]
        place = places.loc[clip_id]
        clips.append(
            HardClip(
                str(clip_id),
                int(first["label"]),
                float(value),
                probabilities[rows].mean(axis=0),
                voters,
                str(place["shard"]),
                int(place["row"]),
            )
        )
    return tuple(clips)

"""What has to be trained and evaluated for a table or a figure.

Trainings are equal if their settings are, whichever experiment needs them: two tables with the same arm share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from dfer.config.settings import (
    AlignmentSettings,
    ArmSettings,
    DetectionSettings,
    ExperimentSettings,
    Protocol,
    ShardSettings,
    StageSettings,
    TrackingSettings,
)

Frames = Literal["in order", "shuffled", "reversed", "peak"]
"""The order in which a model gets a clip's frames; "peak": one frame T times, that of which the model is surest."""

Weights = Literal["chosen", "best on the test fold"]
"""Of the epoch that the training chose, or of the best one on the test fold."""

Split = Literal["official", "disjoint"]
"""The data set's own folds, or those of the stage `split`, in which no clip gives away one of another fold."""

VOTE_FIGURES = ("class-distribution", "coexistence")
"""Figures of a data set that need no model."""


@dataclass(frozen=True)
class Faces:
    """The aligned faces of a data set: whose clips, and by which settings faces are found, followed and aligned."""

    dataset: str
    detection: DetectionSettings
    tracking: TrackingSettings
    alignment: AlignmentSettings
    shards: ShardSettings

    @classmethod
    def of(cls, dataset: str, settings: StageSettings) -> Faces:
        return cls(dataset, settings.detection, settings.tracking, settings.alignment, settings.shards)

    @property
    def settings(self) -> StageSettings:
        """As sections of the configuration, the others with their defaults."""
        return StageSettings(
            detection=self.detection, tracking=self.tracking, alignment=self.alignment, shards=self.shards
        )

    def for_card(self) -> dict[str, dict[str, object]]:
        """As JSON data for a model's card: what decides which pixels a network sees."""
        kept = {"format", "segments", "frames_per_segment", "jpeg_quality"}
        return {
            "detection": self.detection.model_dump(mode="json"),
            "tracking": self.tracking.model_dump(mode="json"),
            "alignment": self.alignment.model_dump(mode="json"),
            "shards": self.shards.model_dump(mode="json", include=kept),
        }

    def title(self, usual: StageSettings) -> str:
        """For people: the data set, and each setting that is not the usual one: 'dfew (alignment.transform=affine)'."""
        differences = [
            f"{section}.{key}={value}"
            for section in ("detection", "tracking", "alignment", "shards")
            for key, value in getattr(self, section)
            if value != getattr(getattr(usual, section), key)
        ]
        return self.dataset + (f" ({', '.join(differences)})" if differences else "")


@dataclass(frozen=True)
class Training:
    """One arm, trained on the training part of one fold.

    Attributes:
        fold: the fold that is left out; None for a data set with splits instead of folds.
        arm: without `alpha` and `ambiguous`, which are in `settings.mixing` and `settings.train`.
        settings: with the network, its frames and input size, and the seed of this training.
        arm_name: as in the configuration, where the same arm may have two names.
        split: whose folds these are.
        named_by_length: whether there are others beside it that differ in their number of epochs.
    """

    dataset: str
    fold: int | None
    arm: ArmSettings
    settings: StageSettings
    arm_name: str = field(compare=False)
    split: Split = "official"
    named_by_length: bool = field(default=False, compare=False)

    @property
    def model(self) -> str:
        return self.settings.model.name

    @property
    def seed(self) -> int:
        return self.settings.train.seed

    @property
    def faces(self) -> Faces:
        return Faces.of(self.dataset, self.settings)

    @property
    def title(self) -> str:
        """For people: 'midas fold 1', 'soft disjoint fold 1', 'resnet18_gru hard ferv39k seed 2'; without the paper's
        network and seed 0."""
        parts = [] if self.model == "resnet18_tsm" else [self.model]
        parts += [self.arm_name] + (["disjoint"] if self.split == "disjoint" else [])
        parts += [self.dataset if self.fold is None else f"fold {self.fold}"]
        parts += [f"seed {self.seed}"] if self.seed else []
        return " ".join(parts + ([f"{self.settings.train.epochs} epochs"] if self.named_by_length else []))


@dataclass(frozen=True)
class Evaluation:
    """A trained model, evaluated on another data set, or on the test part of the fold that its training left out."""

    training: Training
    dataset: str
    frames: Frames = "in order"
    weights: Weights = "chosen"

    @property
    def across(self) -> bool:
        return self.dataset != self.training.dataset

    @property
    def faces(self) -> Faces:
        """Aligned as those that the model was trained on."""
        return Faces.of(self.dataset, self.training.settings)

    @property
    def title(self) -> str:
        """For people: 'midas fold 1 on afew, frames shuffled'."""
        order = "" if self.frames == "in order" else f", frames {self.frames}"
        return f"{self.training.title} on {self.dataset}{order}"

    @property
    def short(self) -> str:
        """The prefix of its metrics in MLflow: the data set, and what is unusual about frames and weights."""
        parts = [self.dataset]
        parts += [self.frames.replace(" ", "-")] if self.frames != "in order" else []
        parts += ["best-on-test-fold"] if self.weights != "chosen" else []
        return "_".join(parts)


@dataclass(frozen=True)
class Row:
    """A line of a table: the names of a network and an arm, and for every seed one evaluation per fold.

    `epochs`: how long they were trained, where the table compares lengths; else None. `split`: whose folds these are.
    """

    model: str
    arm: str
    frames: Frames
    evaluations: tuple[Evaluation, ...]
    epochs: int | None = None
    split: Split = "official"


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of a pipeline, with all names looked up.

    Attributes:
        entry: its entry in the configuration.
        dataset: the data set that is trained on.
        arms: name -> arm.
        settings: network -> the settings of its trainings.
        folds: the folds to leave out, if the data set has folds.
    """

    name: str
    entry: ExperimentSettings
    dataset: str
    evaluate_on: str
    arms: Mapping[str, ArmSettings]
    settings: Mapping[str, StageSettings]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    protocol: Protocol

    @property
    def trains(self) -> bool:
        return self.entry.show not in VOTE_FIGURES

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets whose clips are needed."""
        return tuple(dict.fromkeys((self.dataset, self.evaluate_on)))

    def rows(self, *, has_folds: bool) -> list[Row]:
        """The table's lines, network by network. If the data set has splits, not folds: one training per seed."""
        if not self.trains:
            return []
        orders: tuple[Frames, ...] = get_args(Frames) if self.entry.show == "temporal" else ("in order",)
        weights: Weights = "best on the test fold" if self.protocol == "paper" else "chosen"
        splits: tuple[Split, ...] = get_args(Split) if self.entry.split == "both" else (self.entry.split,)
        return [
            Row(
                model,
                arm,
                frames,
                tuple(
                    Evaluation(self._training(model, arm, fold, seed, epochs, split), self.evaluate_on, frames, weights)
                    for seed in self.seeds
                    for fold in (self.folds if has_folds else (None,))
                ),
                epochs,
                split,
            )
            for model in self.settings
            for epochs in self.entry.epochs or (None,)
            for split in splits
            for arm in self.arms
            for frames in orders
        ]

    def _training(
        self, model: str, arm: str, fold: int | None, seed: int, epochs: int | None, split: Split
    ) -> Training:
        base, settings_of_arm = self.settings[model], self.arms[arm]
        train: dict[str, object] = {"seed": seed, "ambiguous": settings_of_arm.ambiguous or base.train.ambiguous}
        if epochs is not None:
            train["epochs"] = epochs
        if self.protocol != "paper":
            train["selection"] = self.protocol
        mixing = base.mixing.model_copy(update={"alpha": settings_of_arm.alpha or base.mixing.alpha})
        settings = base.model_copy(update={"train": base.train.model_copy(update=train), "mixing": mixing})
        without_settings = settings_of_arm.model_copy(update={"alpha": None, "ambiguous": None})
        return Training(
            self.dataset, fold, without_settings, settings, arm, split=split, named_by_length=epochs is not None
        )


def evaluations_of(rows: Iterable[Row]) -> list[Evaluation]:
    """Every evaluation once, in the order of the rows."""
    return list(dict.fromkeys(evaluation for row in rows for evaluation in row.evaluations))


def trainings_of(evaluations: Iterable[Evaluation]) -> list[Training]:
    """Every training once."""
    return list(dict.fromkeys(evaluation.training for evaluation in evaluations))

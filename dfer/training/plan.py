"""The input of one training: its settings, its clips, and its share of the machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dfer.config.catalogue import Network, network
from dfer.config.settings import (
    ArmSettings,
    GroupSettings,
    LabelSettings,
    MixingSettings,
    ModelSettings,
    SamplingSettings,
    StageSettings,
    TrainSettings,
)
from dfer.storage.remote import Location


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sections of the configuration that a training sees. They decide what it computes."""

    arm: ArmSettings
    mixing: MixingSettings = field(default_factory=MixingSettings)
    model: ModelSettings
    sampling: SamplingSettings
    groups: GroupSettings = field(default_factory=GroupSettings)
    train: TrainSettings
    labels: LabelSettings = field(default_factory=LabelSettings)

    @classmethod
    def of(cls, arm: ArmSettings, settings: StageSettings) -> Plan:
        """The plan of an arm under the settings of a pipeline."""
        sections = {name: getattr(settings, name) for name in cls.__dataclass_fields__ if name != "arm"}
        return cls(arm=arm, **sections)

    @property
    def network(self) -> Network:
        """The catalogue's entry of the network, which says how pixels are normalised for it."""
        return network(self.model.name)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that the network tells apart, in the order of its logits."""
        return self.labels.classes

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """All settings as JSON data, by section."""
        return {name: getattr(self, name).model_dump(mode="json") for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class TrainingData:
    """The tables that a training takes its clips from."""

    # the training part of the clip table. Clips without aligned faces, and in an arm with hard labels those without a
    # single label, are left out and counted in the summary.
    clips: pd.DataFrame
    # the test fold, evaluated every `train.monitor_every` epochs and never used to choose anything; None evaluates
    # nothing
    monitor: pd.DataFrame | None
    index: pd.DataFrame  # the align index; its shard folders are relative to `root`
    root: Location  # a folder, or the URL of one


@dataclass(frozen=True)
class Resources:
    """What a training may take of this machine. It decides how fast a training is; `threads` also how it rounds."""

    threads: int = 0  # CPU threads, instead of `train.threads`; 0 leaves torch's number
    side_by_side: int = 1  # how many trainings run on this machine at a time, and share its memory
    on_its_gpu: int | None = None  # how many of them share a GPU; None: all
    frames_on_gpu: bool = True  # whether decoded frames may be kept in the GPU's memory

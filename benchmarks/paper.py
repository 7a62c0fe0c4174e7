"""The paper's training, as the benchmarks measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings

if TYPE_CHECKING:
    from dfer.training.plan import Plan

CROP_SIZE = 224
SEGMENTS = 8


def paper_plan(
    size: int,
    *,
    segments: int = SEGMENTS,
    width: float = 1.0,
    dropout: float = 0.5,
    name: str = "resnet18_tsm",
    **train: Any,
) -> Plan:
    """The paper's training (MIDAS, SGD) on clips of so many frames of that size, with random weights; or that of
    another network."""
    from dfer.training.plan import Plan

    return Plan(
        arm=ArmSettings(labels="soft", mixing="midas", normalize="softmax"),
        model=ModelSettings(name=name, pretrained=None, input_size=size, width=width, dropout=dropout),
        sampling=SamplingSettings(num_segments=segments),
        train=TrainSettings(**train),
    )

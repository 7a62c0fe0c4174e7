"""What all measurements have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]
"""Figures of a measurement, see `results.COLUMNS`. None: it could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """On which device, with how much work, and for how long."""

    device: str = "cuda"
    is_quick: bool = False  # small sizes, not the paper's
    scratch: str = ""  # a folder for stored clips, which the measurements of a run share
    batch: int = 8  # clips of a step
    size: int = 224  # side of the frames, pixels
    width: float = 1.0  # of the network, see `ModelSettings`
    seconds: float = 2.0  # that one thing is timed for
    steps: int = 20  # whose losses are compared
    peak_side: int = 8192  # of the square matrices whose product is the peak
    clips: int = 256  # that are stored
    clip_frames: int = 24  # of each
    epoch_steps: int = 600  # of an epoch, where frames are kept in memory
    pictures: int = 32  # in which faces are detected

    def quick(self) -> Conditions:
        """A little of everything, to try it."""
        return Conditions(
            device=self.device,
            is_quick=True,
            scratch=self.scratch,
            batch=2,
            size=32,
            width=0.25,
            seconds=0.0,
            steps=3,
            peak_side=256,
            clips=6,
            clip_frames=8,
            epoch_steps=3,
            pictures=2,
        )

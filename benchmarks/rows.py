"""A row of the benchmark's table: our time, the time of an alternative, and the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.measure import Measured

NOT_ESTABLISHED = 1.15
"""Repeats of the same code on a shared machine differ by this factor: smaller differences mean nothing."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: the work, with every difference between the sides in frames, size or quality.
        unit: the unit of work that `seconds` are per.
        measure: the kind of headline and target: "ratio" (theirs / ours, at least the target), "seconds" (at most),
            "floor" (ours / floor, at most), or "share" (of a training step, at most).
        floor: seconds per unit that the machine allows; `floor_how` says how it was computed.
        precision: other figures by name.
        limit: the present bottleneck.
        how: how it was measured.
    """

    section: str
    name: str
    unit: str
    ours: Measured
    theirs: Measured | None = None
    measure: Literal["ratio", "seconds", "floor", "share"] = "ratio"
    target: float | None = None
    floor: float | None = None
    floor_how: str = ""
    share: float | None = None
    precision: Mapping[str, float] = field(default_factory=dict)
    limit: str = ""
    how: str = ""

    @property
    def error(self) -> str:
        """Why there is no result; "" if there is one."""
        sides = [side for side in (self.ours, self.theirs) if side is not None and side.error]
        return "; ".join(f"{side.name}: {side.error}" for side in sides)

    @property
    def ratio(self) -> float:
        """theirs / ours, of the medians; nan without both."""
        return math.nan if self.theirs is None else self.theirs.median / self.ours.median

    @property
    def ratio_range(self) -> tuple[float, float]:
        """Smallest and largest ratio of the same round."""
        if self.theirs is None or self.error:
            return math.nan, math.nan
        rounds = [theirs / ours for ours, theirs in zip(self.ours.seconds, self.theirs.seconds, strict=True)]
        return min(rounds), max(rounds)

    @property
    def over_floor(self) -> float:
        """ours / floor; nan without a floor."""
        return self.ours.median / self.floor if self.floor else math.nan

    @property
    def value(self) -> float:
        """The headline, in the terms of `measure`."""
        share = math.nan if self.share is None else self.share
        values = {"ratio": self.ratio, "seconds": self.ours.median, "floor": self.over_floor, "share": share}
        return values[self.measure]

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one. What could not be measured is not met."""
        if self.target is None:
            return None
        return self.value >= self.target if self.measure == "ratio" else self.value <= self.target

    @property
    def shortfall(self) -> float:
        """The factor by which the target is missed: 1 or less if it is met, nan without one."""
        if self.target is None:
            return math.nan
        return self.target / self.value if self.measure == "ratio" else self.value / self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the derived figures; None for nan."""
        derived = ("ratio", "ratio_range", "over_floor", "value", "met", "shortfall")
        sides = {"ours": _side(self.ours), "theirs": self.theirs and _side(self.theirs)}
        clean: dict[str, Any] = without_nan(asdict(self) | sides | {name: getattr(self, name) for name in derived})
        return clean


def _side(measured: Measured) -> dict[str, Any]:
    return {name: getattr(measured, name) for name in ("name", "threads", "seconds", "peak_bytes", "error", "median")}


def without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

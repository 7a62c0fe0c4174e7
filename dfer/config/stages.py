"""The stages of a pipeline."""

from __future__ import annotations

from typing import Literal, get_args

Stage = Literal["demo-data", "ingest", "align", "index", "train", "evaluate", "report"]

STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which they run."""

"""The demo pipeline, small enough to be run whole in a test."""

from pathlib import Path

from benchmarks.pipeline_runs import SMALL

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"

TINY = (*SMALL, "train.epochs=2")

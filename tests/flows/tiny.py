"""The demo pipeline, small enough to be run whole in a test."""

from pathlib import Path

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"

TINY = (
    "demo_data.clips=21",
    "shards.clips_per_shard=12",
    "shards.max_failed_share=0.5",
    "shards.frames_per_segment=1",
    "pipelines.demo.arms=[hard, midas]",
    "model.width=0.125",
    "model.input_size=32",
    "train.epochs=2",
)

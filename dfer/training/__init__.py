"""Training of one arm on one fold."""

from dfer.training.checkpoint import CheckpointError, read_extra
from dfer.training.loop import TrainingError, TrainResult, train

__all__ = ["CheckpointError", "TrainResult", "TrainingError", "read_extra", "train"]

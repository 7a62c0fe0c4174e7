"""Training of one arm on one fold."""

from dfer.training.checkpoint import CheckpointError, read_extra, remove_damaged
from dfer.training.loop import TrainResult, train
from dfer.training.run import TrainingError

__all__ = ["CheckpointError", "TrainResult", "TrainingError", "read_extra", "remove_damaged", "train"]

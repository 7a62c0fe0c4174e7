"""Training of one arm on one fold."""

from dfer.training.checkpoint import CheckpointError, begin_with, remove_damaged
from dfer.training.fit import TrainResult
from dfer.training.plan import Plan, Resources, TrainingData
from dfer.training.run import TrainingError
from dfer.training.train import train

__all__ = [
    "CheckpointError",
    "Plan",
    "Resources",
    "TrainResult",
    "TrainingData",
    "TrainingError",
    "begin_with",
    "remove_damaged",
    "train",
]

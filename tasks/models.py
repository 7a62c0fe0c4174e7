"""A trained model in MLflow: a graph that needs nothing of ours to be loaded and run."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.models import infer_signature
from torch import Tensor, nn

from dfer.models.saved import load_model
from dfer.training.transforms import to_float
from tasks.tracking import TrackedRun


class Recogniser(nn.Module):
    """From frames as they are stored to probabilities: what `predict` of the logged model does.

    Input uint8[B, T, H, W, 3] RGB, output float32[B, K]; the classes' names are in the model's metadata.
    """

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, frames: Tensor) -> Tensor:
        clips = to_float(frames.permute(0, 1, 4, 2, 3), self.mean, self.std)
        return self.network(clips).softmax(dim=-1)


def log_model(folder: Path, run: TrackedRun) -> None:
    """Log the model in a training's folder to the active run, with its signature and class names."""
    network, card = load_model(folder)
    recogniser = Recogniser(network, card["normalization"]["mean"], card["normalization"]["std"]).eval()
    size = card["input_size"]
    example = np.zeros((2, card["num_segments"], size, size, 3), np.uint8)
    with torch.inference_mode():
        output = recogniser(torch.from_numpy(example)).numpy()
    logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # how a GRU keeps its weights together is none of the exported graph's business
        warnings.filterwarnings("ignore", "The tensor attributes .* were assigned during export")
        mlflow.pytorch.log_model(
            recogniser,
            name="model",
            serialization_format="pt2",  # an exported graph and its weights, which needs no class of ours
            input_example=example,
            signature=infer_signature(example, output),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "torch", "numpy")],
            metadata={
                "classes": card["classes"],
                "input": "uint8 RGB frames of aligned faces, [clip, time, y, x, colour]",
            },
        )

"""A trained model in MLflow: a graph that needs nothing of ours to be loaded and run."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from torch import Tensor, nn

from dfer.models.saved import load_model
from dfer.prediction.graph import Graph

FRAMES = "model"
"""The name of a run's logged model that takes frames."""


class Recogniser(nn.Module):
    """From frames as they are stored to probabilities: what `predict` of the logged model does.

    Input uint8[B, T, H, W, 3] RGB, output float32[B, K]; the classes' names are in the model's metadata.
    """

    def __init__(self, network: nn.Module, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.recogniser = Graph(network, card)

    def forward(self, frames: Tensor) -> Tensor:
        probabilities: Tensor = self.recogniser(frames)[1]
        return probabilities


def log_model(folder: Path, client: MlflowClient, run_id: str, experiment_id: str, *, in_doubt: bool = False) -> None:
    """Log the model in a folder (`dfer.models.saved`) to a run, with its signature and class names.

    With `in_doubt` it may have been logged before, whole or in part: a whole one stays, another is completed.
    """
    begun, in_run = _begun(client, run_id, experiment_id) if in_doubt else (None, False)
    if begun is not None and begun.status == LoggedModelStatus.READY:
        return
    network, card = load_model(folder)
    recogniser = Recogniser(network, card).eval()
    size = card["input_size"]
    example = np.zeros((2, card["num_segments"], size, size, 3), np.uint8)
    with torch.inference_mode():
        output = recogniser(torch.from_numpy(example)).numpy()
    logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(client.tracking_uri)
    # inside of a run MLflow adds the model to it, which it can do once
    run = nullcontext() if in_run else mlflow.start_run(run_id=run_id, log_system_metrics=False)
    with warnings.catch_warnings(), run:
        # how a GRU keeps its weights together is none of the exported graph's business
        warnings.filterwarnings("ignore", "The tensor attributes .* were assigned during export")
        mlflow.pytorch.log_model(
            recogniser,
            name=FRAMES,
            model_id=begun.model_id if begun is not None else None,
            input_example=example,
            signature=infer_signature(example, output),
            validate_serving_input=False,  # would load the model again, which takes seconds
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "torch", "numpy")],
            metadata={
                "classes": card["classes"],
                "input": "uint8 RGB frames of aligned faces, [clip, time, y, x, colour]",
            },
        )


def _begun(client: MlflowClient, run_id: str, experiment_id: str) -> tuple[LoggedModel | None, bool]:
    """The model that was begun for a run, if there is one, and whether the run has it as an output."""
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{FRAMES}'")
    if not models:
        return None, False
    outputs = client.get_run(run_id).outputs
    in_run = {model.model_id for model in outputs.model_outputs} if outputs else set()
    return models[0], models[0].model_id in in_run

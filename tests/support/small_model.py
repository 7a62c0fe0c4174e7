"""A tiny model with random weights that says how its faces are made, and pictures of a portrait that moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data

from dfer.config.experiments import Faces
from dfer.config.settings import StageSettings
from dfer.models import build
from dfer.models.saved import save_model

CLASSES = ["happy", "sad", "neutral"]
SETTINGS = StageSettings.model_validate(
    {
        "detection": {"input_size": 320},
        "alignment": {"size": 48},
        "shards": {"segments": 4, "frames_per_segment": 2},
    }
)


def card(**more: Any) -> dict[str, Any]:
    return {
        "model": "resnet18_tsm",
        "width": 0.25,
        "dropout": 0.0,
        "classes": CLASSES,
        "num_segments": 4,
        "input_size": 32,
        "normalization": {"mean": [0.5] * 3, "std": [0.2] * 3},
        "dataset": "toy",
        "fold": 1,
        "faces": Faces.of("toy", SETTINGS).for_card(),
        **more,
    }


def write_model(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = build(more.get("model", "resnet18_tsm"), num_classes=len(CLASSES), num_segments=4, width=0.25)
    with torch.no_grad():
        network.fc.weight.mul_(20)  # so that the probabilities differ
    save_model(folder, network.state_dict(), card(**more))
    return folder


def portrait(number: int, *, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """A picture uint8[height, width, 3] BGR of a face that drifts and turns with the number of the frame."""
    matrix = cv2.getRotationMatrix2D((226.0, 117.0), 6 * np.sin(number / 5), 1.0)
    matrix[:, 2] += (-66 + 12 * np.sin(number / 9), 6 * np.cos(number / 7))
    picture = np.ascontiguousarray(data.astronaut()[..., ::-1])
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def rewrite_card(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

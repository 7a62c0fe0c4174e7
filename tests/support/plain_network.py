"""Networks that are traced in no time, and a model of the first in a run of MLflow, as a training leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from small_model import CLASSES, card
from torch import Tensor, nn

from dfer.models.saved import save_model

ROOT = Path(__file__).parents[2]


class Plain(nn.Module):
    """float[B, T, 3, H, W] -> logits: small, with a convolution over time without a bias."""

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 6, 3, stride=2, bias=False)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv(clips.transpose(1, 2)).relu().mean(dim=(2, 3, 4)))
        return logits


class Looking(Plain):
    """Decides by what it sees, which no graph can."""

    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips if clips.mean().item() > 0 else -clips)


class Drawing(Plain):
    """Says something else each time."""

    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips) + torch.rand(1)


def write_plain(folder: Path, network: type[nn.Module] = Plain, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = network(len(CLASSES), 4, 1.0, 0.0).state_dict()
    save_model(folder, state, card(model=f"plain_network:{network.__name__}", **more))
    return folder


class Tracked:
    """A model in the work directory of a pipeline, with its run in a database of MLflow.

    Attributes:
        model: the folder; `run` its run's id.
        config: a configuration file that says where all of it is.
    """

    def __init__(self, folder: Path) -> None:
        from tasks.tracking.client import client_of
        from tasks.tracking.logged_model import log_model
        from tasks.tracking.outbox import Delivered, Outbox

        self.work = folder / "work"
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.client = client_of(self.uri)
        location = (folder / "artifacts").as_uri()
        self.experiment = self.client.create_experiment("toy", artifact_location=location)
        self.run = self.client.create_run(self.experiment).info.run_id
        self.model = write_plain(self.work / "stages" / "train" / "abc", synthetic_data=True)
        for name in ("model.json", "model.safetensors"):
            self.client.log_artifact(self.run, str(self.model / name))
        self.outbox = Outbox(self.work / "mlflow" / "outbox")
        self.tracked = self.outbox.create(
            "arm-1", uri=self.uri, experiment="toy", location=location, name="soft", parent=None, tags={}
        )
        self.tracked.write(self.model)
        self.tracked.note_delivered(Delivered(self.tracked.size, -1, self.run, self.experiment))
        log_model(self.model, self.client, self.run, self.experiment)
        self.client.set_terminated(self.run, end_time=1234)
        written = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())
        written["pipelines"] = {"demo": written["pipelines"]["demo"]}
        written |= {"mlflow": {"tracking_uri": self.uri}, "work_dir": str(self.work)}
        self.config = folder / "pipeline_config.yaml"
        self.config.write_text(yaml.safe_dump(written))

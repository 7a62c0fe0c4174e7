"""Dynamic facial expression recognition with soft labels: the library under the pipeline.

Everything here works without an orchestrator and without an experiment tracker: it computes on arrays and paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfer.prediction.api import Model

__version__ = "0.1.0"


def load(
    model: str | Path,
    *,
    config: str | Path = "pipeline_config.yaml",
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Model:
    """A trained model, ready to be used on videos: `dfer.load("demo/soft").predict("clip.mp4")`.

    Args:
        model: PIPELINE/ARM or PIPELINE/NETWORK/ARM, the folder of a trained model, runs:/ID, models:/NAME@ALIAS, or a
            file of `dfer export` (.onnx).
        config, overrides: the configuration file that says where the work directory and MLflow are, and `KEY=VALUE`
            pairs that win over it. A model that is named by its folder needs none.
        device: 'auto' (a GPU if there is one), 'cpu' or 'cuda'.

    Raises InputError if the name stands for no model, SavedModelError if the model is damaged.
    """
    from dfer.prediction.api import load as load_model  # takes seconds, which `dfer --help` has not

    return load_model(model, config=config, overrides=overrides, device=device)

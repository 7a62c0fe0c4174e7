"""One training: an arm on the training clips of a fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dfer.training.fit import TrainResult, fit
from dfer.training.job import write_job
from dfer.training.plan import Plan, Resources, TrainingData
from dfer.training.run import EpochRow


def train(
    plan: Plan,
    data: TrainingData,
    folder: Path,
    *,
    card: Mapping[str, Any],
    resources: Resources = Resources(),  # noqa: B008 - frozen
    on_epoch: Callable[[EpochRow], None] | None = None,
) -> TrainResult:
    """Train one arm (section 4.3), or go on with it where the checkpoint in `folder` ends.

    The folder, made if it is missing, gets `checkpoint.pt`, `history.json` (`epochs` and `summary`),
    `model.safetensors` and `model.json`, and with a test fold also the weights of the best epoch on it, for comparisons
    with code that reports those. On a CPU the same seed and number of threads give the same numbers, and a training
    that was killed and goes on ends with those of one that was not; on one GPU with `train.deterministic`. Arms that
    differ in labels and mixing alone start from the same weights and see the same batches. With `train.processes` above
    1 see `dfer.training.distributed`.

    Args:
        card: goes into the model's card beside the keys that every card has, for example how the faces were aligned.
        on_epoch: is called with each row of the history before that epoch's checkpoint is written: after a crash in
            between a row comes a second time, but none is ever missing.

    Raises:
        ValueError: no labels, votes or faces, too few clips, a device or precision that this machine lacks, an unknown
            mixing, loss or normalisation, or a cache that was asked for by name and does not fit.
        CheckpointError: the checkpoint is damaged, or another training's.
        TrainingError: the loss became infinite or nan, or one of several processes died.
        WeightsError: pretrained weights cannot be had.
    """
    if plan.train.processes == 1:
        return fit(plan, data, folder, card=card, resources=resources, on_epoch=on_epoch)
    # Not at the top: `python -m dfer.training.distributed` warns if its package has imported it already.
    from dfer.training.distributed import train_together

    return train_together(write_job(plan, data, folder, card=card, resources=resources), on_epoch)

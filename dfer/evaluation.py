"""From a trained model and aligned clips to a prediction table, and from that to numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfer import metrics, read_out
from dfer.analysis import arm_table, calibration
from dfer.config.experiments import Frames, Weights
from dfer.datasets.table import with_classes
from dfer.labels import CLASSES, EMOTIONS, classes_of
from dfer.storage.file_names import CONFUSION, METRICS, PREDICTIONS
from dfer.storage.files import replacing
from dfer.storage.remote import Location

if TYPE_CHECKING:
    from torch import nn

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("votes", pa.list_(pa.int64())),
        pa.field("logits", pa.list_(pa.float64()), nullable=False),
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
        pa.field("prediction", pa.int64(), nullable=False),
    ]
)
"""The prediction table; everything is in the order of the table's classes (`dfer.labels.classes_of`), whatever the
model's own order."""


def predict(
    model: Path | tuple[nn.Module, Mapping[str, Any]],
    clips: pd.DataFrame,
    index: pd.DataFrame,
    root: Location,
    *,
    frames: Frames = "in order",
    weights: Weights = "chosen",
    among: Sequence[str] | None = None,
    batch_size: int = 16,
    device: str = "auto",
    threads: int = 0,
    workers: int = 0,
) -> pd.DataFrame:
    """The prediction table: one row for every clip that has aligned faces, in the order of `clips` and in its classes.

    Classes are matched by name. Where the model lacks some of the clips' classes, or the data set some of the model's
    (`among`), both are compared on the classes that they share: clips of other classes are left out, and no other class
    is predicted (its logit is -inf).

    The frames are those at the segments' centres, whole, resized and normalised as the model's card says; a GPU
    computes in TF32 where the training did, else in float32. Columns:
    `clip_id`, `dataset`, `label` (Int64), `votes` (list or None), `logits` and `probabilities` (lists of K; read out as
    the model's card says, see `dfer.read_out`), `prediction` (the largest logit's class). Raises SavedModelError if the
    folder holds no usable model, ValueError if fewer than two classes are shared, a clip is listed twice, or no clip
    has aligned faces.

    Args:
        model: a folder that `train` wrote, or a module and its card.
        index: the align index; its shard folders are relative to `root`.
        frames: the order in which the model is shown a clip's frames, see `dfer.models.frame_order`.
        weights: of the epoch that the training chose, or of the best one on the test fold.
        among: the classes that the data set has; None: all of the table's.
        threads: CPU threads; 0 leaves torch's number.
        workers: processes that read clips ahead.
    """
    # reading and scoring tables, as the report does, needs none of these
    from dfer.models.frame_order import logits_of
    from dfer.models.saved import load_model
    from dfer.training.data import ClipSource, evaluation_loader
    from dfer.training.inference import predict_logits
    from dfer.training.optimization import choose_device, torch_state

    module, card = load_model(model, weights) if isinstance(model, Path) else model
    own, classes = list(card["classes"]), classes_of(clips)
    shared = shared_classes(own, classes, among)
    clips = clips[clips["label"].isna() | clips["label"].isin([classes.index(name) for name in shared])]
    twice = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(twice):
        raise ValueError(f"the clip table lists {len(twice)} clips twice, the first is {twice.iloc[0]}")
    source = ClipSource(
        clips,
        index,
        root,
        num_segments=card["num_segments"],
        consecutive=card.get("consecutive", 1),  # cards of earlier versions have none
        input_size=card["input_size"],
    )
    chosen = choose_device(device)
    module = module.to(chosen)
    # as in the evaluations of the training itself; a card of earlier versions, or of another's model, names neither
    deterministic = card.get("settings", {}).get("train", {}).get("deterministic", False)
    with torch_state(threads, chosen, tf32=card.get("tf32", False), deterministic=deterministic):
        seen = predict_logits(
            module,
            evaluation_loader(source, batch_size=batch_size, workers=workers, device=chosen),
            mean=card["normalization"]["mean"],
            std=card["normalization"]["std"],
            device=chosen,
            forward=lambda shown, rows: logits_of(module, shown, rows, frames),
        )
    places, columns = ([names.index(name) for name in shared] for names in (own, classes))
    logits, probabilities = np.full((len(seen), len(classes)), -np.inf), np.zeros((len(seen), len(classes)))
    logits[:, columns] = seen[:, places]
    probabilities[:, columns] = read_out.probabilities(seen, card, places)
    table = source.clips[["clip_id", "dataset", "label", "votes"]].assign(
        logits=list(logits), probabilities=list(probabilities), prediction=logits.argmax(axis=1)
    )
    return with_classes(_to_pandas(_checked(with_classes(table, classes))), classes)


def evaluate_in_process(
    *,
    model: Path,
    clips: pd.DataFrame,
    part: str,
    index: Path,
    root: Location,
    folder: Path,
    title: str,
    frames: Frames,
    weights: Weights,
    among: Sequence[str] | None,
    device: str,
    threads: int,
    send: Callable[[Any], None],
) -> dict[str, int]:
    """Write `predictions.parquet`, `metrics.json` and `confusion.png` into `folder`, in a process of its own.

    `part` and `title` say which clips these are and what is evaluated; `index` is the align index's file. The others
    are as for `predict`. Returns how many clips are listed and scored.
    """
    from dfer import plots
    from dfer.faces.index import read_index

    predictions = predict(
        model,
        clips,
        read_index(index),
        root,
        frames=frames,
        weights=weights,
        among=among,
        device=device,
        threads=threads,
    )
    write_predictions(predictions, folder / PREDICTIONS)
    scores = {"part": part, **score(predictions, num_listed=len(clips)), **score_all_listed(predictions, clips)}
    (folder / METRICS).write_text(json.dumps(scores, indent=1))
    names = classes_of(predictions)
    plots.confusion(scores["confusion_matrix"], folder / CONFUSION, title=f"{title} ({part})", classes=names)
    return {"listed": len(clips), "scored": len(predictions)}


def shared_classes(models: Sequence[str], tables: Sequence[str], among: Sequence[str] | None = None) -> tuple[str, ...]:
    """The classes of a table that a model knows too, in the table's order, and of these those in `among`.

    Raises ValueError if they are fewer than two, or a class is listed twice.
    """
    if len(set(models)) < len(models):
        raise ValueError(f"the model's classes are {', '.join(models)}: expected each of them once")
    shared = tuple(name for name in tables if name in models and (among is None or name in among))
    if len(shared) < 2:
        raise ValueError(
            f"the model's classes are {', '.join(models)}, those of the clips {', '.join(among or tables)}: they share "
            f"{', '.join(shared) or 'none'}, and two are needed to compare them on"
        )
    return shared


def write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write a prediction table as Parquet; ValueError if its columns or types are not those of `SCHEMA`."""
    table, classes = _checked(predictions), classes_of(predictions)
    if classes != EMOTIONS:
        table = table.replace_schema_metadata({CLASSES: json.dumps(classes)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a prediction table; ValueError if the file does not hold one."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read as a prediction table: {error}") from error
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"{path} is no prediction table: expected {SCHEMA.names}, found {table.schema.names}")
    classes = json.loads((table.schema.metadata or {}).get(CLASSES.encode(), json.dumps(EMOTIONS)))
    return with_classes(_to_pandas(table), classes)


def score(predictions: pd.DataFrame, *, num_listed: int) -> dict[str, Any]:
    """All metrics of a prediction table, as plain numbers (nan is None); `num_listed` clips are listed by the protocol.

    Of the clips with a single label: `war`, `uar`, `per_class_recall` (by class name), `nll`, `brier` and `ece` (see
    `dfer.analysis.calibration.summary`), `confusion_matrix` (rows = true class), `clips_per_class`, and
    `classes_without_clips`, which `uar` leaves out. Of the clips with votes: `js_divergence` to the voters (mean, nats;
    None without votes). Where probabilities are not the softmax of the logits, `raw_nll` and so on are of that softmax.
    And `num_listed`, `num_predicted`, `num_scored`, `coverage` = predicted / listed; a clip that
    is listed and was not predicted counts nowhere else. Raises ValueError if no clip has a label, or more clips are
    predicted than listed.
    """
    if len(predictions) > num_listed:
        raise ValueError(f"{len(predictions)} clips are predicted, but only {num_listed} listed")
    scored = arm_table.labelled(predictions)
    classes = classes_of(predictions)
    labels, predicted = arm_table.labels(scored), scored["prediction"].to_numpy("int64")
    calibrated = calibration.summary(predictions)
    raw = arm_table.by_softmax(predictions)
    raw_calibrated = {} if raw is None else calibration.summary(raw)
    confusion = metrics.confusion_matrix(labels, predicted, len(classes))
    recall = metrics.per_class_recall(labels, predicted, len(classes))
    clips_per_class = dict(zip(classes, confusion.sum(axis=1).tolist(), strict=True))
    return {
        "war": metrics.war(labels, predicted),
        "uar": metrics.uar(labels, predicted, len(classes)),
        "per_class_recall": {
            name: None if math.isnan(value) else value for name, value in zip(classes, recall.tolist(), strict=True)
        },
        **{name: calibrated[name] for name in calibration.MEASURES},
        **{f"raw_{name}": raw_calibrated[name] for name in calibration.MEASURES if name in raw_calibrated},
        "confusion_matrix": confusion.tolist(),
        "coverage": len(predictions) / num_listed,
        "num_listed": num_listed,
        "num_predicted": len(predictions),
        "num_scored": len(scored),
        "clips_per_class": clips_per_class,
        "classes_without_clips": [name for name, clips in clips_per_class.items() if clips == 0],
    }


def score_all_listed(predictions: pd.DataFrame, listed: pd.DataFrame) -> dict[str, float]:
    """`war_all_listed`, `uar_all_listed`: WAR and UAR over all clips of `listed`, the clip table that was predicted.

    A listed clip without a prediction, since no face was found in it, counts as wrong. Clips of a class that model and
    data set do not share are left out, as they are by `predict`. Raises ValueError if no predicted clip has a label.
    """
    scored = arm_table.labelled(predictions)
    num_classes = len(classes_of(predictions))
    shared = np.isfinite(np.stack(predictions["logits"].to_list())).any(axis=0)
    clips = shared * np.bincount(listed["label"].dropna().to_numpy("int64"), minlength=num_classes)
    hits = np.bincount(arm_table.labels(scored)[arm_table.right(scored)], minlength=num_classes)
    has_clips = clips > 0
    return {
        "war_all_listed": float(hits.sum() / clips.sum()),
        "uar_all_listed": float(np.mean(hits[has_clips] / clips[has_clips])),
    }


def _checked(predictions: pd.DataFrame) -> pa.Table:
    """The table in `SCHEMA`, or ValueError."""
    missing, classes = set(SCHEMA.names) - set(predictions.columns), len(classes_of(predictions))
    if missing:
        raise ValueError(f"the prediction table lacks {', '.join(sorted(missing))}")
    try:
        table = pa.Table.from_pandas(predictions[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise ValueError(f"the prediction table does not have the right types: {error}") from error
    for name in ("votes", "logits", "probabilities"):
        lengths = set(pc.list_value_length(table[name]).drop_null().to_pylist())
        if lengths - {classes}:
            raise ValueError(f"{name}: expected {classes} numbers a clip, found {sorted(lengths)}")
    return table


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas(ignore_metadata=True)
    return frame.assign(label=frame["label"].astype("Int64"))

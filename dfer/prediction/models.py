"""A trained model with all that it takes to use it on a video: how its faces were made, and how sure it may be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfer import read_out
from dfer.certainty import Certainty, answers_of, measure
from dfer.config.experiments import Faces
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG
from dfer.config.settings import AlignmentSettings, DetectionSettings, ShardSettings, TrackingSettings
from dfer.evaluation import read_predictions
from dfer.prediction.onnx_file import card_of
from dfer.prediction.references import find, trainings
from dfer.storage.cards import SavedModelError, load_card
from dfer.storage.file_names import PREDICTIONS
from dfer.storage.files import sha256
from dfer.storage.manifest import read_manifest

NO_GPU = (
    "Faces are found on the CPU, since onnxruntime has no GPU here as it had in the training: key points may differ by "
    "a fraction of a pixel."
)
SYNTHETIC = "This model was trained on synthetic data: what it says about real people proves nothing."


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model on disk.

    Attributes:
        name: what it was asked for by.
        folder: holds `model.json` and `model.safetensors`, or the file in ONNX.
        faces: how faces are found, followed, aligned and kept, as in its training.
        certainty: thresholds for words; None if nothing was measured.
        notes: what a person should know about the choice of this model.
        onnx: the file that the model was exported to, card and weights in one; None for a model in a folder.
    """

    name: str
    folder: Path
    card: dict[str, Any]
    faces: Faces
    certainty: Certainty | None
    notes: tuple[str, ...] = ()
    onnx: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is: its folder, or its file in ONNX."""
        return self.onnx or self.folder

    @property
    def identity(self) -> str:
        """What tells it from any other model: a SHA-256. A model in ONNX rounds otherwise than in torch."""
        return str(self.card["weights_sha256"]) if self.onnx is None else sha256(self.onnx)

    def complete_card(self) -> dict[str, Any]:
        """The card with all that is known beside it, for handing the model on: how its faces are made, how sure it may
        be."""
        certainty = None if self.certainty is None else self.certainty.as_dict()
        return {**self.card, "faces": self.faces.for_card(), "certainty": certainty}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.card["classes"])

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on generated data."""
        return bool(self.card.get("synthetic_data", False))

    @property
    def detection(self) -> DetectionSettings | None:
        """How faces are found here: as in training, but on the CPU where there is no GPU; None if nobody looks."""
        if self.faces.alignment.transform == "none":
            return None
        detection = self.faces.detection
        return detection if _can(detection) else detection.model_copy(update={"provider": "cpu"})

    @property
    def title(self) -> str:
        """For people: 'demo/soft (resnet18_tsm, trained on demo-dfew, fold 1)'."""
        parts = [str(self.card["model"])]
        parts += [f"trained on {self.card['dataset']}"] if self.card.get("dataset") else []
        parts += [f"fold {self.card['fold']}"] if self.card.get("fold") is not None else []
        return f"{self.name} ({', '.join(parts)})"

    def describe(self) -> dict[str, Any]:
        """As JSON data, for every output."""
        names = ("model", "dataset", "fold", "weights_sha256", "epoch", "chosen_by", "num_segments", "input_size")
        return {
            "name": self.name,
            "folder": str(self.path),
            **{name: self.card.get(name) for name in names},
            "classes": list(self.classes),
            "synthetic_data": self.synthetic,
            "faces": self.faces.for_card(),
            "certainty": None if self.certainty is None else self.certainty.as_dict(),
            "notes": list(self.notes),
        }


def open_model(reference: str, *, config: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> TrainedModel:
    """The model that a name stands for (`dfer.prediction.references.FORMS`), without its weights.

    Raises InputError if the name stands for nothing or it is not known how its faces were made, SavedModelError if its
    card is damaged.
    """
    found = find(reference, config=config, overrides=overrides)
    card = load_card(found.folder) if found.onnx is None else card_of(found.onnx)
    faces = _faces(card, found.onnx or found.folder)
    # what lies beside a file in ONNX is another model's
    known = found.onnx is None or card.get("certainty")
    certainty = certainty_of(card, found.folder) if known else None
    notes = found.notes if _can(faces.detection) else (*found.notes, NO_GPU)
    return TrainedModel(reference, found.folder, card, faces, certainty, notes, found.onnx)


def _can(detection: DetectionSettings) -> bool:
    """Whether this machine can find faces where the settings say."""
    if detection.provider != "cuda":
        return True
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _faces(card: dict[str, Any], folder: Path) -> Faces:
    """How the faces of a model's training were made: as its card says, or, of cards of earlier versions, as the outputs
    say that it was made from."""
    written = card.get("faces") or _faces_of_inputs(card, folder)
    if written is None:
        raise InputError(
            f"{folder}: model.json does not say how the faces of its training were found and aligned, and the work "
            "directory that it was made in, which would, is not here. Train it again with this version, or name it "
            "where it was made"
        )
    if not isinstance(written, dict):
        raise SavedModelError(
            f"{folder}: model.json is damaged: faces is {type(written).__name__}, expected an object with detection, "
            "tracking, alignment and shards. Fetch or train the model again"
        )
    try:
        return Faces(
            str(card.get("dataset")),
            DetectionSettings.model_validate(written["detection"]),
            TrackingSettings.model_validate(written["tracking"]),
            AlignmentSettings.model_validate(written["alignment"]),
            ShardSettings.model_validate(written["shards"]),
        )
    except KeyError as error:
        raise SavedModelError(f"{folder}: model.json is damaged: faces lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: model.json describes no faces that this version can make: {error}") from error


def _faces_of_inputs(card: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """From the key of a shard of the training's faces, by the manifests from the training's on; None if one is gone."""
    with suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
        index = _input(folder, "index")
        key = read_manifest(_input(index, "align"))["key"]
        return {**key, "detection": {**key["detection"], "model": card["detection"]["model"]}}
    return None


def _input(folder: Path, stage: str) -> Path:
    """The folder of the first output of a stage that an output was made from, beside it if they were moved together."""
    made_from = read_manifest(folder)["made_from"]
    upstream = next(upstream for upstream in made_from if upstream["stage"] == stage)
    beside = folder.resolve().parents[1] / stage / upstream["hash"]
    return beside if beside.is_dir() else Path(upstream["folder"])


def certainty_of(card: dict[str, Any], folder: Path) -> Certainty | None:
    """How sure a model may be: from its card, which has what was measured on an inner validation part, else from
    out-of-fold predictions of its arm beside its folder; None if there are none. Raises InputError for a damaged card.
    """
    if card.get("certainty"):
        try:
            return Certainty.of(card["certainty"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder}: the entry certainty of model.json is damaged: {error}") from error
    found = list(_out_of_fold(card, folder))
    if not found:
        return None
    probabilities = np.concatenate([read_out.probabilities(_logits(table), its) for its, table in found])
    tables = pd.concat([table for _, table in found], ignore_index=True)
    folds = f"of {len(found)} folds" if len(found) > 1 else f"of fold {card['fold']}"
    part = "the test part" if card.get("fold") is None else f"the test part {folds}"
    return measure(
        probabilities,
        tables["label"].fillna(-1).to_numpy("int64"),
        answers_of(tables["votes"], repeat(None, len(tables)), probabilities.shape[1]),
        measured_on=f"{part} of {card['dataset']}, out-of-fold",
    )


def _out_of_fold(card: dict[str, Any], folder: Path) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Of a training, and of those of the same arm on the other folds, the card and the predictions of the test part."""
    if (folder / PREDICTIONS).is_file():  # fetched with the model
        return [(card, read_predictions(folder / PREDICTIONS))]
    stages = folder.resolve().parents[1]
    with suppress(OSError, ValueError, KeyError, TypeError):
        own = _but_for_the_fold(read_manifest(folder))
        siblings = {
            trained.folder.name: trained.card
            for trained in trainings(stages)
            if _but_for_the_fold(read_manifest(trained.folder)) == own
        }
        tables = {}
        for path in sorted(stages.glob(f"evaluate/*/{PREDICTIONS}")):
            manifest = read_manifest(path.parent)
            key, model = manifest["key"], manifest["made_from"][0]["hash"]
            plain = (key["frames"], key["weights"]) == ("in order", "chosen") and key["dataset"] == card["dataset"]
            if plain and model in siblings:
                tables[model] = read_predictions(path)
        return [(siblings[model], table) for model, table in tables.items()]
    return []


def _but_for_the_fold(manifest: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a training was made of: its settings, and the clip table and aligned faces, of which the key has nothing."""
    key = {name: value for name, value in manifest["key"].items() if name != "fold"}
    return key, [upstream["hash"] for upstream in manifest["made_from"]]


def _logits(table: pd.DataFrame) -> NDArray[np.float64]:
    return np.stack(table["logits"].to_list()).astype(np.float64)

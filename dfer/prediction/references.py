"""What the name of a model on a command line stands for: the folder of a finished training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config.experiments import Training
from dfer.config.pipeline import Pipeline
from dfer.config.problems import InputError
from dfer.config.reading import DEFAULT_CONFIG, pipeline_named, read_config
from dfer.config.settings import StageSettings
from dfer.storage.file_names import CARD, WEIGHTS
from dfer.storage.manifest import read_manifest
from dfer.system.paths import expanded

FORMS = (
    "PIPELINE/ARM or PIPELINE/NETWORK/ARM (@fold2 or @seed1 behind it for one of several), the folder of a trained "
    "model, runs:/ID, models:/NAME@ALIAS, or a file that dfer export wrote (.onnx)"
)

_ARM = re.compile(r"(?P<names>[^@]+)(?:@fold(?P<fold>\d+))?(?:@seed(?P<seed>\d+))?")
# What decides how fast a training is, or is chosen by the machine. None of it makes another model of an arm.
_SPEED = (
    *("threads", "loader_workers", "cache", "checkpoint_every", "cuda_graph", "device", "precision", "micro_batches"),
    *("processes", "deterministic"),
)


@dataclass(frozen=True)
class Found:
    """The folder of a model (`model.json`, `model.safetensors`), or of its file in ONNX (`onnx`), and what a person
    should know about the choice."""

    folder: Path
    notes: tuple[str, ...] = ()
    onnx: Path | None = None


@dataclass(frozen=True)
class _Trained:
    """A finished training in a work directory."""

    folder: Path
    card: dict[str, Any]
    finished: float

    @property
    def fold(self) -> int | None:
        fold: int | None = self.card["fold"]
        return fold

    @property
    def split(self) -> str:
        return str(self.card.get("split", "official"))  # cards do not speak of the official ones

    @property
    def seed(self) -> int:
        return int(self.card["settings"]["train"]["seed"])

    @property
    def suffix(self) -> str:
        return (f"@fold{self.fold}" if self.fold is not None else "") + (f"@seed{self.seed}" if self.seed else "")


def find(reference: str, *, config: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> Found:
    """The model that a name stands for, in one of the `FORMS`.

    Of an arm it is the latest finished training with the settings that the pipeline has now, else the latest one of the
    arm; of several folds or seeds the first, and one of the data set's own folds rather than of disjoint ones. Raises
    InputError if the name stands for nothing.
    """
    if reference.startswith(("runs:/", "models:/")):
        from dfer.prediction.from_mlflow import fetch

        _, pipelines = read_config(config, overrides)
        return Found(fetch(reference, pipelines[0].tracking_uri))
    path = Path(expanded(reference))
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        if not path.is_file():
            raise InputError(f"{reference} does not exist. Expected {FORMS}")
        return Found(path.parent, onnx=path)
    if path.name in (CARD, WEIGHTS):
        path = path.parent
    if (path / CARD).is_file():
        return Found(path)
    parts = reference.split("/")
    if path.is_absolute() or len(parts) not in (2, 3):
        what = "holds no model.json: it is not the folder of a trained model" if path.is_dir() else "does not exist"
        raise InputError(f"{reference}: {what}. Expected {FORMS}")
    if not config.is_file():
        raise InputError(f"{reference}: {config} is not here, which would say what it is. Expected {FORMS}")
    _, pipelines = read_config(config, overrides)
    return _of_arm(reference, pipelines, config)


def trainings(stages: Path) -> Iterator[_Trained]:
    """The finished trainings below the folder of a work directory's stages; those that cannot be read are left out."""
    for path in sorted(stages.glob(f"train/*/{CARD}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            card = json.loads(path.read_text(encoding="utf-8"))
            trained = _Trained(path.parent, card, float(read_manifest(path.parent).get("finished", 0.0)))
            _ = trained.fold, trained.seed
            yield trained


def _of_arm(reference: str, pipelines: Sequence[Pipeline], config: Path) -> Found:
    matched = _ARM.fullmatch(reference)
    if matched is None:
        raise InputError(f"{reference}: expected {FORMS}")
    name, *network, arm = matched["names"].split("/")
    pipeline = pipeline_named(name, pipelines, config)
    if pipeline.work_url:
        raise InputError(
            f"{reference}: {pipeline.work_url} is in an object store, where no model is looked for by its arm: copy "
            "the training's folder here and name that, or name its run in MLflow (runs:/ID)"
        )
    wanted = list(_wanted(pipeline, network[0] if network else None, arm))
    if not wanted:
        arms = {row.arm for experiment in pipeline.experiments for row in experiment.rows(has_folds=True)}
        raise InputError(f"{reference}: {name} has no arm {arm}; it has {', '.join(sorted(arms))}")
    stages = pipeline.work_dir / "stages"
    every = [(trained, _fit(trained, wanted)) for trained in trainings(stages)]
    candidates = [(trained, fit) for trained, fit in every if fit]
    fold, seed = matched["fold"], matched["seed"]
    candidates = [
        (trained, fit)
        for trained, fit in candidates
        if (fold is None or trained.fold == int(fold)) and (seed is None or trained.seed == int(seed))
    ]
    if not candidates:
        raise InputError(f"{reference}: no such training is finished in {stages}; run it with: dfer run {name}")
    if any(trained.split == "official" for trained, _ in candidates):
        candidates = [(trained, fit) for trained, fit in candidates if trained.split == "official"]
    best = max(fit for _, fit in candidates)
    latest: dict[tuple[int, int], _Trained] = {}
    for trained in sorted((trained for trained, fit in candidates if fit == best), key=lambda one: one.finished):
        latest[trained.fold or 0, trained.seed] = trained
    chosen = latest[min(latest)]
    notes = []
    if len(latest) > 1:
        others = ", ".join(f"{matched['names']}{one.suffix}" for one in latest.values() if one is not chosen)
        where = f"fold {chosen.fold}, seed {chosen.seed}" if chosen.fold is not None else f"seed {chosen.seed}"
        notes.append(f"{matched['names']} has {len(latest)} trainings: taken is that of {where}; others: {others}")
    if best == 1:
        notes.append(
            f"{matched['names']}: the latest training has other settings than {config} has now (see {CARD} in "
            f"{chosen.folder})"
        )
    return Found(chosen.folder, tuple(notes))


def _wanted(pipeline: Pipeline, network: str | None, arm: str) -> Iterator[Training]:
    """The trainings of an arm in a pipeline, of the pipeline's own network unless another is named."""
    for experiment in pipeline.experiments:
        for row in experiment.rows(has_folds=True):
            if row.arm == arm and row.model == (network or pipeline.settings.model.name):
                yield from (evaluation.training for evaluation in row.evaluations)


def _fit(trained: _Trained, wanted: Sequence[Training]) -> int:
    """2 for a training with the settings of one of those that are wanted, 1 for one of the same arm, else 0."""
    card = trained.card
    settings = _sections(card["settings"])
    fits = [0]
    for training in wanted:
        same_folds = trained.split == training.split and trained.fold in (training.fold, None)
        same_data = card.get("dataset") == training.dataset and same_folds
        if not (same_data and card["model"] == training.model and card["settings"]["arm"] == _arm(training)):
            continue
        same_settings = settings == _sections(training.settings.model_dump(mode="json"), training.arm.mixing)
        fits.append(2 if same_settings else 1)
    return max(fits)


def _arm(training: Training) -> dict[str, Any]:
    return training.arm.model_dump(mode="json")


def _sections(written: dict[str, Any], mixing: str | None = None) -> dict[str, Any] | None:
    """What of a training's settings makes another model of the same arm; None if a later version wrote them."""
    names: tuple[str, ...] = ("model", "sampling", "train", "labels")
    mixes = (written["arm"]["mixing"] if mixing is None else mixing) != "none"
    names = (*names, "mixing") if mixes else names
    with suppress(ValueError):
        known = StageSettings.model_validate({name: written[name] for name in names if name in written})
        sections = known.model_dump(mode="json", include=set(names))
        sections["train"] = {key: value for key, value in sections["train"].items() if key not in _SPEED}
        return sections
    return None

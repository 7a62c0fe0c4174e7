"""Trainings that start from a model that was trained here: whether it fits, and which clips it has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfer.config.experiments import Experiment
from dfer.config.settings import ModelSettings
from dfer.storage.file_names import CARD, WEIGHTS

FINE_TUNED_FROM = "fine_tuned_from"
"""Key of a model's card: the models that its weights come from, as `Ancestor`s, the latest first."""


@dataclass(frozen=True)
class Ancestor:
    """A model whose weights another training started from.

    Attributes:
        dataset: that it was trained on; None where its card does not say.
        fold: that was left out; None of a data set with splits.
    """

    folder: str
    dataset: str | None
    fold: int | None

    @property
    def seen(self) -> str:
        """What it was trained on, for people: 'own, fold 1'."""
        return f"{self.dataset or 'an unknown data set'}{'' if self.fold is None else f', fold {self.fold}'}"


def model_folder(pretrained: str | None) -> Path | None:
    """The folder of the trained model that `model.pretrained` names, by itself or by its weights; None if none."""
    if pretrained is None:
        return None
    path = Path(pretrained)
    folder = path if path.is_dir() else path.parent if path.name == WEIGHTS else None
    return folder if folder is not None and (folder / WEIGHTS).is_file() else None


def problem_with_model(model: ModelSettings) -> str:
    """Why training cannot start from the trained model that `model.pretrained` names; empty if it can, or if there is
    none."""
    folder = model_folder(model.pretrained)
    if folder is None:
        return ""
    card = _card(folder)
    if lacking := [name for name in ("model", "width", "classes") if name not in card]:
        return f"{folder} holds no trained model: {CARD} is missing, or lacks {', '.join(lacking)}"
    if (card["model"], card["width"]) == (model.name, model.width):
        return ""
    return (
        f"{folder} holds a {card['model']} of width {card['width']}, expected a {model.name} of width {model.width}: "
        f"set model.name={card['model']} and model.width={card['width']}, or another model.pretrained"
    )


def ancestors(pretrained: str | None) -> list[Ancestor]:
    """The trained model that `model.pretrained` names, and those that it was fine-tuned from; [] if it names none."""
    folder = model_folder(pretrained)
    card = _card(folder) if folder is not None else {}
    if not card:
        return []
    earlier = [Ancestor(**one) for one in card.get(FINE_TUNED_FROM, ())]
    return [Ancestor(str(pretrained), card.get("dataset"), card.get("fold")), *earlier]


def for_card(pretrained: str | None) -> dict[str, Any]:
    """The entry of a new model's card; empty if it does not start from a trained model."""
    found = [asdict(ancestor) for ancestor in ancestors(pretrained)]
    return {FINE_TUNED_FROM: found} if found else {}


def described(model: ModelSettings) -> str:
    """Where a network's weights come from: 'fine-tuned from FOLDER, trained on own, fold 1, frozen trunk'; empty if
    from no model that was trained here."""
    if not (found := ancestors(model.pretrained)):
        return ""
    before = "".join(f", before that on {one.seen}" for one in found[1:])
    frozen = ", frozen trunk" if model.freeze else ""
    return f"fine-tuned from {found[0].folder}, trained on {found[0].seen}{before}{frozen}"


def leaks(experiments: Iterable[Experiment], has_folds: Mapping[str, bool]) -> list[str]:
    """Of which trainings the test clips are among those that the model they start from was trained on.

    Args:
        has_folds: data set -> whether it has folds; else it has splits. One that is missing is taken to have folds.
    """
    found: dict[str, None] = {}
    for experiment in experiments:
        folds: tuple[int | None, ...] = experiment.folds if has_folds.get(experiment.dataset, True) else (None,)
        for settings in experiment.settings.values() if experiment.trains else ():
            for one in ancestors(settings.model.pretrained):
                tested = experiment.evaluate_on
                if one.dataset != tested:
                    continue
                others = [fold for fold in folds if fold != one.fold]
                if tested != experiment.dataset:
                    clips = "" if one.fold is None else "all folds are tested on"
                else:
                    clips = _tested(others)
                if clips:
                    found[
                        f"{one.folder} was trained on {one.seen}, and of {tested} {clips}: test clips are among those "
                        "that it was trained on, so that scores are too good. Start from the model of the same fold, "
                        "or of another data set"
                    ] = None
    return list(found)


def _tested(folds: list[int | None]) -> str:
    if folds == [None]:
        return "the test part is tested on"
    if len(folds) > 1:
        return f"folds {', '.join(map(str, folds))} are tested on"
    return f"fold {folds[0]} is tested on" if folds else ""


def _card(folder: Path) -> dict[str, Any]:
    """A model's card; empty if there is none that can be read, which the training will say."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}

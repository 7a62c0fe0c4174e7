"""How the trainings of a pipeline differ from those that they stand for: the paper's, or as a network was published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dfer.config import fine_tuning
from dfer.config.catalogue import network, recipe_of
from dfer.config.experiments import Experiment
from dfer.config.file import merge
from dfer.config.pipeline import Pipeline
from dfer.config.settings import StageSettings

_LEARNING_RATES = {"ferv39k": 0.01}
"""Layout -> the paper's learning rate where it has another for a data set (section 4.3)."""

_NAMED = {
    "model.width": "{} of the width",
    "sampling.num_segments": "{} frames",
    "sampling.consecutive": "{} neighbouring frames",
    "model.input_size": "{} pixels",
    "train.epochs": "{} epochs",
    "train.batch_size": "batches of {}",
    "train.optimizer": "{}",
    "train.schedule": "{}",
    "train.learning_rate": "learning rate {}",
    "train.final_learning_rate": "final learning rate {}",
    "train.warmup_epochs": "{} epochs of warm-up",
    "train.momentum": "momentum {}",
    "train.weight_decay": "weight decay {}",
    "model.dropout": "dropout {}",
    "train.augment.min_scale": "crops from {} of the side",
    "train.augment.horizontal_flip": "mirrored with probability {}",
    "mixing.alpha": "alpha {}",
}
"""What is named where it differs, and how. What is left out decides how fast a training runs, or stands in a table."""

_FEW = 3  # networks that are named; of more, their number is said


def reduced(pipeline: Pipeline, clips: Mapping[str, int], folds: Mapping[str, int]) -> str:
    """For people: how a pipeline differs from the paper's experiments (section 4.3) and its networks' recipes; empty if
    it does not.

    Args:
        clips, folds: data set -> its clips, and its folds (0 of a set with splits).
    """
    differences = []
    if any(dataset.generated for dataset in pipeline.datasets.values()):
        differences.append(", ".join(f"{number} clips of {name}" for name, number in clips.items()))
    trained_on = {experiment.dataset for experiment in pipeline.experiments if experiment.trains}
    numbers = {folds[name] for name in folds if name in trained_on and len(pipeline.folds) < folds[name]}
    differences += [f"{len(pipeline.folds)} of {number} folds" for number in sorted(numbers)]
    trained = [experiment for experiment in pipeline.experiments if experiment.trains]
    differences += _by_network(trained, {name: dataset.layout for name, dataset in pipeline.datasets.items()})
    for name, settings in {m: s for experiment in trained for m, s in experiment.settings.items()}.items():
        if source := fine_tuning.described(settings.model):
            differences.append(f"{name} {source}")
    differences += fine_tuning.leaks(pipeline.experiments, {name: bool(number) for name, number in folds.items()})
    uses_groups = any(arm.clips != "all" for experiment in pipeline.experiments for arm in experiment.arms.values())
    found, usual = pipeline.settings.groups.clear_above, StageSettings().groups.clear_above
    if uses_groups and found != usual:
        differences.append(f"clear expressions above {found:g} instead of {usual:g}")
    return "; ".join(differences)


def _by_network(experiments: Iterable[Experiment], layouts: Mapping[str, str]) -> list[str]:
    """Each value that differs from what is usual for some network, and which networks have it unless all do."""
    networks: set[str] = set()
    usual: dict[str, dict[str, None]] = {}  # a value in words -> what is usual in its place
    having: dict[str, dict[str, None]] = {}  # -> the networks that have it
    for experiment in experiments:
        for name, settings in experiment.settings.items():
            networks.add(name)
            for ours, theirs in _differences(name, settings, layouts[experiment.dataset]):
                usual.setdefault(ours, {})[theirs] = None
                having.setdefault(ours, {})[name] = None
    return [_in_words(ours, list(usual[ours]), list(names), len(networks)) for ours, names in having.items()]


def _in_words(ours: str, usual: Sequence[str], names: Sequence[str], networks: int) -> str:
    """'40 epochs instead of 450, 300 or 100 (13 of 15 networks)'."""
    instead = " or ".join(filter(None, [", ".join(usual[:-1]), usual[-1]]))
    who = f"{len(names)} of {networks} networks" if len(names) > _FEW else ", ".join(names)
    return f"{ours}{f' instead of {instead}' if instead else ''}{'' if len(names) == networks else f' ({who})'}"


def _differences(name: str, settings: StageSettings, layout: str) -> Iterator[tuple[str, str]]:
    """Values of a network's training in words, and what is usual instead."""
    usual = _usual(name, layout)
    for key, words in _NAMED.items():
        ours, theirs = _value(settings, key), _value(usual, key)
        has_none = key == "train.momentum" and settings.train.optimizer != "sgd"
        if ours != theirs and not has_none:
            yield words.format(ours), theirs
    if settings.model.pretrained is None and usual.model.pretrained is not None:
        yield "not pretrained", ""


def _usual(name: str, layout: str) -> StageSettings:
    """The paper's settings, and over them the recipe that a network was published with."""
    default, recipe = network(name), {section: dict(values) for section, values in recipe_of(name).items()}
    paper: dict[str, Any] = {
        "sampling": {"num_segments": default.num_segments},
        "model": {"name": name, "input_size": default.input_size},
        "train": {"learning_rate": _LEARNING_RATES.get(layout, StageSettings().train.learning_rate)},
    }
    return StageSettings.model_validate(merge(paper, recipe))


def _value(settings: StageSettings, key: str) -> str:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value if isinstance(value, str) else f"{value:g}"

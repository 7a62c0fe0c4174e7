"""What a valid configuration may still lack: names that are not defined, paths and packages that do not exist here."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dfer.config.catalogue import Network, network
from dfer.config.file import Source, Tree, mapping, names, read_source
from dfer.config.fine_tuning import problem_with_model
from dfer.config.pipeline import Pipeline
from dfer.config.problems import KeyPath, Problem
from dfer.config.settings import ModelSettings, StageSettings
from dfer.config.suggestions import did_you_mean
from dfer.storage.file_names import CARD, WEIGHTS
from dfer.storage.remote import problem_with_access
from dfer.system.paths import problem_with_path

ARTIFACT_SCHEMES = ("s3", "gs", "file")
"""Object stores to which MLflow, with a database of ours, writes artefacts itself."""

_MODELS = "stages/train in a work folder"
_FILE_SUFFIXES = (".onnx", ".pt", ".pth")
_RUNNER_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}


def check_names(source: Source, name: str, pipeline: Tree) -> None:
    """Note names in a pipeline that are not defined, named twice, or used in a way that makes no sense."""
    here = ("pipelines", name)

    def look_up(at: KeyPath, value: Any, section: str) -> None:
        known, used = mapping(source.tree.get(section)), value if isinstance(value, list) else [value]
        for position, one in enumerate(used):
            if isinstance(one, str) and one not in known:
                keys = (*at, str(position)) if isinstance(value, list) else at
                source.complain(keys, f"{one!r} is not defined under {section}{did_you_mean(one, known)}")
        if twice := _twice(used):
            source.complain(at, f"{', '.join(twice)} is named twice")

    for key, section in (("dataset", "datasets"), ("cross_datasets", "datasets"), ("arms", "arms")):
        look_up((*here, key), pipeline.get(key, []), section)
    if pipeline.get("dataset") in names(pipeline.get("cross_datasets")):
        message = f"{pipeline['dataset']} is what is trained on: it is evaluated on anyway, on the fold left out"
        source.complain((*here, "cross_datasets"), message)
    for key in ("folds", "seeds"):
        for number in _twice(names(pipeline.get(key))):
            source.complain((*here, key), f"{number} is named twice")

    stand_ins, experiments = mapping(pipeline.get("stand_ins")), mapping(pipeline.get("experiments"))
    in_experiments = {str(mapping(e).get(key)) for e in experiments.values() for key in ("dataset", "evaluate_on")}
    for replaced, dataset in stand_ins.items():
        at = (*here, "stand_ins", str(replaced))
        look_up(at, dataset, "datasets")
        if replaced not in in_experiments:
            source.complain(at, f"no experiment names {replaced!r}{did_you_mean(str(replaced), in_experiments)}")
    for experiment, entry in experiments.items():
        for key, section in (("dataset", "datasets"), ("evaluate_on", "datasets"), ("arms", "arms")):
            used = mapping(entry).get(key)
            if used is not None and used not in list(stand_ins):
                look_up((*here, "experiments", str(experiment), key), used, section)
        for key in ("models", "epochs"):
            for value in _twice(names(mapping(entry).get(key))):
                source.complain((*here, "experiments", str(experiment), key), f"{value} is named twice")


def missing_resources(pipeline: Pipeline, path: Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """What a pipeline needs and this machine lacks: folders, weight and detector files, published tables, packages.
    The problems have the lines of `path`, the configuration file; `overrides` are those of `read_config`."""
    source = read_source(path, overrides)
    problems = []

    def check(keys: KeyPath, message: str, section: KeyPath = ()) -> None:
        if message:
            problems.append(Problem(source.line(*section, *keys), ".".join(keys), message))

    check(("work_dir",), _problem_with_work_dir(pipeline.work_dir))
    if pipeline.work_url:
        check(("work_dir",), _problem_with_work_url(pipeline.work_url, pipeline.tracking_uri))
    for name, dataset in pipeline.datasets.items():
        if not dataset.generated:
            check(("datasets", name, "root"), _problem_with_folder(dataset.root))

    trained = [s for experiment in pipeline.experiments if experiment.trains for s in experiment.settings.values()]
    settings = [pipeline.settings, *(s for experiment in pipeline.experiments for s in experiment.settings.values())]
    messages: dict[KeyPath, list[str]] = {
        ("detection", "model"): [_problem_with_file(pipeline.settings.detection.model)],
        ("model", "pretrained"): [
            *(_problem_with_weights(one.model) for one in settings),
            *(problem_with_model(one.model) for one in trained),
        ],
        ("datasets", "layout"): [_problem_with_module(dataset.layout) for dataset in pipeline.datasets.values()],
        ("model", "name"): [_problem_with_module(one.model.name) for one in settings],
        ("sampling",): [_problem_with_frames(one) for one in trained],
        ("train", "schedule"): [one.train.problem_with_schedule() for one in trained],
        ("train", "precision"): [one.train.problem_with_precision() for one in trained],
        ("train", "cuda_graph"): [one.train.problem_with_cuda_graph() for one in trained],
        ("train", "calibrate"): [
            evaluation.training.settings.train.problem_with_calibration()
            for experiment in pipeline.experiments
            for row in experiment.rows(has_folds=True)
            for evaluation in row.evaluations
        ],
    }
    for keys, of_key in messages.items():
        for message in dict.fromkeys(of_key):
            check(keys, message, section=("pipelines", pipeline.name, "settings"))

    arms = {name: arm for experiment in pipeline.experiments for name, arm in experiment.arms.items()}
    trainings = [
        (name, arm, model)
        for experiment in pipeline.experiments
        for name, arm in experiment.arms.items()
        for model in (experiment.settings if experiment.trains else ())
    ]
    for name, arm, model in dict.fromkeys(trainings):
        problem = network(model).problem_with_arm(arm.mixing, arm.method)
        check(("arms", name), problem and f"{model}: {problem}")
    for name, arm in arms.items():
        for key in ("mixing", "normalize", "loss"):
            check(("arms", name, key), _problem_with_module(getattr(arm, key)))

    for keys, message in _problems_with_published(pipeline).items():
        check(keys, message)
    runner = pipeline.run.task_runner
    if runner in _RUNNER_PACKAGES and importlib.util.find_spec(_RUNNER_PACKAGES[runner]) is None:
        check(("run", "task_runner"), f"{runner!r} needs packages that are not installed: pip install 'dfer[{runner}]'")
    return problems


def _twice(values: Sequence[Any]) -> list[str]:
    return [value for value, count in Counter(map(str, values)).items() if count > 1]


def _problem_with_work_dir(work_dir: Path) -> str:
    if problem := problem_with_path(work_dir):
        return problem
    existing = next(folder for folder in (work_dir, *work_dir.parents) if folder.exists())
    usable = existing.is_dir() and os.access(existing, os.W_OK)
    return "" if usable else f"{existing} is not a folder that can be written to"


def _problem_with_work_url(url: str, tracking_uri: str) -> str:
    if tracking_uri.startswith("sqlite:") and url.partition("://")[0] not in ARTIFACT_SCHEMES:
        return (
            f"MLflow cannot keep its artefacts at {url}: give the address of an MLflow server as mlflow.tracking_uri, "
            f"or a work directory of {', '.join(ARTIFACT_SCHEMES)}"
        )
    if url.startswith("s3://") and importlib.util.find_spec("boto3") is None:
        return f"MLflow puts its artefacts at {url} with boto3, which is missing: pip install dfer[s3]"
    return problem_with_access(url)


def _problem_with_folder(folder: Path) -> str:
    if folder.is_dir():
        return ""
    return f"{folder} is a file, expected a folder" if folder.exists() else f"{folder} does not exist"


def _problem_with_file(value: str) -> str:
    """For a value that is a name or a path."""
    is_path = "/" in value or Path(value).suffix in _FILE_SUFFIXES
    return f"{value} does not exist" if is_path and not Path(value).is_file() else ""


def _problem_with_module(name: str) -> str:
    """For a name that may be module:attribute, as far as can be told without loading the module."""
    module, colon, _ = name.partition(":")
    try:
        exists = not colon or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        exists = False
    return "" if exists else f"{name!r}: there is no module {module!r}; is its folder on PYTHONPATH?"


def _problem_with_weights(model: ModelSettings) -> str:
    known = network(model.name).pretrained
    if model.pretrained is None or model.pretrained in known:
        return ""
    path = Path(model.pretrained)
    if path.is_file() or (path / WEIGHTS).is_file():
        return ""
    if path.is_dir():
        return f"{path} holds no trained model: expected {WEIGHTS} and {CARD} in it, as of a folder of {_MODELS}"
    has = f"has {', '.join(known)}" if known else "has none by name"
    return _problem_with_file(model.pretrained) or (
        f"{model.pretrained!r}: {model.name} {has}; give one of them, a weight file, or null"
    )


def _problems_with_published(pipeline: Pipeline) -> dict[KeyPath, str]:
    """Keys -> message, for the published tables that experiments name."""
    wanted = {e.name: e.entry.published for e in pipeline.experiments if e.entry.published is not None}
    if not wanted:
        return {}
    from dfer.config.published import load  # with NumPy, which most configurations do without

    try:
        known = load(pipeline.published)
    except (OSError, ValueError) as error:
        return {("published",): str(error)}
    at = ("pipelines", pipeline.name, "experiments")
    return {
        (*at, experiment, "published"): f"{table!r} is not among {', '.join(known)}"
        for experiment, table in wanted.items()
        if table not in known
    }


def _problem_with_frames(settings: StageSettings) -> str:
    """Why a network cannot be given the frames that it is to see, and the way out; empty if it can."""
    frames, neighbours, shards = settings.sampling.num_segments, settings.sampling.consecutive, settings.shards
    name, size = settings.model.name, settings.model.input_size
    own = network(name)
    if frames < own.fewest or frames % own.multiple:
        return (
            f"{name} needs {_frames_of(own)} frames of a clip, found {frames}: set sampling.num_segments to "
            f"such a number, or to 0 for its own {own.num_segments}"
        )
    if own.one_size and size != own.input_size:
        return (
            f"{name} sees frames of {own.input_size} pixels alone, found {size}: set model.input_size to "
            f"{own.input_size}, or to 0 for its own"
        )
    if frames % neighbours:
        return f"num_segments {frames} is no multiple of consecutive {neighbours}, so many frames at each place"
    if shards.frames_per_segment == "all":
        return ""
    kept = shards.segments * shards.frames_per_segment
    if neighbours > 1:
        return (
            f"{name} sees {neighbours} frames that follow one another, but the shards keep "
            f"{shards.frames_per_segment} of each segment: set shards.frames_per_segment to all (larger shards), or "
            "sampling.consecutive to 1"
        )
    if frames > kept:
        return (
            f"{name} sees {frames} frames of a clip, but the shards keep no more than {kept} "
            f"(shards.segments times shards.frames_per_segment): set shards.segments to {frames}, or "
            f"sampling.num_segments to {kept} or fewer"
        )
    return ""


def _frames_of(own: Network) -> str:
    return f"a multiple of {own.multiple}" if own.multiple > 1 else f"at least {own.fewest}"

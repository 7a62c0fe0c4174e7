"""`pipeline_config.yaml`, read strictly: every problem is reported, with its line, before anything starts."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError

from dfer.config.catalogue import network
from dfer.config.experiments import Experiment
from dfer.config.settings import (
    NO_PASSWORD,
    ConfigFile,
    DatasetSettings,
    DemoDataSettings,
    ExperimentSettings,
    ModelSettings,
    PipelineSettings,
    RunSettings,
    StageSettings,
)
from dfer.storage.remote import is_url, scratch, unreachable
from dfer.storage.store import ForceRerun

DEFAULT_CONFIG = Path("pipeline_config.yaml")
TRACKING_URI = "MLFLOW_TRACKING_URI"

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str, ...]
Tree = dict[str, Any]
# Where MLflow puts files itself, which it does with a database of ours.
ARTIFACT_SCHEMES = ("s3", "gs", "file")
_FILE_SUFFIXES = (".onnx", ".pt", ".pth")
COMMAND_LINE = 0  # the "line" of a value that came by --set
# What may differ between the experiments and networks of one pipeline: faces are aligned once for all of them.
_OF_TRAININGS = ("sampling", "mixing", "model", "groups", "train")
# What a task runner needs beside the rest, which the extra of its name installs.
_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}


@dataclass(frozen=True)
class Problem:
    line: int | None
    key: str
    message: str


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(self.as_text())

    def as_text(self) -> str:
        """One line a problem: where, which key, what was found and what was expected."""
        count = len(self.problems)
        where = [_place(problem.line) for problem in self.problems]
        width = max(map(len, where)), max(len(problem.key) for problem in self.problems)
        lines = [f"{self.path}: {count} problem{'s' if count > 1 else ''}, nothing was started"]
        for place, problem in zip(where, self.problems, strict=True):
            lines.append(f"  {place:<{width[0]}}  {problem.key:<{width[1]}}  {problem.message}".rstrip())
        return "\n".join(lines)


@dataclass(frozen=True)
class Pipeline:
    """One pipeline with everything resolved: names looked up, settings merged, paths absolute."""

    name: str
    description: str
    work_dir: Path  # on this machine; where the work directory is in an object store, the scratch folder for it
    tracking_uri: str
    run: RunSettings
    demo_data: DemoDataSettings
    dataset: str
    folds: tuple[int, ...]
    datasets: Mapping[str, DatasetSettings]  # the ones this pipeline uses
    experiments: tuple[Experiment, ...]
    published: tuple[Path, ...]
    settings: StageSettings
    selected: tuple[str, ...] = ()  # the experiments that were asked for by name, if not all
    again: ForceRerun | None = None  # the stage that is to be run again though its outputs are there
    work_url: str | None = None  # of the work directory, where it is in an object store

    @property
    def workers(self) -> int:
        """Single-threaded processes that work side by side."""
        return self.run.workers or os.cpu_count() or 1

    def only(self, names: Sequence[str]) -> Pipeline:
        """The pipeline with some of its experiments, and the data sets that these need.

        Raises ConfigError for a name that is none of them.
        """
        known = [experiment.name for experiment in self.experiments]
        problems = [
            Problem(
                None, name, f"{self.name} has no such table or figure{_suggest(name, known)}; it has {', '.join(known)}"
            )
            for name in names
            if name not in known
        ]
        if problems:
            raise ConfigError(Path("--only"), problems)
        kept = tuple(experiment for experiment in self.experiments if experiment.name in names)
        used = {name for experiment in kept for name in experiment.datasets}
        datasets = {name: dataset for name, dataset in self.datasets.items() if name in used}
        return replace(self, experiments=kept, datasets=datasets, selected=tuple(e.name for e in kept))

    def as_dict(self) -> Tree:
        """Plain data, for writing down what ran."""
        return {
            "pipeline": self.name,
            "description": self.description,
            "work_dir": self.work_url or str(self.work_dir),
            "dataset": self.dataset,
            "folds": list(self.folds),
            "run": self.run.model_dump(mode="json"),
            "demo_data": self.demo_data.model_dump(mode="json"),
            "datasets": {name: dataset.model_dump(mode="json") for name, dataset in self.datasets.items()},
            "experiments": {experiment.name: _described(experiment) for experiment in self.experiments},
            **self.settings.model_dump(mode="json"),
        }


def _described(experiment: Experiment) -> Tree:
    shown: Tree = {"title": experiment.given.title, "show": experiment.given.show, "dataset": experiment.dataset}
    if experiment.trains:
        shown |= {
            "evaluate_on": experiment.evaluate_on,
            "seeds": list(experiment.seeds),
            "protocol": experiment.protocol,
            "arms": {name: arm.model_dump(mode="json", exclude_defaults=True) for name, arm in experiment.arms.items()},
            "networks": {
                name: {section: getattr(settings, section).model_dump(mode="json") for section in _OF_TRAININGS}
                for name, settings in experiment.settings.items()
            },
        }
    return shown


def read_config(path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> tuple[ConfigFile, list[Pipeline]]:
    """Read and check a configuration file.

    Args:
        path: the YAML file.
        overrides: `key.path=value` pairs with YAML values; they win over the file and over a pipeline's own settings.

    Returns:
        The file as it stands, and every pipeline resolved. Whether data sets lie where they should is not looked at
        here: see `missing_paths`.

    Raises:
        ConfigError: with all problems at once.
    """
    tree, lines, problems = _read_tree(path)
    given = _read_overrides(overrides, problems)
    for keys, value in given:
        lines.update({keys[:end]: COMMAND_LINE for end in range(1, len(keys)) if keys[:end] not in lines})
        lines[keys] = COMMAND_LINE
        tree = _merge(tree, _nest(keys, value))

    file = _validate(ConfigFile, tree, (), lines, problems)
    on_top = [_nest(keys, value) for keys, value in given if keys[0] in StageSettings.model_fields]
    resolved: list[Pipeline] = []
    # walked even where the file as a whole is not valid, so that its problems are reported together
    for name, pipeline in _mapping(tree.get("pipelines")).items():
        problems += _dangling_names(name, _mapping(pipeline), tree, lines)
        layers = _Layers(tree, name, _mapping(pipeline), on_top)
        settings = _stage_settings(layers, None, None, lines, problems)
        per_network = {
            (entry, model): _stage_settings(layers, entry, model, lines, problems)
            for entry, models in layers.experiments().items()
            for model in models
        }
        if file is not None and settings is not None and not problems:
            found = {key: value for key, value in per_network.items() if value is not None}
            resolved.append(_resolve(name, file.pipelines[name], settings, found, file, path))
    if problems:
        raise ConfigError(path, sorted(set(problems), key=lambda p: (p.line is None, p.line or 0, p.key)))
    assert file is not None
    return file, resolved


@dataclass(frozen=True)
class _Layers:
    """What lies over what for one pipeline: sections, a network's own, the pipeline's, an experiment's, --set."""

    tree: Tree
    name: str
    pipeline: Tree
    on_top: list[Tree]

    def experiments(self) -> dict[str | None, list[str]]:
        """Experiment -> the networks it names; None stands for those that a pipeline without experiments has."""
        given = {
            entry: value for entry, value in _mapping(self.pipeline.get("experiments")).items() if value is not None
        }
        default = self.model()
        return {entry: _names(_mapping(value).get("models")) or [default] for entry, value in given.items()} or {
            None: [default]
        }

    def model(self) -> str:
        merged: Tree = _mapping(self.tree.get("model"))
        for layer in (_mapping(self.pipeline.get("settings")), *self.on_top):
            merged = _merge(merged, _mapping(layer.get("model")))
        return str(merged.get("name", ModelSettings().name))

    def merged(self, entry: str | None, model: str) -> Tree:
        merged: Tree = {name: self.tree[name] for name in StageSettings.model_fields if name in self.tree}
        for layer in self._between(entry, model):
            merged = _merge(merged, layer)
        return _merge(merged, {"model": {"name": model}})

    def places(self, entry: str | None, model: str) -> list[tuple[KeyPath, Tree]]:
        """The layers that belong to a network or an experiment, and where they stand in the file."""
        own = _mapping(_mapping(self.pipeline.get("experiments")).get(entry)) if entry else {}
        return [
            (("networks", model), _mapping(_mapping(self.tree.get("networks")).get(model))),
            (("pipelines", self.name, "networks", model), _mapping(_mapping(self.pipeline.get("networks")).get(model))),
            (("pipelines", self.name, "experiments", entry or "", "settings"), _mapping(own.get("settings"))),
        ]

    def _between(self, entry: str | None, model: str) -> list[Tree]:
        of_network, of_network_here, of_experiment = (layer for _, layer in self.places(entry, model))
        return [of_network, _mapping(self.pipeline.get("settings")), of_network_here, of_experiment, *self.on_top]


def _stage_settings(
    layers: _Layers, entry: str | None, model: str | None, lines: Mapping[KeyPath, int], problems: list[Problem]
) -> StageSettings | None:
    """The settings of all stages for one network of one experiment, its frames and size filled in."""
    model = model or layers.model()
    for at, layer in layers.places(entry, model):
        for section in layer:
            if section in StageSettings.model_fields and section not in _OF_TRAININGS:
                message = f"is the same for all of a pipeline; put it under pipelines.{layers.name}.settings"
                problems.append(Problem(_line((*at, section), lines), ".".join((*at, section)), message))
    at = ("pipelines", layers.name, *(("experiments", entry) if entry else ()), "settings")
    settings = _validate(StageSettings, layers.merged(entry, model), at, lines, problems)
    if settings is None:
        return None
    own = network(settings.model.name)
    sampling, size = settings.sampling.num_segments or own.num_segments, settings.model.input_size or own.input_size
    return settings.model_copy(
        update={
            "sampling": settings.sampling.model_copy(update={"num_segments": sampling}),
            "model": settings.model.model_copy(update={"input_size": size}),
        }
    )


def stage_settings(overrides: Sequence[str]) -> StageSettings:
    """The settings of the stages as they are without a configuration file, but for some `key.path=value` pairs.

    Raises:
        ConfigError: with all problems at once.
    """
    problems: list[Problem] = []
    tree: Tree = {}
    given = _read_overrides(overrides, problems)
    for keys, value in given:
        tree = _merge(tree, _nest(keys, value))
    lines = {keys: COMMAND_LINE for keys, _ in given}
    settings = _validate(StageSettings, tree, (), lines, problems)
    if settings is None or problems:
        raise ConfigError(Path("--set"), problems)
    return settings


def load_pipeline(
    name: str, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = (), only: Sequence[str] = ()
) -> Pipeline:
    """One pipeline, ready to run: resolved, and its data sets and model files looked for.

    `only`: the tables and figures that are asked for, and what they need; all of them if none is named.

    Raises:
        ConfigError: everything that is wrong in the file, an unknown name, or paths that do not exist.
    """
    _, pipelines = read_config(path, overrides)
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    if name not in by_name:
        message = f"no such pipeline{_suggest(name, by_name)}; there are {', '.join(by_name)}"
        raise ConfigError(path, [Problem(None, f"pipelines.{name}", message)])
    pipeline = by_name[name].only(only) if only else by_name[name]
    problems = missing_paths(pipeline, path, overrides)
    if problems:
        raise ConfigError(path, problems)
    return pipeline


def missing_paths(pipeline: Pipeline, path: Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """What a pipeline reads or needs and is not there: data sets, weight files, detector files, packages."""
    _, lines, _ = _read_tree(path)
    lines.update({_parse_override(override)[0]: COMMAND_LINE for override in overrides})

    def line_of(*keys: str) -> int | None:
        return _line(keys, lines)

    problems = []
    existing = next(place for place in (pipeline.work_dir, *pipeline.work_dir.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problems.append(Problem(line_of("work_dir"), "work_dir", f"{existing} is not a folder that can be written to"))
    if pipeline.work_url and (why := _unusable_url(pipeline.work_url, pipeline.tracking_uri)):
        problems.append(Problem(line_of("work_dir"), "work_dir", why))
    for name, dataset in pipeline.datasets.items():
        if not dataset.generated and not dataset.root.is_dir():
            found = "is a file, expected a folder" if dataset.root.exists() else "does not exist"
            problems.append(
                Problem(line_of("datasets", name, "root"), f"datasets.{name}.root", f"{dataset.root} {found}")
            )
    settings = [pipeline.settings, *(s for experiment in pipeline.experiments for s in experiment.settings.values())]
    said = {("detection", "model"): [_missing_file(pipeline.settings.detection.model)]}
    for one in settings:
        said.setdefault(("model", "pretrained"), []).append(_unknown_weights(one.model))
    for layout in {dataset.layout for dataset in pipeline.datasets.values()}:
        said.setdefault(("datasets", "layout"), []).append(_missing_module(layout))
    for one in settings:
        said.setdefault(("model", "name"), []).append(_missing_module(one.model.name))
    for (section, key), messages in said.items():
        line = line_of("pipelines", pipeline.name, "settings", section, key)
        problems += [Problem(line, f"{section}.{key}", message) for message in dict.fromkeys(messages) if message]
    problems += _unknown_published(pipeline, line_of)
    runner = pipeline.run.task_runner
    if runner in _PACKAGES and importlib.util.find_spec(_PACKAGES[runner]) is None:
        message = f"{runner!r} needs packages that are not installed: pip install 'dfer[{runner}]'"
        problems.append(Problem(line_of("run", "task_runner"), "run.task_runner", message))
    return problems


def _unusable_url(url: str, tracking_uri: str) -> str:
    """What is wrong with a work directory in an object store; empty if nothing is."""
    if tracking_uri.startswith("sqlite:") and url.partition("://")[0] not in ARTIFACT_SCHEMES:
        return (
            f"MLflow cannot keep its artefacts at {url}: give the address of an MLflow server as mlflow.tracking_uri, "
            f"or a work directory of {', '.join(ARTIFACT_SCHEMES)}"
        )
    if url.startswith("s3://") and importlib.util.find_spec("boto3") is None:
        return f"MLflow puts its artefacts at {url} with boto3, which is missing: pip install dfer[s3]"
    return unreachable(url)


def _missing_file(value: str) -> str:
    """What is wrong with a value that is a name or a path; empty if nothing is."""
    is_path = "/" in value or Path(value).suffix in _FILE_SUFFIXES
    return f"{value} does not exist" if is_path and not Path(value).is_file() else ""


def _missing_module(name: str) -> str:
    """What is wrong with a name of the form module:attribute, as far as can be told without loading the module."""
    module, colon, _ = name.partition(":")
    try:
        found = not colon or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    return "" if found else f"{name!r}: there is no module {module!r}; is its folder on PYTHONPATH?"


def _unknown_weights(model: ModelSettings) -> str:
    known = network(model.name).pretrained
    if model.pretrained is None or model.pretrained in known or Path(model.pretrained).is_file():
        return ""
    has = f"has {', '.join(known)}" if known else "has none by name"
    return _missing_file(model.pretrained) or (
        f"{model.pretrained!r}: {model.name} {has}; give one of them, a weight file, or null"
    )


def _unknown_published(pipeline: Pipeline, line_of: Callable[..., int | None]) -> list[Problem]:
    """Published tables that an experiment wants beside its own and that nobody has written down."""
    asked = [experiment for experiment in pipeline.experiments if experiment.given.published is not None]
    if not asked:
        return []
    from dfer.analysis.published import load

    try:
        known = load(pipeline.published)
    except (OSError, ValueError) as error:
        return [Problem(line_of("published"), "published", str(error))]
    return [
        Problem(
            line_of("pipelines", pipeline.name, "experiments", experiment.name, "published"),
            f"pipelines.{pipeline.name}.experiments.{experiment.name}.published",
            f"{experiment.given.published!r} is not among {', '.join(known)}",
        )
        for experiment in asked
        if experiment.given.published not in known
    ]


def _read_tree(path: Path) -> tuple[Tree, dict[KeyPath, int], list[Problem]]:
    """The file as plain data, with the line of every key."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        message = "no such file: give --config PATH, or go to the folder that holds pipeline_config.yaml"
        raise ConfigError(path, [Problem(None, "", message)]) from None
    except OSError as error:
        raise ConfigError(path, [Problem(None, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem(None, "", f"not UTF-8 text: {error}")]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise ConfigError(path, [Problem(mark.line + 1 if mark else None, "", message)]) from None
    lines: dict[KeyPath, int] = {}
    problems: list[Problem] = []
    merged: list[tuple[yaml.Node, KeyPath]] = []

    def walk(node: yaml.Node, at: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*at, str(key.value))
                if key.tag == "tag:yaml.org,2002:merge":
                    merged.append((value, at))
                    continue
                if here in lines:
                    first = f"already given in line {lines[here]}"
                    problems.append(Problem(key.start_mark.line + 1, ".".join(here), first))
                lines[here] = key.start_mark.line + 1
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                lines[(*at, str(position))] = value.start_mark.line + 1
                walk(value, (*at, str(position)))

    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(path, [Problem(1, "", "expected sections such as 'datasets:' and 'pipelines:'")])
    walk(node, ())
    # what is merged in with << stands where it was written first, unless it is given again
    own, given_twice = dict(lines), list(problems)
    for value, at in merged:
        walk(value, at)
    lines.update(own)
    return yaml.safe_load(path.read_text(encoding="utf-8")), lines, given_twice


def _read_overrides(overrides: Sequence[str], problems: list[Problem]) -> list[tuple[KeyPath, Any]]:
    """The overrides that can be read; the others become problems."""
    given = []
    for override in overrides:
        try:
            given.append(_parse_override(override))
        except ValueError as error:
            problems.append(Problem(COMMAND_LINE, override, str(error)))
    return given


def _parse_override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError("expected KEY.PATH=VALUE, for example train.epochs=2")
    try:
        return tuple(key.split(".")), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"the value {value!r} is not valid YAML") from None


def _nest(keys: KeyPath, value: Any) -> Tree:
    for key in reversed(keys):
        value = {key: value}
    return value


def _merge(below: Tree, above: Tree) -> Tree:
    """`above` laid over `below`, mapping by mapping; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _validate(
    model: type[Model], tree: Tree, at: KeyPath, lines: Mapping[KeyPath, int], problems: list[Problem]
) -> Model | None:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        several = Counter(_keys(item) for item in error.errors())
        for item in error.errors():
            if item["type"] == "literal_error" and several[_keys(item)] > 1:
                continue  # the other branch of a union says it better
            keys = _keys(item)
            line = _line((*at, *keys), lines)
            # a key that a pipeline does not lay over the sections is wrong in the sections themselves
            shown = keys if at and ((*at, *keys) not in lines or line == COMMAND_LINE) else (*at, *keys)
            problems.append(Problem(line, ".".join(shown), _explain(item, model, keys)))
        return None


def _keys(item: Any) -> KeyPath:
    """Where a problem lies, without what pydantic adds inside a union."""
    return tuple(str(key) for key in item["loc"] if key not in ("constrained-int", "int", "literal['all']"))


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
}


def _explain(item: Any, model: type[BaseModel], keys: KeyPath) -> str:
    found = item.get("input")
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key{_suggest(keys[-1], _known_keys(model, keys[:-1]))}"
        case "missing":
            return "missing"
        case "greater_than":
            return f"{found}, expected a number above {item['ctx']['gt']:g}"
        case "greater_than_equal":
            return f"{found}, expected at least {item['ctx']['ge']:g}"
        case "less_than":
            return f"{found}, expected a number below {item['ctx']['lt']:g}"
        case "less_than_equal":
            return f"{found}, expected at most {item['ctx']['le']:g}"
        case "value_error":
            said = str(item["ctx"]["error"])
            # what somebody took for the place of a password is not said again
            return said if isinstance(found, dict) else re.sub("://[^/]*@", "://...@", f"{found!r}, {said}")
        case "literal_error":
            hint = _suggest(str(found), item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
            return f"{found!r}, expected {item['ctx']['expected']}{hint}"
        case kind if kind in _EXPECTED:
            return f"{found!r}, expected {_EXPECTED[kind]}"
        case _:
            return f"{found!r}, {item['msg'][:1].lower()}{item['msg'][1:]}"


def _known_keys(model: type[BaseModel], at: KeyPath) -> list[str]:
    """The field names of the model that lies at `at` inside `model`."""
    for key in at:
        field = model.model_fields.get(key)
        if field is None:
            return []
        annotation = field.annotation
        arguments = getattr(annotation, "__args__", ())
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not arguments:
            model = annotation
        elif arguments and isinstance(arguments[-1], type) and issubclass(arguments[-1], BaseModel):
            # dict[str, Model]: the next key is the entry's name
            return _known_keys(arguments[-1], at[at.index(key) + 2 :])
        else:
            return []
    return list(model.model_fields)


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _line(keys: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """The line of a key, of the section it belongs to below a pipeline's settings, or of the nearest key above it."""
    base = keys[keys.index("settings") + 1 :] if keys[:1] == ("pipelines",) and "settings" in keys else ()
    given = [candidate[:end] for candidate in (keys, base) for end in range(1, len(candidate) + 1)]
    if any(lines.get(prefix) == COMMAND_LINE for prefix in given):
        return COMMAND_LINE
    for candidate in (keys, base):
        if candidate in lines:
            return lines[candidate]
    for candidate in (base, keys):
        for end in range(len(candidate) - 1, 0, -1):
            if candidate[:end] in lines:
                return lines[candidate[:end]]
    return None


def _place(line: int | None) -> str:
    return "--set" if line == COMMAND_LINE else f"line {line}" if line else ""


def _dangling_names(name: str, pipeline: Tree, tree: Tree, lines: Mapping[KeyPath, int]) -> list[Problem]:
    """Names that a pipeline uses and nobody defines, or uses in a way that makes no sense."""
    problems = []

    def complain(keys: KeyPath, message: str) -> None:
        problems.append(Problem(_line(keys, lines), ".".join(keys), message))

    def look_up(at: KeyPath, value: Any, section: str) -> None:
        known, uses = _mapping(tree.get(section)), value if isinstance(value, list) else [value]
        for position, used in enumerate(uses):
            if isinstance(used, str) and used not in known:
                keys = (*at, str(position)) if isinstance(value, list) else at
                complain(keys, f"{used!r} is not defined under {section}{_suggest(used, known)}")
        twice = [used for used, times in Counter(map(str, uses)).items() if times > 1]
        if twice:
            complain(at, f"{', '.join(twice)} is named twice")

    here = ("pipelines", name)
    look_up((*here, "dataset"), pipeline.get("dataset", []), "datasets")
    look_up((*here, "cross_datasets"), pipeline.get("cross_datasets", []), "datasets")
    look_up((*here, "arms"), pipeline.get("arms", []), "arms")
    stand_ins = _mapping(pipeline.get("stand_ins"))
    for meant, taken in stand_ins.items():
        look_up((*here, "stand_ins", str(meant)), taken, "datasets")
    if pipeline.get("dataset") in _names(pipeline.get("cross_datasets")):
        message = f"{pipeline['dataset']} is what is trained on: it is evaluated on anyway, on the fold left out"
        complain((*here, "cross_datasets"), message)
    seeds = pipeline.get("seeds")
    for seed, times in Counter(map(str, seeds if isinstance(seeds, list) else [])).items():
        if times > 1:
            complain((*here, "seeds"), f"{seed} is named twice")
    experiments = [_mapping(value) for value in _mapping(pipeline.get("experiments")).values()]
    asked = {str(value.get(key)) for value in experiments for key in ("dataset", "evaluate_on")}
    for meant in stand_ins:
        if meant not in asked:
            complain((*here, "stand_ins", str(meant)), f"no experiment names {meant!r}{_suggest(str(meant), asked)}")
    for entry, value in _mapping(pipeline.get("experiments")).items():
        for key, section in (("dataset", "datasets"), ("evaluate_on", "datasets"), ("arms", "arms")):
            used = _mapping(value).get(key)
            if used is not None and used not in list(stand_ins):
                look_up((*here, "experiments", str(entry), key), used, section)
    return problems


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _mapping(value: Any) -> Tree:
    """The value where it is a mapping; what it is instead is reported by the model."""
    return value if isinstance(value, dict) else {}


def local_work_dir(file: ConfigFile, path: Path) -> Path:
    """The work directory of a configuration file that lies at `path`; for a URL, the scratch folder for it."""
    return scratch(file.work_dir) if is_url(file.work_dir) else path.resolve().parent / file.work_dir


def _resolve(
    name: str,
    pipeline: PipelineSettings,
    settings: StageSettings,
    per_network: Mapping[tuple[str | None, str], StageSettings],
    file: ConfigFile,
    path: Path,
) -> Pipeline:
    # relative paths belong to the configuration file, wherever the command is typed
    home = path.resolve().parent
    work_dir = local_work_dir(file, path)
    experiments = []
    for entry, given in _experiments(pipeline).items():
        of_model = {
            model: value
            for (of, model), value in per_network.items()
            if of == (entry if pipeline.experiments else None)
        }
        dataset = pipeline.stand_ins.get(given.dataset or "", given.dataset) or pipeline.dataset
        across = pipeline.stand_ins.get(given.evaluate_on or "", given.evaluate_on)
        experiments.append(
            Experiment(
                entry,
                given,
                dataset=dataset,
                evaluate_on=across or dataset,
                arms={arm: file.arms[arm] for arm in given.arms or pipeline.arms},
                settings=of_model,
                folds=tuple(pipeline.folds),
                seeds=tuple(pipeline.seeds) or (settings.train.seed,),
                protocol=given.protocol or settings.train.selection,
            )
        )
    datasets = {}
    for used in dict.fromkeys([pipeline.dataset, *(name for e in experiments for name in e.datasets)]):
        dataset_settings = file.datasets[used]
        root = dataset_settings.root if dataset_settings.generated else home / dataset_settings.root.expanduser()
        datasets[used] = dataset_settings.model_copy(update={"root": root})
    return Pipeline(
        name=name,
        description=pipeline.description,
        work_dir=work_dir,
        tracking_uri=_at_home(file.mlflow.tracking_uri or "", home)
        or _tracking_server()
        or f"sqlite:///{work_dir}/mlflow/mlflow.db",
        run=file.run,
        demo_data=file.demo_data,
        dataset=pipeline.dataset,
        folds=tuple(pipeline.folds),
        datasets=datasets,
        experiments=tuple(experiments),
        published=tuple(home / extra for extra in file.published),
        settings=settings,
        work_url=file.work_dir if is_url(file.work_dir) else None,
    )


def _at_home(uri: str, home: Path) -> str:
    """A tracking address, of a relative path the one below the configuration file's folder."""
    path = uri.removeprefix("sqlite:///")
    return f"sqlite:///{home / path}" if uri.startswith("sqlite:///") else uri


def _tracking_server() -> str:
    """The server that the environment names; empty for none."""
    server = os.environ.get(TRACKING_URI, "")
    if urlsplit(server).password:
        raise ConfigError(Path("environment"), [Problem(None, TRACKING_URI, f"holds a password; {NO_PASSWORD}")])
    return server


def _experiments(pipeline: PipelineSettings) -> dict[str, ExperimentSettings]:
    """The pipeline's tables and figures; one that lists none has its arms on their own test part, and across."""
    if pipeline.experiments:
        return {entry: given for entry, given in pipeline.experiments.items() if given is not None}
    home = pipeline.dataset
    return {
        "own-test-part": ExperimentSettings(title=f"On the test part of {home}", show="per-class"),
        **{f"across-to-{name}": _across(home, name) for name in pipeline.cross_datasets},
        "confusion": ExperimentSettings(title=f"What is taken for what on {home}", show="confusion"),
        "classes": ExperimentSettings(title=f"Clips of each emotion in {home}", show="class-distribution"),
    }


def _across(home: str, name: str) -> ExperimentSettings:
    return ExperimentSettings(title=f"Trained on {home}, tested on {name} without fine-tuning", evaluate_on=name)

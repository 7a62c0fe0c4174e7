"""`pipeline_config.yaml`, read strictly: every problem is reported, with its line, before anything starts."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dfer.settings import (
    ArmSettings,
    ConfigFile,
    DatasetSettings,
    DemoDataSettings,
    PipelineSettings,
    RunSettings,
    StageSettings,
)

DEFAULT_CONFIG = Path("pipeline_config.yaml")

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str, ...]
Tree = dict[str, Any]
_FILE_SUFFIXES = (".onnx", ".pt", ".pth")
COMMAND_LINE = 0  # the "line" of a value that came by --set


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
    work_dir: Path
    tracking_uri: str
    run: RunSettings
    demo_data: DemoDataSettings
    dataset: str
    folds: tuple[int, ...]
    cross_datasets: tuple[str, ...]
    datasets: Mapping[str, DatasetSettings]  # the ones this pipeline uses
    arms: Mapping[str, ArmSettings]
    settings: StageSettings

    @property
    def workers(self) -> int:
        """Single-threaded processes that work side by side."""
        return self.run.workers or os.cpu_count() or 1

    def as_dict(self) -> Tree:
        """Plain data, for writing down what ran."""
        return {
            "pipeline": self.name,
            "description": self.description,
            "work_dir": str(self.work_dir),
            "dataset": self.dataset,
            "folds": list(self.folds),
            "cross_datasets": list(self.cross_datasets),
            "run": self.run.model_dump(mode="json"),
            "demo_data": self.demo_data.model_dump(mode="json"),
            "datasets": {name: dataset.model_dump(mode="json") for name, dataset in self.datasets.items()},
            "arms": {name: arm.model_dump(mode="json") for name, arm in self.arms.items()},
            **self.settings.model_dump(mode="json"),
        }


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
    sections = {name: tree[name] for name in StageSettings.model_fields if name in tree}
    on_top = [_nest(keys, value) for keys, value in given if keys[0] in StageSettings.model_fields]
    resolved: list[Pipeline] = []
    # walked even where the file as a whole is not valid, so that its problems are reported together
    for name, pipeline in _mapping(tree.get("pipelines")).items():
        problems += _dangling_names(name, _mapping(pipeline), tree, lines)
        merged: Tree = sections
        for layer in (_mapping(_mapping(pipeline).get("settings")), *on_top):
            merged = _merge(merged, layer)
        settings = _validate(StageSettings, merged, ("pipelines", name, "settings"), lines, problems)
        if file is not None and settings is not None and not problems:
            resolved.append(_resolve(name, file.pipelines[name], settings, file, path))
    if problems:
        raise ConfigError(path, sorted(set(problems), key=lambda p: (p.line is None, p.line or 0, p.key)))
    assert file is not None
    return file, resolved


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


def load_pipeline(name: str, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> Pipeline:
    """One pipeline, ready to run: resolved, and its data sets and model files looked for.

    Raises:
        ConfigError: everything that is wrong in the file, an unknown name, or paths that do not exist.
    """
    _, pipelines = read_config(path, overrides)
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    if name not in by_name:
        message = f"no such pipeline{_suggest(name, by_name)}; there are {', '.join(by_name)}"
        raise ConfigError(path, [Problem(None, f"pipelines.{name}", message)])
    problems = missing_paths(by_name[name], path, overrides)
    if problems:
        raise ConfigError(path, problems)
    return by_name[name]


def missing_paths(pipeline: Pipeline, path: Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """What a pipeline reads and is not there: data sets, weight files, detector files."""
    _, lines, _ = _read_tree(path)
    lines.update({_parse_override(override)[0]: COMMAND_LINE for override in overrides})

    def line_of(*keys: str) -> int | None:
        return _line(keys, lines)

    problems = []
    existing = next(place for place in (pipeline.work_dir, *pipeline.work_dir.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problems.append(Problem(line_of("work_dir"), "work_dir", f"{existing} is not a folder that can be written to"))
    for name, dataset in pipeline.datasets.items():
        if not dataset.generated and not dataset.root.is_dir():
            found = "is a file, expected a folder" if dataset.root.exists() else "does not exist"
            problems.append(
                Problem(line_of("datasets", name, "root"), f"datasets.{name}.root", f"{dataset.root} {found}")
            )
    files = (
        ("model", "pretrained", pipeline.settings.model.pretrained),
        ("detection", "model", pipeline.settings.detection.model),
    )
    for section, key, value in files:
        if value is not None and ("/" in value or Path(value).suffix in _FILE_SUFFIXES) and not Path(value).is_file():
            line = line_of("pipelines", pipeline.name, "settings", section, key)
            problems.append(Problem(line, f"{section}.{key}", f"{value} does not exist"))
    return problems


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

    def walk(node: yaml.Node, at: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*at, str(key.value))
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
    return yaml.safe_load(path.read_text(encoding="utf-8")), lines, problems


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
    base = keys[3:] if keys[:1] == ("pipelines",) and keys[2:3] == ("settings",) else ()
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
    """Names that a pipeline uses and nobody defines."""
    problems = []
    for key, section in (("dataset", "datasets"), ("cross_datasets", "datasets"), ("arms", "arms")):
        value, known = pipeline.get(key, []), _mapping(tree.get(section))
        uses = value if isinstance(value, list) else [value]
        for position, used in enumerate(uses):
            if isinstance(used, str) and used not in known:
                keys = ("pipelines", name, key, *([str(position)] if isinstance(value, list) else []))
                message = f"{used!r} is not defined under {section}{_suggest(used, known)}"
                problems.append(Problem(_line(keys, lines), ".".join(keys), message))
        twice = [used for used, times in Counter(map(str, uses)).items() if times > 1]
        if twice:
            keys = ("pipelines", name, key)
            problems.append(Problem(_line(keys, lines), ".".join(keys), f"{', '.join(twice)} is named twice"))
    if pipeline.get("dataset") in (across := pipeline.get("cross_datasets") or []) and isinstance(across, list):
        keys = ("pipelines", name, "cross_datasets")
        message = f"{pipeline['dataset']} is what is trained on: it is evaluated on anyway, on the fold left out"
        problems.append(Problem(_line(keys, lines), ".".join(keys), message))
    return problems


def _mapping(value: Any) -> Tree:
    """The value where it is a mapping; what it is instead is reported by the model."""
    return value if isinstance(value, dict) else {}


def _resolve(name: str, pipeline: PipelineSettings, settings: StageSettings, file: ConfigFile, path: Path) -> Pipeline:
    # relative paths belong to the configuration file, wherever the command is typed
    home = path.resolve().parent
    work_dir = home / file.work_dir
    datasets = {}
    for used in (pipeline.dataset, *pipeline.cross_datasets):
        dataset = file.datasets[used]
        root = dataset.root if dataset.generated else home / dataset.root.expanduser()
        datasets[used] = dataset.model_copy(update={"root": root})
    return Pipeline(
        name=name,
        description=pipeline.description,
        work_dir=work_dir,
        tracking_uri=file.mlflow.tracking_uri or f"sqlite:///{work_dir}/mlflow/mlflow.db",
        run=file.run,
        demo_data=file.demo_data,
        dataset=pipeline.dataset,
        folds=tuple(pipeline.folds),
        cross_datasets=tuple(pipeline.cross_datasets),
        datasets=datasets,
        arms={arm: file.arms[arm] for arm in pipeline.arms},
        settings=settings,
    )

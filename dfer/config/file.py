"""The configuration file and --set as they were written: plain data, and the place of every key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dfer.config import yaml_text
from dfer.config.problems import COMMAND_LINE, ConfigError, KeyPath, Problem, describe, keys_of, shown

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Source:
    """A configuration as it was written, and what is wrong with it so far.

    Attributes:
        tree: its content, with the overrides laid over it.
        lines: key -> its line; COMMAND_LINE for the keys of overrides.
        overrides: those that can be read; the others are among `problems`.
    """

    path: Path
    tree: Tree = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: list[tuple[KeyPath, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def override(self, overrides: Sequence[str]) -> None:
        """Lay `key.path=value` pairs over the tree."""
        for override in overrides:
            try:
                keys, value = parse_override(override)
            except ValueError as error:
                self.problems.append(Problem(COMMAND_LINE, override[:80], str(error)))
                continue
            self.overrides.append((keys, value))
            self.lines.update({keys[:end]: COMMAND_LINE for end in range(1, len(keys)) if keys[:end] not in self.lines})
            self.lines[keys] = COMMAND_LINE
            self.tree = merge(self.tree, nest(keys, value))

    def line(self, *keys: str) -> int | None:
        """The line where a key is written, or one that it comes from: of the same key in the sections that a pipeline's
        settings are laid over, or of the nearest key above."""
        match keys:
            case ("pipelines", _, "settings", *below) | ("pipelines", _, "experiments", _, "settings", *below):
                in_section = tuple(below)
            case _:
                in_section = ()
        above = [part[:end] for part in (in_section, keys) for end in range(len(part) - 1, 0, -1)]
        lines = [self.lines[key] for key in (keys, in_section, *above) if key in self.lines]
        return COMMAND_LINE if COMMAND_LINE in lines else lines[0] if lines else None

    def complain(self, keys: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.line(*keys), ".".join(keys), message))

    def validate(self, model: type[Model], tree: Tree, at: KeyPath = ()) -> Model | None:
        """A part of the configuration as a model; None if it is not valid, which is noted in `problems`.
        `at` is the key under which its values are written; those that are not there come from the sections."""
        try:
            return model.model_validate(tree)
        except ValidationError as error:
            located = [(keys_of(item, tree), item) for item in error.errors()]
        count = Counter(keys for keys, _ in located)
        for keys, item in located:
            if item["type"] == "literal_error" and count[keys] > 1:
                continue  # the other type of a union has the better message
            line = self.line(*at, *keys)
            written_here = (*at, *keys) in self.lines and line != COMMAND_LINE
            shown = (*at, *keys) if written_here or not at else keys
            self.problems.append(Problem(line, ".".join(shown), describe(item, model, keys)))
        return None


def read_source(path: Path, overrides: Sequence[str] = ()) -> Source:
    """Read a YAML file and lay overrides over it. ConfigError if it cannot be read, or is not a YAML mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        node, tree = yaml_text.load(text)
    except FileNotFoundError:
        message = "no such file: give --config PATH, or go to the folder that holds pipeline_config.yaml"
        raise ConfigError(path, [Problem(None, "", message)]) from None
    except OSError as error:
        raise ConfigError(path, [Problem(None, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem(None, "", f"not UTF-8 text: {error}")]) from None
    except yaml_text.YamlError as error:
        raise ConfigError(path, [Problem(error.line, "", f"not valid YAML: {error}")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(path, [Problem(1, "", "expected sections such as 'datasets:' and 'pipelines:'")])
    lines, problems = _lines_of(node)
    source = Source(path, tree, lines, problems=problems)
    source.override(overrides)
    return source


def _lines_of(root: yaml.Node) -> tuple[dict[KeyPath, int], list[Problem]]:
    """The line of every key, and the keys that are given twice."""
    lines: dict[KeyPath, int] = {}
    problems: list[Problem] = []
    merged: list[tuple[yaml.Node, KeyPath]] = []

    def walk(node: yaml.Node, at: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                keys, line = (*at, str(key.value)), key.start_mark.line + 1
                if key.tag == _MERGE:
                    merged.append((value, at))
                    continue
                if keys in lines:
                    problems.append(Problem(line, ".".join(keys), f"already given in line {lines[keys]}"))
                lines[keys] = line
                walk(value, keys)
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                lines[(*at, str(position))] = value.start_mark.line + 1
                walk(value, (*at, str(position)))

    walk(root, ())
    # keys merged in with << have the line where they were written first, unless they are given again
    outside, twice = dict(lines), list(problems)
    for value, at in merged:
        walk(value, at)
    return {**lines, **outside}, twice


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Keys and value of `key.path=value`, the value read as YAML. ValueError if it is not of this form."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError("expected KEY.PATH=VALUE, for example train.epochs=2")
    try:
        return tuple(key.split(".")), yaml_text.load(value)[1]
    except yaml_text.YamlError as error:
        raise ValueError(f"the value {shown(value)} is not valid YAML: {error}") from None


def nest(keys: KeyPath, value: Any) -> Tree:
    """A tree with one value."""
    for key in reversed(keys):
        value = {key: value}
    return value


def merge(below: Tree, above: Tree) -> Tree:
    """`above` laid over `below`, mapping by mapping; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def mapping(value: Any) -> Tree:
    """The value if it is a mapping, otherwise an empty one: the model reports what it is instead."""
    return value if isinstance(value, dict) else {}


def names(value: Any) -> list[str]:
    """The value as a list of names if it is a list, otherwise an empty one."""
    return [str(name) for name in value] if isinstance(value, list) else []

"""What can be wrong with a configuration or a command's arguments, in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from dfer.config.suggestions import did_you_mean

KeyPath = tuple[str, ...]

COMMAND_LINE = 0
"""The "line" of a value that was given by --set."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which line of the configuration file (COMMAND_LINE for --set, None if in none), at
    which key (with those above it, joined by dots), and what was found and expected there."""

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
        """One line per problem: where, which key, what was found and what was expected."""
        count = len(self.problems)
        places = [_place(problem.line) for problem in self.problems]
        width = max(map(len, places)), max(len(problem.key) for problem in self.problems)
        lines = [f"{self.path}: {count} problem{'s' if count > 1 else ''}, nothing was started"]
        for place, problem in zip(places, self.problems, strict=True):
            lines.append(f"  {place:<{width[0]}}  {problem.key:<{width[1]}}  {problem.message}".rstrip())
        return "\n".join(lines)


class InputError(Exception):
    """A command cannot start with these arguments; nothing has been written."""


def keys_of(error: Mapping[str, Any], tree: Any) -> KeyPath:
    """The keys that lead to an error of pydantic in `tree`, without the types of a union that pydantic puts between."""
    keys = []
    for key in error["loc"]:
        # an index of a list that is too short is that of what is missing
        in_list = isinstance(tree, list) and isinstance(key, int) and key < len(tree)
        if in_list or (isinstance(tree, dict) and key in tree):
            keys.append(str(key))
            tree = tree[key]
    return (*keys, str(error["loc"][-1])) if error["type"] == "missing" else tuple(keys)


def describe(error: Mapping[str, Any], model: type[BaseModel], keys: KeyPath) -> str:
    """One of pydantic's `ValidationError.errors()`, at `keys` of `model`: the value, and what was expected."""
    value, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(keys[-1], _fields_at(model, keys[:-1]))}"
        case "missing":
            return "missing"
        case kind if kind in _BOUNDS:
            words, limit = _BOUNDS[kind]
            return f"{value}, expected {words} {context[limit]:g}"
        case "value_error":
            # the value is left out where it is a section, and where it may contain a password
            whole = isinstance(value, dict) or (isinstance(value, str) and "://" in value and "@" in value)
            return str(context["error"]) if whole else f"{shown(value)}, {context['error']}"
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"{shown(value)}, expected {context['expected']}{did_you_mean(str(value)[:80], choices)}"
        case kind if kind in _TYPES:
            return f"{shown(value)}, expected {_TYPES[kind]}"
        case _:
            return f"{shown(value)}, {error['msg'][:1].lower()}{error['msg'][1:]}"


def shown(value: Any) -> str:
    """The value as Python writes it, shortened: a list can be as long as the file."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:190]} ... ({len(text):,} characters)"


_BOUNDS = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
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


def _fields_at(annotation: Any, keys: KeyPath) -> list[str]:
    """The keys that are allowed at `keys` inside a value of this type; none where any are."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not keys:
            return list(annotation.model_fields)
        field = annotation.model_fields.get(keys[0])
        return _fields_at(field.annotation, keys[1:]) if field else []
    below = keys[1:] if get_origin(annotation) in (dict, list) else keys
    return next((fields for part in get_args(annotation) if (fields := _fields_at(part, below))), [])


def _place(line: int | None) -> str:
    return "--set" if line == COMMAND_LINE else f"line {line}" if line else ""

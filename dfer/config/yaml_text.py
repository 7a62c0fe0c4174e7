"""YAML from outside: plain data within limits, and errors that name the line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MOST_CHARACTERS = 200_000
MOST_VALUES = 20_000
"""With every alias written out. The configuration that comes with the project has some 1,000."""
MOST_LEVELS = 50

_MERGE, _VALUE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"  # of << and =
_TAGS = frozenset({*yaml.SafeLoader.yaml_constructors, _MERGE, _VALUE})


class YamlError(ValueError):
    """A text that cannot be read: the message says why, `line` where, from 1, None if that is not known."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def load(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of a YAML text, with the lines of everything, and its plain data.

    Raises YamlError for a text that is no YAML, for tags of other programs, and for one beyond the limits: a few
    aliases of aliases stand for more values than fit in memory.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"{len(text):,} characters, expected at most {MOST_CHARACTERS:,}", None)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _count(node, {}, ())
            for scalar in _scalars(node):
                _check_value(scalar)
        return node, yaml.safe_load(text)
    except yaml.reader.ReaderError as error:
        message = f"the character U+{error.character:04X} cannot be part of YAML"
        raise YamlError(message, text.count("\n", 0, error.position) + 1) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise YamlError(problem, mark.line + 1 if mark else None) from None
    except RecursionError:
        raise YamlError(f"nested more than {MOST_LEVELS} levels deep", None) from None


def _count(node: yaml.Node, counted: dict[yaml.Node, int], above: tuple[yaml.Node, ...]) -> int:
    """The number of values below a node with every alias written out. Raises YamlError for too many, or a circle."""
    line = node.start_mark.line + 1
    if node in above:
        raise YamlError(f"the alias of what is given in line {line} stands inside of it", line)
    if len(above) > MOST_LEVELS:
        raise YamlError(f"nested more than {MOST_LEVELS} levels deep", line)
    if node not in counted:
        if node.tag not in _TAGS:
            raise YamlError(f"the tag {node.tag!r} of another program means nothing here: remove it", line)
        below = 1
        for child in _children(node):
            below += _count(child, counted, (*above, node))
            if below > MOST_VALUES:
                raise YamlError(f"its aliases (*name) stand for more than {MOST_VALUES:,} values", line)
        counted[node] = below
    return counted[node]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _scalars(root: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Every scalar once, whatever the number of its aliases."""
    seen, waiting = set(), [root]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += _children(node)
            if isinstance(node, yaml.ScalarNode) and node.tag != _MERGE:
                yield node


def _check_value(node: yaml.ScalarNode) -> None:
    """PyYAML's own errors for values such as the 30th of February do not say where."""
    try:
        yaml.SafeLoader("").construct_object(node)
    except Exception:  # PyYAML converts the text as it is: IndexError, KeyError, ValueError, OverflowError, ...
        kind = node.tag.rpartition(":")[2]
        raise YamlError(
            f"{node.value[:80]!r} is no {kind}; put quotes around a text", node.start_mark.line + 1
        ) from None

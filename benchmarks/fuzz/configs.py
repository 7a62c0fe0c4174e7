"""Damaged configurations: the shipped one with other bytes, lines and values, and odd values for `--set`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fuzz import values
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Outcome, Plan
from dfer.config.checks import missing_resources
from dfer.config.problems import ConfigError
from dfer.config.reading import read_config, stage_settings

_SHIPPED = Path(__file__).parents[2] / "pipeline_config.yaml"
_WAYS = ("bytes", "lines", "values", "values", "more values", "--set", "--set", "--set of a key that exists")


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: a configuration, and what is given with --set."""
    data = _SHIPPED.read_bytes()
    overrides: list[str] = []
    what = "unchanged" if chance.random() < 0.02 else chance.choice(_WAYS)
    if what == "bytes":
        data = MUTATIONS[chance.choice(list(MUTATIONS))](chance, data, data)
    elif what == "lines":
        data = _lines(chance, data)
    elif "values" in what:
        tree = yaml.safe_load(data)
        for _ in range(1 if what == "values" else chance.randint(2, 6)):
            _other_value(chance, tree)
        data = yaml.safe_dump(tree, sort_keys=False, allow_unicode=chance.random() < 0.5).encode("utf-8", "replace")
    elif "--set" in what:
        keys = _keys(yaml.safe_load(data))
        for _ in range(chance.choice((1, 1, 2))):
            known = what != "--set" or chance.random() < 0.5
            key = chance.choice(list(keys)) if known else values.draw(values.texts, chance)
            overrides.append(f"{key}={_written(keys.get(key), chance)}")
    (folder / "pipeline_config.yaml").write_bytes(data)
    return Plan("configs", what, good=what == "unchanged", more={"overrides": overrides})


def check(folder: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read the configuration as every command does; what is accepted must be storable as JSON, as cache keys are."""
    path, overrides = folder / "pipeline_config.yaml", plan.more["overrides"]
    problem = ""
    try:
        stage_settings(overrides)
    except ConfigError as error:
        problem = _problem_with(error)
    try:
        file, pipelines = read_config(path, overrides)
        found = [
            one
            for pipeline in pipelines
            if not pipeline.work_url
            for one in missing_resources(pipeline, path, overrides)
        ]
        if any(not one.message for one in found):
            problem = problem or "a problem without a message"
    except ConfigError as error:
        problem = problem or _problem_with(error)
        if plan.good:
            problem = f"the good configuration is refused: {error}"
        return Outcome("refused", _kind_of(error.problems[0].message), problem)
    for pipeline in pipelines:
        _storable(pipeline.as_dict())
    _storable(file.model_dump(mode="json"))
    return Outcome("kept", problem=problem)


def _kind_of(message: str) -> str:
    kinds = ("not valid YAML", "not UTF-8", "unknown key", "missing", "already given", "is not defined", "expected")
    return next((kind for kind in kinds if kind in message), "another problem")


def _storable(tree: Any) -> None:
    json.dumps(tree, allow_nan=False).encode()
    json.dumps(tree, ensure_ascii=False).encode()


def _problem_with(error: ConfigError) -> str:
    if not error.problems or not all(problem.message for problem in error.problems):
        return f"refused without a reason: {error}"
    if len(longest := max(error.as_text().splitlines(), key=len)) > 20_000:
        return f"a message of {len(longest)} characters"
    return ""


def _lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        match chance.choice(("twice", "missing", "indented", "less indented", "colon", "tab", "anchor")):
            case "twice":
                lines.insert(chance.randrange(len(lines)), lines[at])
            case "missing":
                del lines[at]
            case "indented":
                lines[at] = b"  " + lines[at]
            case "less indented":
                lines[at] = lines[at].removeprefix(b"  ")
            case "colon":
                lines[at] = lines[at].replace(b":", chance.choice((b"", b"::", b":{", b": [", b": *x", b": !!int ")), 1)
            case "tab":
                lines[at] = b"\t" + lines[at]
            case _:
                lines[at] = lines[at].replace(
                    b": ", chance.choice((b": &a ", b": *tables ", b": !x ", b": <<", b": | "))
                )
    return b"".join(lines)


def _other_value(chance: random.Random, tree: Any) -> None:
    """Replace one value, key or list item anywhere in the tree."""
    while True:
        items = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
        key, value = chance.choice(items)
        if isinstance(value, (dict, list)) and value and chance.random() < 0.8:
            tree = value
            continue
        if isinstance(tree, dict) and chance.random() < 0.15:
            tree[values.scalar(chance)] = tree.pop(key)
        else:
            tree[key] = values.like(value, chance)
        return


def _keys(tree: Any, at: str = "") -> dict[str, Any]:
    """The keys of a tree, joined by dots, and their values."""
    keys = {at: tree} if at else {}
    for name, value in tree.items() if isinstance(tree, dict) else ():
        keys |= _keys(value, f"{at}.{name}" if at else str(name))
    return keys


def _written(value: Any, chance: random.Random) -> str:
    """A value as a person might write it in place of another one: YAML, or any text."""
    if chance.random() < 0.3:
        return values.draw(values.texts, chance)
    dumped = yaml.safe_dump(values.like(value, chance), default_flow_style=True, sort_keys=False)
    return dumped.removesuffix("...\n").strip()

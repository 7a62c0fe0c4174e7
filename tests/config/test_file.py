"""The YAML file with the lines of its keys, and --set over it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from config_texts import VALID, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.config.file import Source, Tree, merge, nest, parse_override, read_source
from dfer.config.problems import COMMAND_LINE, ConfigError
from dfer.config.reading import read_config

KEYS = st.text("abc_-1", min_size=1, max_size=3).filter(lambda key: isinstance(yaml.safe_load(key), str))
VALUES = (
    st.none() | st.booleans() | st.integers() | st.text("ab '\":,#", max_size=5) | st.lists(st.integers(), max_size=3)
)
TREES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3), lambda inner: st.dictionaries(KEYS, VALUES | inner, max_size=3)
)


def leaves(tree: Tree, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Keys -> value, for all values that are no mapping with something in it."""
    found = {}
    for key, value in tree.items():
        found |= leaves(value, (*at, key)) if isinstance(value, dict) and value else {(*at, key): value}
    return found


@settings(deadline=None)
@given(TREES, TREES)
def test_a_layer_wins_where_it_has_values_and_leaves_the_others(below, above):
    before = copy.deepcopy((below, above))
    merged = leaves(merge(below, above))
    assert {keys: merged.get(keys) for keys, value in leaves(above).items() if value != {}} == {
        keys: value for keys, value in leaves(above).items() if value != {}
    }
    over = leaves(above)
    for keys, value in leaves(below).items():
        if not any(keys[: len(other)] == other or other[: len(keys)] == keys for other in over):
            assert merged[keys] == value
    assert (below, above) == before


@settings(deadline=None)
@given(TREES)
def test_a_layer_over_itself_or_nothing_changes_nothing(tree):
    assert merge(tree, tree) == merge(tree, {}) == merge({}, tree) == tree


@settings(deadline=None)
@given(TREES)
def test_layers_of_single_values_make_the_whole(tree):
    merged: Tree = {}
    for keys, value in leaves(tree).items():
        merged = merge(merged, nest(keys, value))
    assert merged == tree


@settings(deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=3), VALUES | TREES)
def test_an_override_is_read_as_it_was_written(keys, value):
    text = f"{'.'.join(keys)}={yaml.safe_dump(value, default_flow_style=True)}"
    assert parse_override(text) == (tuple(keys), value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("train.epochs", "KEY.PATH=VALUE"), ("=1", "KEY.PATH=VALUE"), ("a..b=1", "KEY.PATH=VALUE"), ("a=[", "not valid")],
)
def test_what_is_no_override_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_override(text)


@settings(deadline=None)
@given(tree=TREES.filter(bool))
def test_every_key_has_its_line(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "lines.yaml"
    path.write_text(yaml.safe_dump(tree, width=1000))
    source, lines = read_source(path), path.read_text().splitlines()
    assert source.tree == tree
    mappings = {keys: line for keys, line in source.lines.items() if not keys[-1].isdigit()}
    assert set(leaves(tree)) <= set(mappings)
    assert all(lines[line - 1].strip().startswith(f"{keys[-1]}:") for keys, line in mappings.items())


def test_what_is_merged_in_has_the_line_where_it_was_written_first(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &a\n  x: 1\n  y: 2\nb:\n  <<: *a\n  y: 3\n")
    source = read_source(path)
    assert source.tree["b"] == {"x": 1, "y": 3}
    assert (source.line("b", "x"), source.line("b", "y")) == (2, 6)
    assert source.problems == []


@pytest.mark.parametrize("name", ["one", "settings"])
def test_settings_of_a_pipeline_come_from_the_sections(name):
    source = Source(
        path=None,  # type: ignore[arg-type]
        lines={("train",): 3, ("train", "epochs"): 4, ("pipelines", name): 9, ("arms",): COMMAND_LINE},
    )
    assert source.line("pipelines", name, "settings", "train", "epochs") == 4
    assert source.line("pipelines", name, "experiments", "settings", "settings", "train", "seed") == 3
    assert source.line("pipelines", name, "arms", "0") == 9
    assert source.line("pipelines", name, "settings", "mixing", "alpha") == 9
    assert source.line("run") is None


def test_the_keys_above_an_override_come_from_the_command_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train: {epochs: 3}\n")
    source = read_source(path, ["train.seed=1", "model.width=1", "model.width=0.5"])
    assert source.tree == {"train": {"epochs": 3, "seed": 1}, "model": {"width": 0.5}}
    assert (source.line("train", "epochs"), source.line("train", "seed")) == (1, COMMAND_LINE)
    assert source.line("model", "dropout") == COMMAND_LINE


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "datasets: {", "\t"])
def test_files_that_are_no_configuration(tmp_path, text):
    assert len(problems(tmp_path, text)) == 1


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="--config PATH"):
        read_config(tmp_path / "nowhere.yaml")


def test_a_mistake_on_the_command_line_is_blamed_on_it_and_once(tmp_path):
    found = problems(tmp_path, VALID, "train.epochs=abc", "pipelines.one.arms=[midsa]")
    assert [(line, key) for line, key, _ in found] == [(0, "pipelines.one.arms.0"), (0, "train.epochs")]

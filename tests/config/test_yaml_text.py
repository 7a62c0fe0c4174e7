"""YAML from outside, in files and after --set."""

from __future__ import annotations

import time

import pytest

from dfer.config import yaml_text
from dfer.config.file import parse_override, read_source
from dfer.config.problems import ConfigError
from dfer.config.published import load as load_published
from dfer.config.reading import stage_settings

# ten of ten of ten ...: 10^9 values in 500 characters
LISTS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: !secret key", 2, "the tag '!secret' of another program means nothing here"),
        ("a: !!python/object/apply:os.system [ls]", 1, "of another program"),
        (LISTS, 5, "stand for more than 20,000 values"),
        (MERGES, 5, "stand for more than 20,000 values"),
        ("\na: &a [*a]", 2, "stands inside of it"),
        ("a: 1\nb: 2001-02-30", 2, "'2001-02-30' is no timestamp; put quotes"),
        ("a: !!int ''", 1, "'' is no int"),
        ("a: 1\nb: \0", 2, "the character U+0000 cannot be part of YAML"),
        ("[" * 5000, None, "nested more than 50 levels"),
        ("[" * 60 + "]" * 60, 1, "nested more than 50 levels"),
        ("a: =", 1, "'=' is no value; put quotes"),
        ("a: " + "x" * 200_000, None, "200,003 characters, expected at most"),
        ("a: [", 1, "expected the node content"),
    ],
)
def test_what_is_refused(text: str, line: int | None, message: str, tmp_path) -> None:
    began = time.perf_counter()
    with pytest.raises(yaml_text.YamlError) as error:
        yaml_text.load(text)
    assert (error.value.line, message in str(error.value)) == (line, True)
    assert time.perf_counter() - began < 5
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_source(path)
    assert refused.value.problems[0].line == line
    with pytest.raises(ValueError, match=r"c\.yaml cannot be read as YAML") as unread:
        load_published([path])
    assert message in str(unread.value)
    with pytest.raises(ValueError, match="is not valid YAML") as override:
        parse_override(f"train.epochs={text}")
    assert len(str(override.value)) < 600
    with pytest.raises(ConfigError, match="--set"):
        stage_settings([f"train.epochs={text}"])


def test_tags_anchors_and_merges_of_yaml_itself_are_read() -> None:
    text = "a: &a {x: !!int '1', y: !!str 2}\nb: {<<: *a, y: [*a, *a]}\nc: !!set {k}"
    one = {"x": 1, "y": "2"}
    assert yaml_text.load(text)[1] == {"a": one, "b": {"x": 1, "y": [one, one]}, "c": {"k"}}
    assert yaml_text.load("") == (None, None)


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(ConfigError, match=r"\.\.\. \(15,000 characters\), expected a whole number"):
        stage_settings([f"train.epochs=[{'1, ' * 5000}]"])

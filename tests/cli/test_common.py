"""What the commands print: names from outside are shown as they are."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pytest
import typer

from dfer.cli import common, data
from dfer.cli.app import app
from dfer.faces.index import SCHEMA

ROOT = Path(__file__).parents[2]
NAMES = ("Interview [part 1].mp4", "text [bold]end[/bold].mp4", "a [/b] c.mp4", "[red]", ":heart:.mp4", "\\[x].mp4")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("console", ["out", "err"])
def test_names_are_no_markup(name: str, console: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = common.new_table(name, name)
    table.add_row(name)
    getattr(common, console).print(f"- {name}", table)
    printed = "".join(capsys.readouterr())
    assert printed.count(name) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_aligned_clips(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = dict.fromkeys(SCHEMA.names, 0) | {"clip_id": name, "status": "failed", "reason": "error", "detail": name}
    data._print_index(pd.DataFrame([row | {"remarks": name}]), Path("x") / name, {name: Path("elsewhere")})
    printed = "".join(capsys.readouterr().out.split())  # names wrap in a narrow table
    assert printed.count("".join(name.split())) >= 3
    assert "error:" in printed


@pytest.mark.parametrize(("command", "text"), [("align", "[/x].mp4"), ("status", "[/x]"), ("compare", "[/x]")])
def test_arguments_in_messages(dfer, tmp_path: Path, command: str, text: str) -> None:
    arguments = (
        (text, "--out", str(tmp_path / "faces")) if command == "align" else (text, "demo/hard")[: len(command) - 5]
    )
    status, printed = dfer(command, *arguments)
    assert status == 2
    assert text in printed


_OFF = {"Console": {"markup", "emoji"}, "TextColumn": {"markup"}}


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for folder in ("benchmarks", "dfer", "flows", "tasks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_nothing_that_prints_reads_markup() -> None:
    """Every console and column of text is told so, and nothing makes text of markup."""
    checked = set()
    for place, node in _nodes():
        if isinstance(node, ast.ImportFrom) and node.module == "rich":
            assert "print" not in {name.name for name in node.names}, f"{place}: prints with a console of its own"
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        for option in _OFF.get(name, ()):
            assert options.get(option) is False, f"{place}: {name} without {option}=False"
            checked.add(name)
        assert options.get("markup") is not True, place
        assert name != "from_markup", place
        # a bar's own columns read markup; those of `Terminal` are among the columns checked above
        if name == "add_task" and not place.startswith("tasks/running/progress.py:"):
            assert isinstance(node.args[0], ast.Constant), f"{place}: a bar with a title that is not written here"
    assert checked == _OFF.keys()


def _callbacks(group: typer.Typer) -> Iterator[Callable[..., Any]]:
    yield from (command.callback for command in group.registered_commands if command.callback)
    for below in group.registered_groups:
        if below.typer_instance is not None:
            yield from _callbacks(below.typer_instance)


def test_home_is_filled_in_wherever_a_path_is_asked_for() -> None:
    """A parameter that typer reads itself would leave `--out=~/faces` as it is."""
    parsers = {}
    for callback in _callbacks(app):
        for name, hint in get_type_hints(callback, include_extras=True).items():
            if "Path" in str(hint):
                parsers[f"{callback.__name__} {name}"] = [getattr(one, "parser", None) for one in hint.__metadata__]
    assert {"align folder", "align videos", "align config", "run config", "analyse_votes folder"} <= set(parsers)
    assert {name: parser for name, parser in parsers.items() if parser != [common.user_path]} == {}


def test_a_home_in_an_option_and_in_a_file(dfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    sets = ["--set=work_dir=~/work", "--set=datasets.dfew.root=~/data"]
    monkeypatch.setattr(common.out, "_width", 400)
    assert str(tmp_path / "data") in dfer("datasets", *sets)[1]
    status, printed = dfer("clean", *sets)
    assert (status, f"{tmp_path / 'work'} holds no stage outputs" in " ".join(printed.split())) == (0, True)
    status, printed = dfer("align", "~/nowhere.mp4", "--out=~/faces")
    assert (status, f"{tmp_path / 'nowhere.mp4'} does not exist" in printed) == (2, True)
    assert dfer("datasets", "--config=~/none.yaml")[0] == 2

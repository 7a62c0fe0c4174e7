"""Every command of the documentation is one that `dfer` understands: it is parsed and not run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer import Exit
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from dfer.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Those of the page's blocks, without what is said beside them."""
    text = page.read_text().replace("\\\n", " ")  # a command of several lines
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
    lines = [re.split(r"(?<=\S) {3,}", line.strip())[0] for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("dfer ")]


def parse(command: str) -> None:
    """Raises TyperException for what is no command, or not its arguments."""
    group = get_command(app)
    words, context = shlex.split(command, comments=True)[1:], None
    while isinstance(group, TyperGroup):
        context = group.make_context("dfer", words[:1], parent=context)
        _, group, words = group.resolve_command(context, words)
    group.make_context("dfer", words, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    for command in commands(page):
        if "..." in command or re.search(r"\b[A-Z]{3,}\b", command) or "|" in command:
            continue  # a form of a command, not one
        try:
            parse(command)
        except Exit:
            pass  # --help
        except TyperException as error:
            pytest.fail(f"{command}: {error}")


def test_what_is_no_command_is_noticed() -> None:
    for wrong in ("dfer run votes --only crema-d mafw", "dfer runs demo", "dfer run demo --sett a=1"):
        with pytest.raises(TyperException):
            parse(wrong)

"""The README's commands: which lines of it are run, and in which form."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

PAGE = """
```
ls   # a comment
echo one \\
  two
```
```mermaid
flowchart LR
```
```
data set   given
demo-dfew    330
```
```python
print("it is")
```
"""


@pytest.fixture(scope="module")
def readme():
    loader = SourceFileLoader("readme", str(Path(__file__).parents[1] / ".ci" / "readme"))
    module = module_from_spec(spec_from_loader("readme", loader))
    loader.exec_module(module)
    return module


def test_shell_and_python_blocks_are_commands_and_output_is_not(readme):
    assert list(readme.commands(PAGE)) == ["ls", "echo one    two", "python -c 'print(\"it is\")\n'"]


def test_a_block_with_a_misspelt_command_is_refused(readme):
    with pytest.raises(SystemExit, match="neither commands alone"):
        list(readme.commands("```\nls\nlz\n```\n"))


def test_the_environment_goes_on_to_the_next_command(readme):
    shell = readme.Shell()
    shell.check("export GREETING='good\nday'")
    assert shell.check("echo $GREETING") == "good day\n"


@pytest.mark.parametrize(
    ("command", "wrong"), [("false", "ended with 1 and not 0"), ("dfer run paper", "ended with 0")]
)
def test_a_command_that_ends_otherwise_than_said_stops_it(readme, tmp_path, monkeypatch, command, wrong):
    program = tmp_path / "dfer"
    program.write_text("#!/bin/sh\necho trained\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(readme, "DATA", tmp_path / "no-data")
    with pytest.raises(SystemExit, match=wrong):
        readme.check(readme.Shell(), command)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("dfer run paper", True),
        ("dfer run paper --only table-5", True),
        ("dfer config check dfew-full --set datasets.dfew.root=/data/DFEW", True),
        ("dfer analyse votes crema-d --out votes", True),
        ("dfer run own --set datasets.own.root=/data/own", True),
        ("dfer run paper-demo --plan", False),
        ("dfer compare demo/soft demo/midas", False),
        ("dfer align work/stages/demo-data/*/afew/Val_AFEW/Happy --out faces --contact-sheet", False),
    ],
)
def test_what_needs_a_data_set(readme, command, needed):
    assert bool(readme.NEEDS_DATA.fullmatch(command)) is needed

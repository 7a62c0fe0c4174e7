"""What the documentation names is there: files, modules and what is in them, links, and no line is too long."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "dfer|tasks|flows|benchmarks"


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request) -> Path:
    return request.param


def test_names_in_code_are_there(page):
    names = re.findall(rf"`((?:{PACKAGES})\.[\w.]+)[`(]", page.read_text())
    assert [name for name in names if not exists(name)] == []


def test_paths_are_there(page):
    folders = f"{PACKAGES}|tests|docs|docker|\\.ci"
    paths = re.findall(rf"(?<![\w./-])((?:{folders})/[\w./*-]*)", page.read_text())
    assert [path for path in paths if not is_there(path.rstrip("./"), page)] == []


def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = page if not path else (page.parent / path).resolve()
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), target


def test_prose_is_wrapped(page):
    in_code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        in_code ^= line.startswith("```")
        is_free = in_code or line.startswith(("|", "![", "#"))
        assert is_free or len(line) <= 120, f"{page.name}:{number} has {len(line)} characters"


def is_there(path: str, page: Path) -> bool:
    """A path in the repository or beside the page, `*` included; `docker/.env` is the reader's own."""
    return path.startswith("docker/.env") or any(list(folder.glob(path)) for folder in (ROOT, page.parent))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("dfer.mixing.midas.midas", True),
        ("dfer.training.run.Run.train_epoch", True),
        ("dfer.faces.index.SCHEMA", True),
        ("dfer.datasets.load_clips", True),
        ("dfer.mixing.midas.nothing", False),
        ("dfer.training.run.Run.nothing", False),
        ("dfer.nothing", False),
    ],
)
def test_exists(name, there):
    assert exists(name) == there


def exists(name: str) -> bool:
    """Whether `package.module`, `package.module.attribute` or `package.module.Class.attribute` is in the code."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length])
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if file.is_file():
            return defines(ast.parse(file.read_text()), parts[length:])
    return False


def defines(tree: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    if not names:
        return True
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == names[0]:
            return defines(node, names[1:])
        if names[0] in bound(node):
            return len(names) == 1
    return False


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement defines, imports or assigns."""
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return set()


@cache
def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}

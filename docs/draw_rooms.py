"""Draw which room of the code imports which, from the code itself, into docs/architecture.md: `make rooms`."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by `make rooms` -->\n", "<!-- end of what is drawn -->\n"
COLOURS = {"flows": "#f6d9c4", "tasks": "#f3ebc2", "dfer": "#d5e5f2"}
COMMAND_LINE = "dfer.cli"  # the one room of `dfer` that may import all of the others, drawn above them

Arrow = tuple[str, str]


def rooms() -> dict[str, str]:
    """Every module or package that stands for a room -> the room, from top to bottom as the import contracts say.

    Modules that one layer lists with colons between them, as it does the stages, are one room.
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if "containers" in contract}
    found = {"flows": "flows"}
    for package in ("tasks", "dfer"):
        for layer in layers[package]:
            for name in layer.replace(":", "|").split("|"):
                module = f"{package}.{name.strip(' ()')}"
                if importlib.util.find_spec(module):
                    found[module] = package if ":" in layer else module
    return found


def arrows(room_of: dict[str, str]) -> Counter[Arrow]:
    """How many imports between modules lead from one room to another."""
    graph, counts = grimp.build_graph("flows", "tasks", "dfer", cache_dir=None), Counter[Arrow]()

    def room(module: str) -> str | None:
        return room_of.get(module.split(".")[0]) or room_of.get(".".join(module.split(".")[:2]))

    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            arrow = room(importer), room(imported)
            if arrow[0] and arrow[1] and arrow[0] != arrow[1]:
                counts[arrow[0], arrow[1]] += 1
    return counts


def needed(arrows: Iterable[Arrow]) -> list[Arrow]:
    """The arrows without those that a longer way covers as well."""
    graph = nx.DiGraph(sorted(arrows))
    return [
        (importer, imported)
        for importer, imported in graph.edges
        if not any(nx.has_path(graph, other, imported) for other in graph[importer] if other != imported)
    ]


def flowchart(room_of: dict[str, str], counts: Counter[Arrow]) -> list[str]:
    """A Mermaid flowchart: a box a room, grouped by package."""
    lines = ["```mermaid", "flowchart TB", f"    {COMMAND_LINE}:::dfer", "    flows:::flows"]
    for package in ("tasks", "dfer"):
        inside = dict.fromkeys(r for r in room_of.values() if r.split(".")[0] == package and r != COMMAND_LINE)
        lines.append(f"    subgraph {package}_[{package}]")
        lines += [f"        {room}[{label(room)}]:::{package}" for room in inside]
        lines.append("    end")
    lines += [f"    {importer} -->|{counts[importer, imported]}| {imported}" for importer, imported in needed(counts)]
    for package, colour in COLOURS.items():
        lines.append(f"    classDef {package} fill:{colour},stroke:#888,color:#222")
        lines += [f"    style {package}_ fill:none,stroke:{colour},stroke-width:3px"] * (package != "flows")
    return [*lines, "```"]


def label(room: str) -> str:
    return "the stages" if room == "tasks" else room.split(".")[-1]


def table(room_of: dict[str, str], counts: Counter[Arrow]) -> list[str]:
    """What is in each room, by its own docstring, and all that it imports."""
    lines = ["| room | what is there | imports |", "|---|---|---|"]
    for room in dict.fromkeys(room_of.values()):
        used = [other for other in dict.fromkeys(room_of.values()) if counts[room, other]]
        listed = ", ".join(f"{other.removeprefix('dfer.')} {counts[room, other]}" for other in used)
        lines.append(f"| `{room}` | {first_sentence(room)} | {listed} |")
    return lines


def first_sentence(room: str) -> str:
    spec = importlib.util.find_spec(room)
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def drawn() -> str:
    """The picture and the table in Markdown."""
    room_of = rooms()
    counts = arrows(room_of)
    return "\n".join([*flowchart(room_of, counts), "", *table(room_of, counts)]) + "\n"


def main() -> None:
    """Replace what is between the page's marks."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + drawn() + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

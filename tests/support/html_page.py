"""A report's HTML, parsed for tests."""

from __future__ import annotations

from html.parser import HTMLParser

from dfer.report.content import ReportContent
from dfer.report.html import render
from dfer.report.numbers import compute
from dfer.report.page import assemble

VOID = {"meta", "link", "img", "br", "wbr"}


def page_of(content: ReportContent) -> HtmlPage:
    """The page of a report, without its files for a paper."""
    return HtmlPage(render(assemble(content, compute(content))))


class HtmlPage(HTMLParser):
    """Tags with attributes, ids, text, tables as rows of cells, and the tags that are still open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._table: list[list[str]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "figure" and attributes.get("id", "").endswith("-numbers"):
            self._table = self.tables.setdefault(attributes["id"].removesuffix("-numbers"), [])
        elif self._table is not None and tag == "tr":
            self._table.append([])
        elif self._table is not None and tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "figure":
            self._table = None

    def handle_data(self, data):
        if self.open[-1:] in (["script"], ["style"]):
            return
        self.text += data
        if self._table and self._table[-1] and self.open[-1] in ("td", "th", "a", "small", "span"):
            self._table[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

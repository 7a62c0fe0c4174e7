"""The report of a pipeline: one page to read, the tables and figures for a paper; and contact sheets of clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dfer.storage.file_names import IN_WORDS, REPORT_PAGE, REPORT_TEXT

if TYPE_CHECKING:
    from dfer.report.content import ReportContent

__all__ = ["write"]


def write(content: ReportContent, folder: Path) -> None:
    """Write `report.html`, `report.md`, `tables/` (Markdown, LaTeX, CSV), `figures/` (PNG), `contact-sheets/` (JPEG),
    and `in_words.json` (experiment -> its table in a sentence).

    The same content gives the same files in `folder`, which is made if it does not exist. Raises ValueError if two rows
    of an experiment disagree about a clip's label; OSError, dfer.shards.ShardError if pictures that the content names
    cannot be read.
    """
    # here, so that the report's tables (`results`) can be read without what draws it
    from dfer.report import contact_sheet, figures, html, latex, markdown
    from dfer.report.numbers import compute
    from dfer.report.page import assemble

    page = assemble(content, compute(content))
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for table in page.tables:
        for suffix, text in (("md", markdown.as_markdown), ("tex", latex.as_latex), ("csv", markdown.as_csv)):
            (folder / "tables" / f"{table.name}.{suffix}").write_text(text(table), encoding="utf-8")
    for chart in page.charts:
        figures.as_png(chart.figure, folder / "figures" / f"{chart.name}.png")
    (folder / REPORT_TEXT).write_text(markdown.report(page), encoding="utf-8")
    sentences = {part.numbers.result.name: part.table.in_words for part in page.experiments if part.table is not None}
    (folder / IN_WORDS).write_text(json.dumps({name: text for name, text in sentences.items() if text}, indent=1))
    sheets = contact_sheet.of_datasets(content, folder)
    (folder / REPORT_PAGE).write_text(html.render(page, sheets), encoding="utf-8")

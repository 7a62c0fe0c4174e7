"""Tables as LaTeX, for a paper. They need the packages booktabs and graphicx."""

from __future__ import annotations

import unicodedata

from dfer.report.table import Cell, Line, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "†": r"\textsuperscript{\dag}",
    "±": r"\ensuremath{\pm}",
    "→": r"\ensuremath{\rightarrow}",
    "–": "--",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
}


def as_latex(table: Table) -> str:
    """A `table` environment, no wider than the text; our rows first, the best of each column in bold."""
    words = table.text_columns
    shown = [place for place in range(len(table.columns)) if not _is_about_runs(table, place)]
    columns = "".join("l" if place < words else "r" for place in shown)
    body = [_line(line, shown) for line in table.lines if line.kind == "own"]
    published = [_line(line, shown) for line in table.lines if line.kind == "published"]
    if published:
        source = (
            rf"\multicolumn{{{len(shown)}}}{{l}}{{\emph{{Published, as cited: {escaped(table.published_from)}}}}} \\"
        )
        body += [*([r"\midrule"] if body else []), source, *published]
    caption = " ".join(escaped(part) for part in _caption(table))
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(escaped(table.columns[place]) for place in shown) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _caption(table: Table) -> list[str]:
    return [f"{table.title.removesuffix('.')}.", *table.warnings, *filter(None, [table.in_words]), *table.notes]


def escaped(text: str) -> str:
    """`text` as LaTeX shows it; accented letters stay, other characters that pdfTeX lacks become a question mark."""
    flat = " ".join(text.split())
    return "".join(_SPECIAL.get(letter) or (letter if _is_common(letter) else "?") for letter in flat)


def _is_common(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")


def _is_about_runs(table: Table, place: int) -> bool:
    """Links to runs are for the page only."""
    cells = [line.cells[place] for line in table.lines]
    return any(cell.links for cell in cells) and not any(cell.text for cell in cells)


def _line(line: Line, shown: list[int]) -> str:
    return " & ".join(_cell(line.cells[place]) for place in shown) + r" \\"


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    # braces: a row that starts with a bracket would be taken for the argument of the line break before it
    return (
        rf"{{{text}}} {{\scriptsize {escaped('; '.join(cell.small))}}}" if cell.small else f"{{{text}}}" if text else ""
    )

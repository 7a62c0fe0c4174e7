from __future__ import annotations

import re

from report_factory import nasty_table

from dfer.report.latex import as_latex


def balanced(text: str) -> bool:
    depth = 0
    for symbol in re.sub(r"\\.", "", re.sub(r"^%.*$", "", text, flags=re.M)):
        depth += {"{": 1, "}": -1}.get(symbol, 0)
        if depth < 0:
            return False
    return depth == 0


def test_latex_is_balanced_and_every_row_has_all_columns(written):
    paths = sorted((written[1] / "tables").glob("*.tex"))
    assert len(paths) > 12
    for path in paths:
        text = path.read_text()
        assert balanced(text), path
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended) == ["table", "tabular"]
        columns = len(re.search(r"\\begin{tabular}{([lr]+)}", text).group(1))
        body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert rows
        assert all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows), path
        assert not re.search(r"(?<!\\)[#$_^~]", re.sub(r"\\label{.*?}", "", text)), path


def test_latex_escapes_what_latex_would_take_for_commands():
    text = as_latex(nasty_table())
    assert balanced(text)
    assert r"\textless{}script\textgreater{}alert(" in text
    assert r"\& 100 \% of\_\textbackslash{}\{names\}.mp4" in text
    assert "Zoë ??" in text
    assert r"\textbf{1.0}" in text

from __future__ import annotations

from pathlib import Path

import pytest
from html_page import HtmlPage
from report_factory import full, toy_data
from toy_set import ToySet

from dfer import report
from dfer.report.content import ReportContent


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> tuple[ReportContent, Path]:
    """A report with every kind of table and figure, and its folder."""
    folder = tmp_path_factory.mktemp("report")
    content = full(folder, clips_per_class=3)
    report.write(content, folder / "out")
    return content, folder / "out"


@pytest.fixture(scope="session")
def page(written) -> HtmlPage:
    return HtmlPage((written[1] / "report.html").read_text())


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> ToySet:
    return toy_data(tmp_path_factory.mktemp("toy"), "toy-dfew", clips_per_class=4)

from __future__ import annotations

from pathlib import Path

import pytest
from report_factory import full

from dfer import report
from dfer.report.content import ReportContent


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> tuple[ReportContent, Path]:
    """A report of everything that there is, and the folder that it was written to."""
    folder = tmp_path_factory.mktemp("report")
    given = full(folder, clips_per_class=3)
    report.write(given, folder / "out")
    return given, folder / "out"

from __future__ import annotations

from pathlib import Path

from report_factory import aligned, arm, content, facts

from dfer import report
from dfer.report.content import ExperimentResult


def test_same_content_same_files(toy, tmp_path):
    rows = (arm(aligned(toy), "resnet18_tsm/midas", skill=1.0),)
    small = content(toy.root, ExperimentResult("t", "T", "", "per-class", "toy-dfew", rows), datasets=(facts(toy),))
    for name in ("a", "b"):
        report.write(small, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 13
    assert Path("contact-sheets/1-toy-dfew-01.jpg") in files
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_files_for_a_paper(written, page):
    folder = written[1]
    for name in page.tables:
        for suffix in ("md", "tex", "csv"):
            assert (folder / "tables" / f"{name}.{suffix}").stat().st_size > 50
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"table-1-scores.png", "figure-4-class-distribution.png", "figure-5-coexistence.png"} <= names
    assert "figure-6-confusion-1.png" in names
    assert all((folder / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in names)

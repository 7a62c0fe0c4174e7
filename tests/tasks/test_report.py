"""The report where a person looks for it is whole at any time."""

from __future__ import annotations

import pytest

from tasks.report import copy_report


def test_a_copy_that_breaks_off_leaves_the_report_before_and_the_next_one_replaces_it(tmp_path, monkeypatch):
    report, public = tmp_path / "stage", tmp_path / "reports" / "demo"
    (report / "figures").mkdir(parents=True)
    (report / "report.html").write_text("first")
    (report / "manifest.json").write_text("{}")
    public.parent.mkdir()
    copy_report(report, public)
    (report / "report.html").write_text("second")
    (report / "figures" / "a.png").write_bytes(b"picture")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.report.put_in_place", killed)
    with pytest.raises(KeyboardInterrupt):
        copy_report(report, public)
    monkeypatch.undo()
    assert (public / "report.html").read_text() == "first"
    copy_report(report, public)
    found = {path.relative_to(public).as_posix() for path in public.rglob("*") if path.is_file()}
    assert found == {"report.html", "figures/a.png"}
    assert (public / "report.html").read_text() == "second"
    assert [path.name for path in public.parent.iterdir()] == ["demo"]

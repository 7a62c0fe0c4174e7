"""`dfer services`."""

from __future__ import annotations

import pytest


def test_services_need_a_folder_of_this_machine(dfer, tmp_path):
    status, text = dfer("services", "status", "--set", "work_dir=s3://bucket/work")
    assert status == 2
    assert "services.folder" in text


@pytest.mark.parametrize(("database", "title", "stopped"), [("sqlite", "SQLite", 3), ("postgresql", "PostgreSQL", 4)])
def test_status_names_the_database_and_writes_nothing(dfer, tmp_path, database, title, stopped):
    values = (f"work_dir={tmp_path}", f"services.database={database}")
    status, text = dfer("services", "status", *(word for value in values for word in ("--set", value)))
    assert status == 1
    assert f"Services on {title}" in text
    assert text.count("stopped") == stopped
    assert not list(tmp_path.iterdir())

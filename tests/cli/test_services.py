"""`dfer services`."""

from __future__ import annotations


def test_services_need_a_folder_of_this_machine(dfer, tmp_path):
    status, text = dfer("services", "status", "--set", "work_dir=s3://bucket/work")
    assert status == 2
    assert "services.folder" in text
    status, text = dfer("services", "status", "--set", f"work_dir={tmp_path}")
    assert status == 1
    assert text.count("stopped") == 4
    assert not list(tmp_path.iterdir())

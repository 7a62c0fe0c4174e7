"""`dfer run`, up to where it starts."""

from __future__ import annotations


def test_a_table_alone_asks_for_its_own_data_sets(dfer, tmp_path):
    (tmp_path / "AFEW").mkdir()
    where = ["--set", f"datasets.afew.root={tmp_path / 'AFEW'}", "--set", f"datasets.dfew.root={tmp_path / 'none'}"]
    status, text = dfer("run", "paper", "--only", "table-2", "--plan", *where)
    assert status == 2
    assert "datasets.dfew.root" in text
    assert "ferv39k" not in text


def test_a_forecast_runs_and_writes_nothing(dfer, tmp_path):
    status, text = dfer("run", "paper-demo", "--plan", "--set", f"work_dir={tmp_path / 'work'}")
    assert status == 0
    assert "24 never measured here" in text
    assert "Nothing was run" in text
    assert not (tmp_path / "work").exists()


def test_running_without_the_data_set_says_where_it_was_looked_for(dfer):
    status, text = dfer("run", "dfew-full", "--set", "datasets.dfew.root=/nowhere")
    assert status == 2
    assert "/nowhere does not exist" in text

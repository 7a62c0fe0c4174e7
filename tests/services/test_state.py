"""What is written down of services, and their secrets."""

from __future__ import annotations

import json
import stat

import pytest

from dfer.services.errors import ServiceError
from dfer.services.processes import Started
from dfer.services.state import Folder, passwords, read_state, write_state


def test_state_is_read_as_it_was_written(tmp_path):
    folder = Folder(tmp_path / "services")
    assert read_state(folder) == {}
    started = {"prefect": Started(12, 1700000000.25, 4200), "worker-1": Started(13, 1700000001.5, None)}
    write_state(folder, started)
    assert read_state(folder) == started


@pytest.mark.parametrize("content", ["", "[]", '{"prefect": {"pid": 1}}', '{"prefect": 3}'])
def test_a_damaged_state_file_is_named(tmp_path, content):
    folder = Folder(tmp_path)
    folder.state.write_text(content)
    with pytest.raises(ServiceError, match=r"state\.json cannot be read"):
        read_state(folder)


def test_passwords_are_drawn_once_and_only_their_owner_reads_them(tmp_path):
    folder = Folder(tmp_path / "services")
    drawn = passwords(folder, ("prefect", "mlflow"))
    assert len(set(drawn.values())) == 2
    assert all(len(password) >= 32 for password in drawn.values())
    assert stat.S_IMODE(folder.secrets.stat().st_mode) == 0o600
    assert passwords(folder, ("prefect", "mlflow")) == drawn


def test_a_password_that_is_not_there_is_no_reason_to_draw_new_ones(tmp_path):
    folder = Folder(tmp_path)
    folder.secrets.write_text(json.dumps({"prefect": "known"}))
    with pytest.raises(ServiceError, match="no password of mlflow"):
        passwords(folder, ("prefect", "mlflow"))
    assert json.loads(folder.secrets.read_text()) == {"prefect": "known"}

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfer.system import paths


def test_home_is_filled_in_as_by_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    written = ["~", "~/faces", "~root", "~no-such-user/x", "~$report.mp4", "a/~/b", "faces", ""]
    shell = ["/home/me", "/home/me/faces", "/root", "~no-such-user/x", "~$report.mp4", "a/~/b", "faces", ""]
    assert [paths.expanded(path) for path in written] == shell


def test_without_a_home_no_folder_of_that_name_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths.os.path, "expanduser", lambda path: path)
    with pytest.raises(ValueError, match="set HOME"):
        paths.expanded("~/faces")


def test_names_are_spelled_as_text_that_can_be_written() -> None:
    path = Path(os.fsdecode(b"f\xfc")) / os.fsdecode("é.mp4".encode())
    assert paths.spelled(path) == r"f\xfc/é.mp4"
    assert paths.storable(f"{path} has 0 bytes: é") == r"f\xfc/é.mp4 has 0 bytes: é"


def test_what_could_drive_a_terminal_is_printed_as_escapes() -> None:
    assert paths.printable("a\x1b[31m é\n\udce9") == "a\\x1b[31m é\n\\udce9"


def test_paths_that_arrow_and_databases_cannot_write() -> None:
    assert paths.problem_with_path(Path("/é/[x]")) == ""
    assert paths.problem_with_path(Path(os.fsdecode(b"/f\xfc"))) == r"the name of /f\xfc is not UTF-8"

from __future__ import annotations

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

"""`dfer app`, without its page: what ends with a sentence."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from small_model import write_model


def test_without_gradio_the_command_to_install_it_is_said(
    dfer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that they are as before afterwards
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    status, text = dfer("app", "--model", str(write_model(tmp_path / "model")), "--port", "0")
    assert status == 2
    assert "pip install --constraint constraints.txt --editable '.[app]'" in " ".join(text.split())
    assert "Traceback" not in text
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{tmp}/nowhere"], "does not exist. Expected PIPELINE/ARM"),
        (["--model", "{model}", "--host", "no.such.host.invalid"], "no.such.host.invalid:7860 cannot be listened on"),
        (["--model", "{model}", "--max-seconds", "0"], "0.1"),
        (["--model", "{model}", "--port", "70000"], "65535"),
        ([], "--model"),
    ],
)
def test_what_cannot_be_done_ends_with_status_2(dfer, tmp_path: Path, arguments: list[str], message: str) -> None:
    model = write_model(tmp_path / "model")
    status, text = dfer("app", *(argument.format(tmp=tmp_path, model=model) for argument in arguments))
    assert status == 2
    assert message in " ".join(text.split())
    assert "Traceback" not in text


def test_help_names_the_limits(dfer) -> None:
    status, text = dfer("app", "--help")
    assert status == 0
    assert "--max-seconds" in text and "--max-megabytes" in text and "127.0.0.1" in text

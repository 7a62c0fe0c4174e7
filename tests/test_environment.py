"""What the environment can do to a run is named, with what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfer import doctor, environment

ROOT = Path(__file__).parents[1]


def test_this_installation_decodes_what_cameras_write() -> None:
    result = environment.video_decoders()
    assert (result.level, "AV1" in result.message) == ("ok", True)


def test_a_decoder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # as in builds of FFmpeg without dav1d: its own `av1` needs hardware
    monkeypatch.setattr("av.codec.codecs_available", {"h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video"})
    result = environment.video_decoders()
    assert (result.level, result.message.endswith("no decoder for AV1")) == ("warning", True)


def test_an_environment_without_any_of_it_is_not_mentioned() -> None:
    assert [result.subject for result in environment.check({"HOME": "/root"})] == ["video decoders"]


@pytest.mark.parametrize(
    ("name", "value", "level", "message"),
    [
        ("HTTP_PROXY", "http://me:secret@lab:3128", "ok", "HTTP_PROXY=http://***@lab:3128: downloads"),
        ("https_proxy", "http://lab:3128", "ok", "https_proxy=http://lab:3128"),
        ("ALL_PROXY", "socks5://lab:1080", "problem", "ALL_PROXY names a SOCKS proxy"),
        ("OPENCV_VIDEOIO_PRIORITY_FFMPEG", "0", "ok", "without effect, since videos are decoded by PyAV"),
        ("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;udp", "ok", "without effect"),
        ("OPENCV_IO_MAX_IMAGE_PIXELS", "1000", "warning", "OPENCV_IO_MAX_IMAGE_PIXELS=1000: larger pictures"),
        ("OPENCV_IO_MAX_IMAGE_WIDTH", "many", "warning", "OPENCV_IO_MAX_IMAGE_WIDTH=many"),
        ("OPENCV_OPENCL_DEVICE", "disabled", "ok", "OPENCV_OPENCL_DEVICE=disabled"),
        ("TMPDIR", "/nowhere", "warning", "/nowhere is no folder"),
    ],
)
def test_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, level: str, message: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    _, first, *_ = environment.check({name: value})
    assert first.level == level
    assert message in first.message


def test_limits_as_they_are_by_default_are_no_problem() -> None:
    assert list(environment.opencv({"OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26)})) == []


def test_switches_of_python() -> None:
    """Of another Python: they are read when one starts."""
    code = "from dfer.environment import python; import os; print([r.message for r in python(os.environ)])"
    switches = {"PYTHONOPTIMIZE": "2", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    run = subprocess.run([sys.executable, "-c", code], env=kept | switches, capture_output=True, text=True, check=True)
    assert "PYTHONOPTIMIZE is set" in run.stdout
    assert "LC_ALL=C, PYTHONUTF8=0" in run.stdout


def test_a_server_that_was_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request._opener", None)  # which has the proxies of its first use
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    result = doctor.mlflow("http://mlflow.lab.invalid:5000")
    assert "through the proxy http://***@127.0.0.1:9, which NO_PROXY=mlflow.lab.invalid would avoid" in result.advice

"""What the environment can do to a run: proxies, decoders of videos, variables that change how libraries work."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dfer.doctor import CheckResult, ok, problem, warning
from dfer.system.passwords import mask_passwords
from dfer.system.proxies import LOOPBACK, proxies

# Codecs that cameras, phones and web pages write -> the names of FFmpeg's decoders that need no hardware
CODECS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "libaom-av1"),
    "VP9": ("vp9", "libvpx-vp9"),
    "MPEG-4": ("mpeg4",),
    "MPEG-2": ("mpeg2video",),
}

_OF_VIDEO = ("OPENCV_VIDEOIO_", "OPENCV_FFMPEG_")
_LIMITS = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": 1 << 26,
    "OPENCV_IO_MAX_IMAGE_WIDTH": 1 << 20,
    "OPENCV_IO_MAX_IMAGE_HEIGHT": 1 << 20,
}
"""OpenCV's limits for the pictures that it reads, and what they are where nobody sets them."""


def check(environment: Mapping[str, str] = os.environ) -> Iterator[CheckResult]:
    """All checks of the environment; those of variables say nothing where a variable is not set."""
    yield video_decoders()
    yield from proxy(environment)
    yield from opencv(environment)
    yield from python(environment)
    yield from temporary_files(environment)


def video_decoders() -> CheckResult:
    """Whether PyAV can decode what cameras, phones and web pages write."""
    subject = "video decoders"
    try:
        import av
        from av.codec import codecs_available
    except (ImportError, OSError) as error:
        return problem(subject, f"PyAV cannot be loaded: {error}", "pip install av -c constraints.txt")
    missing = [codec for codec, decoders in CODECS.items() if not codecs_available.intersection(decoders)]
    of = f"PyAV {av.__version__} with FFmpeg {getattr(av, 'ffmpeg_version_info', '')}".rstrip()
    if missing:
        advice = "pip install --force-reinstall --only-binary av av -c constraints.txt: PyAV's own builds have them all"
        return warning(subject, f"{of} has no decoder for {', '.join(missing)}", advice)
    return ok(subject, f"{of}: {', '.join(CODECS)}")


def proxy(environment: Mapping[str, str]) -> Iterator[CheckResult]:
    """The proxies of the environment, by the names of their variables."""
    if not (named := proxies(environment)):
        return
    shown = ", ".join(f"{name}={mask_passwords(value)}" for name, value in named.items())
    socks = [name for name, value in named.items() if urlsplit(value).scheme.startswith("socks")]
    if socks and importlib.util.find_spec("socksio") is None:
        advice = "pip install 'httpx[socks]', or unset it; Prefect's client does not start otherwise"
        yield problem("proxy", f"{' and '.join(socks)} names a SOCKS proxy, for which a package is missing", advice)
    yield ok("proxy", f"{shown}: downloads and servers elsewhere are asked through it, {', '.join(LOOPBACK)} never")


def opencv(environment: Mapping[str, str]) -> Iterator[CheckResult]:
    """OpenCV's variables. It reads pictures and warps faces; videos are decoded by PyAV."""
    names = sorted(name for name in environment if name.startswith("OPENCV_"))
    if of_video := [name for name in names if name.startswith(_OF_VIDEO)]:
        yield ok("OpenCV", f"{', '.join(of_video)}: without effect, since videos are decoded by PyAV")
    for name in (name for name in names if name in _LIMITS):
        value = environment[name]
        if not value.isdecimal() or int(value) < _LIMITS[name]:
            message = f"{name}={value}: larger pictures are not read; videos are not concerned"
            yield warning("OpenCV", message, f"unset {name}, unless that is meant")
    if others := [name for name in names if name not in (*of_video, *_LIMITS)]:
        yield ok("OpenCV", f"{', '.join(f'{name}={environment[name]}' for name in others)}")


def python(environment: Mapping[str, str]) -> Iterator[CheckResult]:
    """Switches of Python that change what libraries do."""
    if sys.flags.optimize:
        why = "PYTHONOPTIMIZE is set" if environment.get("PYTHONOPTIMIZE") else "python runs with -O"
        message = f"{why}: the checks that libraries write as assert are left out"
        yield warning("Python", message, "unset PYTHONOPTIMIZE")
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        set_by = [f"{name}={environment[name]}" for name in ("LC_ALL", "LANG", "PYTHONUTF8") if environment.get(name)]
        message = f"file names and output are {encoding} ({', '.join(set_by)}): other letters are shown as \\x or \\u"
        yield warning("Python", message, "unset PYTHONUTF8, or set PYTHONUTF8=1")


def temporary_files(environment: Mapping[str, str]) -> Iterator[CheckResult]:
    """Whether the folder for temporary files is usable where one is named."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if folder := environment.get(name):
            if Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
                return  # the first that is usable counts
            yield warning(name, f"{folder} is no folder that can be written to, and is passed over", f"unset {name}")

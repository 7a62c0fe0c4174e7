"""Damaged video files, made of small good ones in many formats, each with its own mark in every frame."""

from __future__ import annotations

import io
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.fuzz import marks
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Outcome, Plan
from benchmarks.fuzz.pictures import look

FRAMES = 12

os.environ.setdefault("SVT_LOG", "0")  # the encoder of AV1 writes a page for every file

# name: suffix, container, codec, pixel format, options
FORMATS: dict[str, tuple[str, str, str, str, dict[str, str]]] = {
    "mp4 h264": (".mp4", "mp4", "libx264", "yuv420p", {"preset": "ultrafast"}),
    "mp4 h264 with B-frames": (".mp4", "mp4", "libx264", "yuv420p", {"preset": "veryfast", "g": "6"}),
    "mp4 h264 4:4:4": (".mp4", "mp4", "libx264", "yuv444p", {"preset": "ultrafast"}),
    "mov h264 interlaced": (".mov", "mov", "libx264", "yuv420p", {"preset": "ultrafast", "flags": "+ildct+ilme"}),
    "mp4 hevc": (".mp4", "mp4", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}),
    "mp4 av1": (".mp4", "mp4", "libsvtav1", "yuv420p", {"preset": "12", "g": "1"}),
    "mp4 mpeg4": (".m4v", "mp4", "mpeg4", "yuv420p", {"b": "2M"}),
    "mov mjpeg": (".mov", "mov", "mjpeg", "yuvj420p", {"qmin": "2", "qmax": "4"}),
    "mov prores": (".mov", "mov", "prores_ks", "yuv422p10le", {}),
    "mov png": (".mov", "mov", "png", "rgb24", {}),
    "mkv h264": (".mkv", "matroska", "libx264", "yuv420p", {"preset": "ultrafast"}),
    "mkv ffv1": (".mkv", "matroska", "ffv1", "yuv420p", {}),
    "mkv vp9": (".mkv", "matroska", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}),
    "webm vp8": (".webm", "webm", "libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}),
    "webm vp9": (".webm", "webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}),
    "avi mjpeg": (".avi", "avi", "mjpeg", "yuvj420p", {"qmin": "2", "qmax": "4"}),
    "avi mpeg4": (".avi", "avi", "mpeg4", "yuv420p", {"b": "2M"}),
    "avi msmpeg4": (".avi", "avi", "msmpeg4", "yuv420p", {"b": "2M"}),
    "avi huffyuv": (".avi", "avi", "huffyuv", "yuv422p", {}),
    "avi raw": (".avi", "avi", "rawvideo", "bgr24", {}),
    "ts mpeg2": (".ts", "mpegts", "mpeg2video", "yuv420p", {"b": "2M"}),
    "mts h264": (".MTS", "mpegts", "libx264", "yuv420p", {"preset": "ultrafast"}),
    "mpg mpeg2 interlaced": (".mpg", "mpeg", "mpeg2video", "yuv420p", {"b": "2M", "flags": "+ildct+ilme"}),
    "mpg mpeg1": (".mpg", "mpeg", "mpeg1video", "yuv420p", {"b": "2M"}),
    "flv flv1": (".flv", "flv", "flv", "yuv420p", {"b": "2M"}),
    "flv h264": (".flv", "flv", "libx264", "yuv420p", {"preset": "ultrafast"}),
    "3gp mpeg4": (".3gp", "3gp", "mpeg4", "yuv420p", {"b": "2M"}),
    "wmv": (".wmv", "asf", "wmv2", "yuv420p", {"b": "2M"}),
    "ogv vp8": (".ogv", "ogg", "libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}),
    "gif": (".gif", "gif", "gif", "rgb8", {}),
}
_UNCHANGED = "unchanged"
_RATES = (25, 24, 30, 50, Fraction(30000, 1001))


def encode(name: str, code: int, *, rate: Fraction | int = 25, sound: bool = False, frames: int = FRAMES) -> bytes:
    """A good video of a format of `FORMATS`, whose frames have the mark of `code`."""
    _, container, codec, pixels, options = FORMATS[name]
    target = io.BytesIO()
    # bit-exact: without times and random identifiers
    with av.open(target, "w", format=container, options={"fflags": "+bitexact"}) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options)
        stream.width = stream.height = marks.SIDE
        stream.pix_fmt = pixels
        stream.thread_count = 1
        audio: Any = file.add_stream("aac", rate=44100) if sound else None
        for frame in range(frames):
            picture = av.VideoFrame.from_ndarray(marks.draw(code, frame), format="bgr24")
            file.mux(stream.encode(picture.reformat(format=pixels)))
        file.mux(stream.encode(None))
        if audio is not None:
            noise = np.random.default_rng(code).uniform(-0.1, 0.1, (1, 44100 // 2)).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            samples.sample_rate = 44100
            for resampled in av.AudioResampler("fltp", "stereo", 44100, frame_size=1024).resample(samples):
                file.mux(audio.encode(resampled))
            file.mux(audio.encode(None))
    return target.getvalue()


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: one damaged video in `folder`, or now and then a good one."""
    code, name = marks.code_of(seed, number), chance.choice(list(FORMATS))
    suffix, container, *_ = FORMATS[name]
    sound = container in ("mp4", "mov", "matroska", "mpegts", "flv") and chance.random() < 0.2
    data = encode(name, code, rate=chance.choice(_RATES) if container in ("mp4", "matroska") else 25, sound=sound)
    what, codes = _UNCHANGED, [code]
    if chance.random() > 0.05:
        what = chance.choice(list(MUTATIONS))
        other = b""
        if what in ("spliced", "another behind"):
            codes.append(marks.code_of(seed, -1 - number))  # the second file has a mark of its own
            other = encode(name if chance.random() < 0.5 else chance.choice(list(FORMATS)), codes[1])
        data = MUTATIONS[what](chance, data, other)
        if chance.random() < 0.1:
            suffix = chance.choice([one[0] for one in FORMATS.values()])  # a name that promises another format
    (folder / f"clip{suffix}").write_bytes(data)
    return Plan("clips", f"{name}, {what}", codes, good=what == _UNCHANGED, frames=FRAMES)


def check(folder: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read the video in `folder` twice, and look at the marks of its frames."""
    return look(next(folder.iterdir()), plan, others)

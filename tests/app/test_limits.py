"""Which uploads the page takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from videos import plain, write_video

from dfer.app import limits
from dfer.app.limits import Limits, RefusedError, check
from dfer.video import VideoError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames, from 0 to 1.96 s."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [plain((number, 90, 90)) for number in range(50)])


def test_a_short_and_small_video_is_taken(clip: Path) -> None:
    check(clip, Limits(1.96, clip.stat().st_size / 1e6))


@pytest.mark.parametrize(
    ("allowed", "sentence"),
    [
        (Limits(1.9, 5), "It is 2 s long, and this page takes 1.9 s at most."),
        (Limits(60, 0.001), "and this page takes 1 kB at most."),
    ],
)
def test_what_is_too_long_or_too_large_is_refused_with_numbers(clip: Path, allowed: Limits, sentence: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check(clip, allowed)
    assert sentence in str(refused.value)
    assert "dfer predict" in str(refused.value)


def test_a_second_with_very_many_frames_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_FRAMES_A_SECOND", 20)
    with pytest.raises(RefusedError, match="It has 50 frames, and this page takes 40 at most"):
        check(clip, Limits(2, 5))


def test_a_recording_without_a_length_in_its_header_is_measured(tmp_path: Path) -> None:
    """As browsers write them: Matroska whose header says nothing, since it was written while it was recorded."""
    path = write_video(
        tmp_path / "recorded.webm",
        [plain((number, 90, 90)) for number in range(50)],
        "libvpx",
        container="webm",
        container_options={"live": "1"},
    )
    with pytest.raises(RefusedError, match="It is 2 s long"):
        check(path, Limits(1.9, 5))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty_file"), (b"hello", "not_a_video"), (b"\0" * 99, "not_a_video")]
)
def test_what_is_no_video_is_an_error_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError) as error:
        check(path, Limits(60, 5))
    assert error.value.reason == reason

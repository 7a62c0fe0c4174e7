"""Files as people have them: damage, covers, several streams, names that are no text."""

from __future__ import annotations

import os
import re
from pathlib import Path

import av
import numpy as np
import pytest
from videos import Picture, add_stream, plain, write_video

from dfer.video import Video, VideoError

RED, GREEN = (30, 30, 200), (30, 180, 30)


def moving(number: int) -> list[Picture]:
    """A white bar that moves over red."""
    pictures = [plain(RED) for _ in range(number)]
    for index, picture in enumerate(pictures):
        picture[:, 2 * index : 2 * index + 6] = 255
    return pictures


def noise(number: int) -> list[Picture]:
    """Pictures that need many bytes each, so that a damage hits some of them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(number)]


EVERY_FIFTH_A_KEY = {"g": "5", "bf": "0", "threads": "1"}


def colour(image: Picture) -> tuple[int, ...]:
    return tuple(int(value) for value in np.median(image.reshape(-1, 3), axis=0))


def close_to(expected: tuple[int, int, int]) -> object:
    return pytest.approx(expected, abs=40)


def damage(path: Path) -> None:
    """Overwrite a twentieth of an mp4's pictures in the middle."""
    content = bytearray(path.read_bytes())
    first = content.index(b"mdat") + 4
    size = int.from_bytes(content[first - 8 : first - 4], "big")
    for at in range(first + size * 45 // 100, first + size * 50 // 100):
        content[at] = at * 37 & 255
    path.write_bytes(content)


def test_after_a_damage_the_rest_of_the_film_is_read_and_the_loss_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(40), options=EVERY_FIFTH_A_KEY)
    damage(path)
    video = Video(path)
    frames = list(video.frames(range(40)))
    assert 30 <= len(frames) < 40
    assert video.num_frames == len(frames)
    assert video.remarks == (f"{len(frames)} of 40 frames decode undamaged",)
    # the last second is after the damage, and whole
    whole = Video(write_video(tmp_path / "b.mp4", noise(40), options=EVERY_FIFTH_A_KEY))
    for (_, image), (_, expected) in zip(frames[-10:], list(whole.frames(range(40)))[-10:], strict=True):
        np.testing.assert_array_equal(image, expected)
    assert whole.remarks == ()


def test_a_film_that_breaks_off_says_how_many_frames_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    frames = [av.VideoFrame.from_ndarray(picture, format="bgr24") for picture in noise(20)]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        add_stream(file, frames, "libx264", options=EVERY_FIFTH_A_KEY)
    content = path.read_bytes()
    path.write_bytes(content[: (len(content) + content.index(b"mdat")) // 2])
    video = Video(path)
    decoded = len(list(video.frames(range(20))))
    assert 5 < decoded < 15
    assert video.remarks == (f"{decoded} of 20 frames decode undamaged",)


def test_half_a_film_without_a_number_of_frames_says_where_it_ends(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", noise(50), options=EVERY_FIFTH_A_KEY)
    whole = Video(path)
    assert len(list(whole.frames(range(50)))) == 50
    assert whole.remarks == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    half = Video(path)
    assert 15 <= len(list(half.frames(range(50)))) <= 35
    assert re.fullmatch(r"the pictures end after [01]\.\d of 2\.0 s", half.remarks[-1])


def test_a_still_stream_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        still = av.VideoFrame.from_ndarray(plain(GREEN), format="bgr24")
        film = [av.VideoFrame.from_ndarray(picture, format="bgr24") for picture in moving(8)]
        streams = [file.add_stream(codec, rate=25) for codec in ("mjpeg", "libx264")]
        for stream, pixels in zip(streams, ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for stream, frames in zip(streams, ([still], film), strict=True):
            for number, frame in enumerate(frames):
                frame.pts = number
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
    video = Video(path)
    images = [image for _, image in video.frames(range(99))]
    assert len(images) == video.num_frames == 8
    assert all(colour(image) == close_to(RED) for image in images)


def sound(file: av.container.OutputContainer) -> None:
    stream = file.add_stream("aac", rate=44100, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 44100, 0
    file.mux(stream.encode(frame))
    file.mux(stream.encode())


def test_sound_is_no_video_with_a_cover_or_without(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        sound(file)
    with av.open(str(tmp_path / "cover.mp4"), "w") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(plain(GREEN), format="bgr24")
        frame.pts = 0
        packets = [*cover.encode(frame), *cover.encode()]
        sound(file)
        file.mux(packets)
    with av.open(str(tmp_path / "cover.mp4")) as file:
        assert file.streams.video[0].disposition & av.stream.Disposition.attached_pic
    for name, words in (("sound.mp4", "no video stream; its streams: 1 of audio"), ("cover.mp4", "a cover picture")):
        with pytest.raises(VideoError, match=words) as caught:
            Video(tmp_path / name)
        assert caught.value.reason == "not_a_video"


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", "jalapeño %03d [x].mp4".encode(), b"a\nb.mp4"])
def test_a_name_of_any_bytes_is_opened(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    write_video(tmp_path / "a.mp4", moving(3)).rename(path)
    assert len(list(Video(path).frames(range(3)))) == 3


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.gif", "gif", "rgb8"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.3gp", "libx264", "yuv420p"),
        ("a.mxf", "mpeg2video", "yuv422p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj444p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mp4", "libsvtav1", "yuv420p"),
    ],
)
def test_usual_formats_are_read(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    pictures = [plain(RED, 96, 80)] * 12
    video = Video(write_video(tmp_path / name, pictures, codec, pixels=pixels))
    images = [image for _, image in video.frames(range(12))]
    assert [colour(image) == close_to(RED) for image in images] == [True] * 12
    assert video.remarks == ()


def test_a_size_of_a_few_bytes_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [plain(RED)] * 3, "mpeg4")
    video = Video(path)
    assert video.num_frames == 3
    from dfer.video import decoding

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decoding._CODEC_OPTIONS, "max_pixels", str(64 * 48 - 1))
        with pytest.raises(VideoError, match="not one decodes"):
            list(Video(path).frames([0]))


def test_a_number_of_frames_that_the_file_cannot_hold_is_not_believed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", noise(5), "mpeg4")
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32
    assert content[length : length + 4] == (5).to_bytes(4, "little")
    content[length : length + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert Video(path).num_frames == 5  # a list of all indices must not take gigabytes


def test_a_codec_that_does_not_exist_is_undecodable(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", moving(5), "mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"XXXX"))
    with pytest.raises(VideoError, match="no decoder") as refused:
        Video(path)
    assert refused.value.reason == "undecodable"


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
@pytest.mark.parametrize("number", [1, 12])
def test_an_avi_that_announces_a_frame_too_many_is_whole(codec: str, number: int, tmp_path: Path) -> None:
    """As FFmpeg writes them."""
    path = write_video(tmp_path / "a.avi", moving(number), codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p")
    video = Video(path)
    assert len(list(video.frames(range(number + 1)))) == number
    assert video.remarks == ()


def test_the_last_picture_of_a_slow_film_stays_for_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        file.mux(stream.encode())
    video = Video(path)
    assert len(list(video.frames(range(3)))) == 3
    assert video.remarks == ()

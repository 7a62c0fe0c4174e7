"""The annotated copy of a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from small_model import CLASSES, portrait
from videos import write_video

from dfer.faces.detector import FaceDetector
from dfer.prediction import annotated
from dfer.prediction.colours import as_bgr, of_classes
from dfer.prediction.film import FilmResult, Request, predict_film
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.table import probabilities_of
from dfer.prediction.windows import Sliding


def with_sound(path: Path, codec: str, pictures: list[NDArray[np.uint8]], shown: list[int]) -> Path:
    """A video whose frames are shown at times in milliseconds, and which hums."""
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("libx264"), file.add_stream(codec, rate=44_100)
        video.width, video.height, video.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for at, picture in zip(shown, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        size = audio.frame_size or 1024
        hum = (0.2 * np.sin(np.arange(44_100 * shown[-1] // 1000) / 30)).astype(np.float32)
        for start in range(0, len(hum) - size, size):
            samples = av.AudioFrame.from_ndarray(hum[None, start : start + size], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 44_100, start, Fraction(1, 44_100)
            file.mux(audio.encode(samples))
        file.mux(audio.encode(None))
    return path


def packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as file:
        return [(float(p.pts * p.time_base), bytes(p)) for p in file.demux(audio=0) if p.size]


def pictures_of(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [frame.time for frame in frames], [frame.to_ndarray(format="bgr24") for frame in frames]


@pytest.fixture(scope="module")
def result(recogniser: Recogniser, detector: FaceDetector, tmp_path_factory: pytest.TempPathFactory) -> FilmResult:
    gaps = np.random.default_rng(1).integers(20, 70, 40)
    source = tmp_path_factory.mktemp("sound") / "sound.mp4"
    with_sound(source, "aac", [portrait(number) for number in range(40)], np.cumsum(gaps).tolist())
    return predict_film("sound", source, recogniser, detector, Request(Sliding(0.8, 0.4)))


def test_pictures_and_sound_keep_their_times(result: FilmResult, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    done: list[int] = []
    assert annotated.write(result, copy, on_frames=done.append) == ""
    times, pictures = pictures_of(copy)
    np.testing.assert_allclose(times, result.times, atol=1e-4)
    assert sum(done) == 25
    assert {picture.shape for picture in pictures} == {pictures[0].shape}
    assert all(side % 2 == 0 for side in pictures[0].shape[:2])
    heard, copied = packets(result.source), packets(copy)
    assert [content for _, content in copied] == [content for _, content in heard]
    np.testing.assert_allclose([at for at, _ in copied], [at for at, _ in heard], atol=1e-3)
    assert not list(tmp_path.glob(".*"))


def test_boxes_and_bars_are_where_they_should_be(result: FilmResult) -> None:
    panel = annotated._Panel(result, "")
    at = float(result.times[20])
    drawn = panel.beside(portrait(20), at)
    scale = drawn.shape[0] / 240
    (person,) = result.people
    row = result.table[(result.table["start"] <= at) & (at < result.table["end"])]
    place = int(np.abs((row["start"] + row["end"]) / 2 - at).argmin())
    probabilities = probabilities_of(row)[place]
    colour = as_bgr(of_classes(CLASSES)[int(probabilities.argmax())])
    box = person.boxes[np.searchsorted(person.frames, 20)] * scale
    middle = round(float(box[1] + box[3]) / 2)
    for edge in (box[0], box[2]):
        assert np.abs(drawn[middle, round(float(edge))].astype(int) - colour).max() < 12
    # the bars: as long as the probabilities
    bars = drawn[:, round(320 * scale) :]
    lengths = []
    for own in of_classes(CLASSES):
        filled = (np.abs(bars.astype(int) - as_bgr(own)).max(axis=2) < 3)[:, 30:]
        lengths.append(filled.sum(axis=1).max())
    np.testing.assert_allclose(np.array(lengths) / sum(lengths), probabilities, atol=0.03)


def test_a_box_is_drawn_only_near_frames_with_the_person(result: FilmResult) -> None:
    shown = annotated._Shown(result.people[0], result)
    begin, end = result.times[result.people[0].frames[[0, -1]]]
    np.testing.assert_array_equal(shown.box(begin), result.people[0].boxes[0])
    between = shown.box(float(result.times[result.people[0].frames[:2]].mean()))
    np.testing.assert_allclose(between, result.people[0].boxes[:2].mean(axis=0), rtol=1e-5)
    assert shown.box(end + 2) is None and shown.box(begin - 2) is None
    assert shown.row(result.end + 1) is None


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_sound_that_mp4_does_not_take_is_encoded_anew(
    suffix: str, recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    source = tmp_path / f"sound.{suffix}"
    with_sound(
        source, "pcm_s16le", [portrait(number) for number in range(30)], [40 * number for number in range(1, 31)]
    )
    film = predict_film("sound", source, recogniser, detector, Request())
    assert annotated.write(film, tmp_path / "copy.mp4") == ""
    with av.open(str(tmp_path / "copy.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        loudness = [np.abs(frame.to_ndarray()).max() for frame in file.decode(audio=0)]
    assert len(loudness) > 40 and np.median(loudness) > 0.1


def test_no_sound_odd_sides_and_turned_frames(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    lying = [np.ascontiguousarray(np.rot90(portrait(number))) for number in range(12)]
    source = write_video(tmp_path / "lying.mp4", lying)
    film = predict_film("lying", source, recogniser, detector, Request())
    assert film.turned == 90
    annotated.write(film, tmp_path / "copy.mp4", warning="Trained on synthetic data: proves nothing.")
    _, pictures = pictures_of(tmp_path / "copy.mp4")
    upright = cv2.resize(portrait(5), (640, 480))
    left = pictures[5][: upright.shape[0], : upright.shape[1]]
    assert np.median(np.abs(left.astype(int) - upright)) < 12
    assert (np.abs(pictures[5][-60:, 640:].astype(int) - as_bgr("#c2544d")).max(axis=2) < 40).any()  # the warning


def test_small_and_huge_pictures_are_scaled(result: FilmResult) -> None:
    for (height, width), expected in {(90, 160): 480, (2160, 3840): 1080, (480, 641): 480}.items():
        drawn = annotated._Panel(result, "").beside(np.zeros((height, width, 3), np.uint8), 0.5)
        assert drawn.shape[0] == expected and drawn.shape[1] % 2 == 0


def test_words_are_cut_to_their_room() -> None:
    assert annotated._in_lines("one two three four five", 9) == ["one two", "three", "four five"]
    mask = annotated._mask("größer", 20)
    assert mask.dtype == np.float32 and 0.5 < mask.max() <= 1

"""One video from beginning to end."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from small_model import CLASSES, SETTINGS, portrait, write_model
from videos import plain, write_video

from dfer import evaluation
from dfer.config.experiments import Faces
from dfer.faces import chapters, searching
from dfer.faces.clips import align_clips
from dfer.faces.detector import FaceDetector
from dfer.faces.index import read_index
from dfer.faces.scanning import scan_frames
from dfer.prediction import film, saved
from dfer.prediction.film import Request, predict_film
from dfer.prediction.models import open_model
from dfer.prediction.people import NobodyError
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.table import probabilities_of, schema
from dfer.prediction.windows import Sliding
from dfer.video import Video, VideoError

WHOLE = Request(Sliding(1000, 1000))


def test_a_clip_in_one_window_is_what_the_pipeline_would_make_of_it(
    video: Path, recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    """Through a shard on disk, read and evaluated as a training's clips are."""
    sections = {name: getattr(SETTINGS, name) for name in ("detection", "tracking", "alignment", "shards")}
    align_clips([("clip", video)], tmp_path / "shard", num_segments=SETTINGS.shards.segments, **sections)
    clips = pd.DataFrame({"clip_id": ["clip"], "dataset": "toy", "votes": None, "label": pd.array([0], "Int64")})
    clips.attrs["classes"] = CLASSES
    index = read_index(tmp_path / "shard" / "index.parquet")
    expected = evaluation.predict(recogniser.model.folder, clips, index, tmp_path, device="cpu", threads=1)
    result = predict_film("clip", video, recogniser, detector, WHOLE)
    assert len(result.table) == 1
    # a pixel that is rounded to the next level changes 3e-6, another frame 1e-2
    np.testing.assert_allclose(probabilities_of(result.table)[0], expected["probabilities"][0], atol=1e-5)
    assert result.table["face_share"][0] == 1.0


def test_every_window_is_the_clip_that_it_cuts_out(
    recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    """Lossless, so that the part and the whole have the same pixels; the detector follows faces otherwise."""
    pictures = [portrait(number) for number in range(60)]
    options = {"crf": "0", "preset": "ultrafast"}
    whole = write_video(tmp_path / "whole.mp4", pictures, pixels="yuv444p", options=options)
    part = write_video(tmp_path / "part.mp4", pictures[25:50], pixels="yuv444p", options=options)
    result = predict_film("whole", whole, recogniser, detector, Request(Sliding(1.0, 1.0)))
    alone = predict_film("part", part, recogniser, detector, WHOLE)
    assert result.table["start"].tolist() == pytest.approx([0.0, 1.0, 1.4])
    np.testing.assert_allclose(probabilities_of(result.table)[1], probabilities_of(alone.table)[0], atol=0.05)
    assert np.abs(probabilities_of(result.table)[0] - probabilities_of(alone.table)[0]).max() > 0.05


def variable_rate(path: Path, milliseconds: list[int]) -> Path:
    """A video whose frames are shown at these times."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, at in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(portrait(number), format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_the_containers_presentation_times(
    suffix: str, recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    gaps = np.random.default_rng(0).integers(15, 130, 70)
    source = variable_rate(tmp_path / f"variable.{suffix}", np.cumsum(gaps).tolist())
    with av.open(str(source)) as file:  # of the packets, not of the decoder
        packets = [packet for packet in file.demux(video=0) if packet.pts is not None and packet.size]
    shown = np.sort([float(packet.pts * packet.time_base) for packet in packets])
    assert len(shown) == 70 and np.ptp(np.diff(shown)) > 0.1
    table = predict_film("variable", source, recogniser, detector, Request(Sliding(1.0, 0.5))).table
    assert set(table["start"]) <= set(shown)
    assert set(table["end"][:-1]) <= set(shown)
    for row in table.itertuples():  # a second long, as far as there are frames
        inside = shown[(shown >= row.start) & (shown < row.end)]
        assert 0.85 < row.end - row.start <= 1.0 + 0.13
        assert len(inside) == round(len(inside)) >= 4
    np.testing.assert_array_equal(Video(source).times, shown)


def test_a_film_that_begins_later_keeps_its_times(
    recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    source = variable_rate(tmp_path / "late.mkv", [5000 + 40 * number for number in range(30)])
    table = predict_film("late", source, recogniser, detector, WHOLE).table
    assert (table["start"][0], table["end"][0]) == pytest.approx((5.0, 6.2), abs=0.041)


def test_the_table_has_its_schema(video: Path, recogniser: Recogniser, detector: FaceDetector) -> None:
    result = predict_film("name", video, recogniser, detector, Request(Sliding(1.0, 0.5), "main"))
    table = result.table
    assert list(table.columns) == schema(CLASSES).names
    np.testing.assert_allclose(probabilities_of(table).sum(axis=1), 1)
    top = probabilities_of(table).argmax(axis=1)
    assert table["prediction"].tolist() == [CLASSES[k] for k in top]
    p = probabilities_of(table)
    np.testing.assert_allclose(table["entropy"], -(p * np.log(p)).sum(axis=1))
    boxes = table[["left", "top", "right", "bottom"]].to_numpy()
    assert (boxes[:, 2] - boxes[:, 0] > 50).all() and (boxes >= -5).all() and (boxes[:, [0, 2]] <= 325).all()
    assert table["in_words"].str.contains(r"\(0\.\d\d\), ").all()  # nothing was measured for this model
    assert [person.number for person in result.people] == [1]
    assert len(result.people[0].thumbnails) == len(table)


def test_below_a_probability_no_answer_is_given(video: Path, recogniser: Recogniser, detector: FaceDetector) -> None:
    request = Request(Sliding(1.0, 0.5), abstain_below=1.1)
    table = predict_film("name", video, recogniser, detector, request).table
    assert not table["answered"].any()
    assert set(table["in_words"]) == {"no answer: too uncertain"}


def test_a_person_who_leaves_and_returns(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    away = [plain((60, 60, 60), 320, 240)] * 50
    pictures = [portrait(number) for number in range(40)]
    source = write_video(tmp_path / "away.mp4", [*pictures, *away, *pictures])
    table = predict_film("away", source, recogniser, detector, Request(Sliding(1.0, 0.5))).table
    assert set(table["person"]) == {1}
    gap = table["start"].diff().max()
    assert 1.5 <= gap <= 2.5
    assert table["face_share"].min() >= SETTINGS.tracking.min_face_share
    edge = table[(table["start"] < 1.6) & (table["end"] > 1.6)]
    assert (edge["face_share"] < 1).all()


def test_nobody(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    empty = write_video(tmp_path / "empty.mp4", [plain((60, 90, 120), 320, 240)] * 10)
    with pytest.raises(NobodyError, match=r"no_face: best score 0\.\d\d in 8 frames"):
        predict_film("empty", empty, recogniser, detector, WHOLE)
    rare = [plain((60, 60, 60), 320, 240)] * 40
    rare[3] = portrait(0)
    source = write_video(tmp_path / "rare.mp4", rare)
    with pytest.raises(NobodyError, match="too_few_faces: a face in 1 of "):
        predict_film("rare", source, recogniser, detector, Request(Sliding(1.0, 0.5)))


def test_one_frame(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    source = write_video(tmp_path / "one.mp4", [portrait(0)])
    result = predict_film("one", source, recogniser, detector, Request())
    assert len(result.table) == 1
    assert (result.table["start"][0], result.table["end"][0]) == pytest.approx((0, 0.04))


def test_damaged_frames_do_not_count(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "cut.mkv", [portrait(number) for number in range(60)], options={"g": "10", "bf": "0"}
    )
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    result = predict_film("cut", source, recogniser, detector, Request(Sliding(1.0, 0.5)))
    assert 20 < len(result.times) < 50
    assert result.table["end"].max() == pytest.approx(result.end)


def test_a_file_that_cannot_be_decoded(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    path = tmp_path / "no.mp4"
    path.write_bytes(b"")
    with pytest.raises(VideoError, match="empty_file"):
        predict_film("no", path, recogniser, detector, WHOLE)


def test_a_picture_that_no_memory_holds(recogniser: Recogniser, detector: FaceDetector, tmp_path: Path) -> None:
    """A header of a few bytes that announces 3,600 million pixels."""
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    header = b"IHDR" + size
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))
    with pytest.raises(VideoError, match=r"undecodable: .*huge\.png cannot be decoded as a picture"):
        predict_film("huge", path, recogniser, detector, WHOLE)


class _Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_killed_at_any_place_it_goes_on_to_the_same_table(
    video: Path,
    recogniser: Recogniser,
    detector: FaceDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """Chapters of 16 frames and batches of two views, and nothing is computed twice."""
    monkeypatch.setattr(film, "Chapters", lambda folder: chapters.Chapters(folder, frames=16))
    monkeypatch.setattr(saved, "_VIEWS", 1)
    monkeypatch.setattr("dfer.prediction.recogniser.BATCH", 2)
    request = Request(Sliding(1.0, 0.2))
    expected = predict_film("film", video, recogniser, detector, request)
    writes = 0
    searched: list[int] = []

    def dying(write):
        def save(self, *arguments):
            nonlocal writes
            write(self, *arguments)
            writes += 1
            if writes == after:
                raise _Killed

        return save

    monkeypatch.setattr(chapters.Chapters, "save", dying(chapters.Chapters.save))
    monkeypatch.setattr(saved.SavedViews, "add", dying(saved.SavedViews.add))
    with pytest.raises(_Killed):
        predict_film("film", video, recogniser, detector, request, state=tmp_path)
    shown = 0
    network = Recogniser.probabilities

    def counting(self, faces):
        nonlocal shown
        shown += len(faces)
        return network(self, faces)

    monkeypatch.setattr(Recogniser, "probabilities", counting)

    def noting(frames, detector):
        for (number, frame), faces in scan_frames(frames, detector):
            searched.append(number)
            yield (number, frame), faces

    monkeypatch.setattr(searching, "scan_frames", noting)
    result = predict_film("film", video, recogniser, detector, request, state=tmp_path)
    pd.testing.assert_frame_equal(result.table, expected.table, check_exact=True)
    assert [at for at, _ in result.people[0].thumbnails] == [at for at, _ in expected.people[0].thumbnails]
    whole = [number for person in expected.people for number in person.frames]
    assert len(searched) == len(whole) - 16 * min(after, len(whole) // 16)
    assert shown == len(expected.table) - 2 * max(0, after - len(whole) // 16)


def test_whole_pictures_as_faces(tmp_path: Path, video: Path) -> None:
    """A model whose training did not look for faces gets the frames as they are."""
    settings = SETTINGS.model_copy(update={"alignment": SETTINGS.alignment.model_copy(update={"transform": "none"})})
    folder = write_model(tmp_path / "model", faces=Faces.of("toy", settings).for_card())
    recogniser = Recogniser(open_model(str(folder)), device="cpu", threads=1)
    result = predict_film("whole", video, recogniser, None, Request(Sliding(1.0, 0.5)))
    assert result.table[["left", "top", "right", "bottom"]].drop_duplicates().to_numpy().tolist() == [[0, 0, 320, 240]]
    (_, face), *_ = result.people[0].thumbnails
    assert face.shape == (48, 48, 3)
    assert face[:5].max() < 20 and face[8:40].mean() > 50  # black above and below


def test_a_folder_of_pictures_has_times_of_its_own(
    recogniser: Recogniser, detector: FaceDetector, tmp_path: Path
) -> None:
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png"), portrait(number))
    (tmp_path / "7.png").write_bytes(b"no picture")
    result = predict_film("folder", tmp_path, recogniser, detector, WHOLE)
    assert (result.table["start"][0], result.table["end"][0]) == (0, 0.8)
    assert "1 of 20 pictures are left out" in result.remarks


@pytest.mark.parametrize(("size", "batches"), [(32, [3]), (256, [2, 1])])
def test_on_a_cpu_only_so_many_large_views_are_shown_at_a_time(trained, size: int, batches: list[int]) -> None:
    recogniser = Recogniser(replace(trained, card={**trained.card, "input_size": size}), device="cpu", threads=1)
    faces = np.full((4, 48, 48, 3), 128, np.uint8)
    assert [len(batch) for batch in recogniser.of_all((number, faces) for number in range(3))] == batches

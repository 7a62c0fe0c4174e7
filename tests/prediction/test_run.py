"""Many videos: a row for each, whatever becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from in_process import predict_here
from small_model import CLASSES, portrait, write_model
from videos import plain, set_display_matrix, write_video

from dfer.certainty import Certainty
from dfer.config.problems import InputError
from dfer.faces.listing import find_videos
from dfer.models.saved import SavedModelError
from dfer.prediction import work
from dfer.prediction.film import Request
from dfer.prediction.models import SYNTHETIC, TrainedModel, open_model
from dfer.prediction.run import abstain_below, predict_videos
from dfer.prediction.table import probabilities_of
from dfer.prediction.windows import Sliding
from dfer.system.processes import ProcessDiedError

REQUEST = Request(Sliding(1.0, 0.5))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos are predicted in this very process, which has the libraries loaded."""
    predict_here(monkeypatch)


@pytest.fixture
def videos(video: Path, tmp_path: Path) -> dict[str, Path]:
    """As people have them: good, turned, broken, empty, without anybody, of one frame."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(video.read_bytes())
    turned = write_video(
        folder / "turned.mp4", [np.ascontiguousarray(np.rot90(portrait(number))) for number in range(12)]
    )
    set_display_matrix(turned, 0, 1, -1, 0)
    (folder / "broken.mp4").write_bytes(video.read_bytes()[:900])
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    write_video(folder / "nobody.mp4", [plain((60, 90, 120), 320, 240)] * 5)
    write_video(folder / "one.mp4", [portrait(0)])
    with av.open(str(folder / "sound.m4a.mp4"), "w") as file:
        audio = file.add_stream("aac", rate=44_100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44_100
        file.mux(audio.encode(samples))
        file.mux(audio.encode(None))
    return find_videos([folder]).videos


def test_every_video_has_a_row_with_its_reason(
    here: None, videos: dict[str, Path], trained: TrainedModel, tmp_path: Path
) -> None:
    out, seen = tmp_path / "out", []
    model = replace(trained, card={**trained.card, "synthetic_data": True})
    index = predict_videos(
        videos,
        out,
        model,
        REQUEST,
        annotate=True,
        device="cpu",
        workers=1,
        on_progress=lambda progress: seen.append((progress.done, progress.total, progress.videos)),
    )
    assert dict(zip(index["video"], index["reason"], strict=True)) == {
        "broken.mp4": "undecodable",
        "empty.mp4": "empty_file",
        "good.mp4": "",
        "nobody.mp4": "no_face",
        "one.mp4": "",
        "sound.m4a.mp4": "not_a_video",
        "text.mp4": "not_a_video",
        "turned.mp4": "",
    }
    assert index["detail"][index["status"] == "failed"].str.len().min() > 20
    assert pd.read_parquet(out / "index.parquet").equals(index)
    table = pd.read_parquet(out / "predictions.parquet")
    assert table.groupby("video").size().to_dict() == {"good.mp4": 4, "one.mp4": 1, "turned.mp4": 1}
    text = pd.read_csv(out / "predictions.csv")
    assert list(text.columns) == list(table.columns)
    np.testing.assert_allclose(probabilities_of(text), probabilities_of(table), rtol=1e-5)
    for name in ("good.mp4", "one.mp4", "turned.mp4"):
        files = {path.name for path in (out / "videos" / name).iterdir()}
        assert files == {"annotated.mp4", "predictions.parquet", "row.json", "summary.json", "timeline.png"}
    assert {path.name for path in (out / "videos" / "nobody.mp4").iterdir()} == {"row.json"}
    assert not list((out / "videos").glob(".*"))
    # the warning is in everything that is written
    assert json.loads((out / "summary.json").read_text())["warning"] == SYNTHETIC
    assert json.loads((out / "videos" / "good.mp4" / "summary.json").read_text())["warning"] == SYNTHETIC
    assert json.loads(pq.read_schema(out / "predictions.parquet").metadata[b"dfer"])["synthetic_data"] is True
    assert seen[-1] == (pytest.approx(seen[-1][1]), seen[-1][1], len(videos))


def test_the_same_call_does_nothing_twice_and_another_one_adds(
    here: None, video: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    predict = work.predict_film

    def counting(name: str, *arguments: Any, **more: Any) -> Any:
        calls.append(name)
        return predict(name, *arguments, **more)

    monkeypatch.setattr(work, "predict_film", counting)
    first = predict_videos({"a.mp4": video}, tmp_path / "out", trained, REQUEST, device="cpu")
    again = predict_videos({"a.mp4": video}, tmp_path / "out", trained, REQUEST, device="cpu")
    assert calls == ["a.mp4"] and first.equals(again)
    other = tmp_path / "b.mp4"
    other.write_bytes(video.read_bytes())
    both = predict_videos({"a.mp4": video, "b.mp4": other}, tmp_path / "out", trained, REQUEST, device="cpu")
    assert calls == ["a.mp4", "b.mp4"] and both["video"].tolist() == ["a.mp4", "b.mp4"]
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["video"].unique().tolist() == ["a.mp4", "b.mp4"]
    with pytest.raises(InputError, match="another people"):
        predict_videos({"a.mp4": video}, tmp_path / "out", trained, Request(Sliding(1.0, 0.5), "main"), device="cpu")


def test_a_second_call_meanwhile_is_refused_and_changes_nothing(
    here: None, video: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, out = work.predict_film, tmp_path / "out"

    def meanwhile(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "a.mp4":
            before = (out / "predict.json").read_bytes()
            with pytest.raises(InputError, match="another prediction writes to"):
                predict_videos({"b.mp4": tmp_path / "b.mp4"}, out, trained, REQUEST, device="cpu")
            assert (out / "predict.json").read_bytes() == before
        return predict(name, *arguments, **more)

    monkeypatch.setattr(work, "predict_film", meanwhile)
    index = predict_videos({"a.mp4": video}, out, trained, REQUEST, device="cpu")
    assert index["status"].tolist() == ["ok"]
    assert pd.read_parquet(out / "index.parquet")["video"].tolist() == ["a.mp4"]


def test_what_goes_wrong_with_one_does_not_stop_the_others(
    here: None, video: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = work.predict_film

    def failing(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "crash.mp4":
            raise ProcessDiedError("the process was ended by signal SIGSEGV")
        if name == "odd.mp4":
            raise ValueError("nobody thought of this")
        return predict(name, *arguments, **more)

    monkeypatch.setattr(work, "predict_film", failing)
    videos = dict.fromkeys(("crash.mp4", "good.mp4", "odd.mp4"), video)
    index = predict_videos(videos, tmp_path / "out", trained, REQUEST, device="cpu")
    assert index["reason"].tolist() == ["crashed", "", "error"]
    assert "SIGSEGV" in index["detail"][0] and "nobody thought of this" in index["detail"][2]
    monkeypatch.setattr(work, "predict_film", predict)
    index = predict_videos(videos, tmp_path / "out", trained, REQUEST, device="cpu")
    assert index["reason"].tolist() == ["", "", ""]  # it is tried again


def test_no_video_with_a_result(here: None, trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    predict_videos({"empty.mp4": tmp_path / "empty.mp4"}, tmp_path / "out", trained, REQUEST, device="cpu")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table.empty and [f"p_{name}" for name in CLASSES] == [c for c in table.columns if c.startswith("p_")]


def test_a_model_with_damaged_weights_is_one_sentence(here: None, video: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    trained = open_model(str(folder))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(SavedModelError, match="not the file that"):
        predict_videos({"a.mp4": video}, tmp_path / "out", trained, REQUEST, device="cpu")
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize("risk", [-0.1, 1.1, float("nan")])
def test_a_risk_that_is_no_share(trained: TrainedModel, risk: float) -> None:
    with pytest.raises(ValueError, match=f"expected abstain to be a share from 0 to 1, found {risk:g}"):
        abstain_below(trained, risk)


def test_risk_is_only_known_where_it_was_measured(trained: TrainedModel) -> None:
    assert abstain_below(trained, None) == 0.0
    with pytest.raises(InputError, match="nothing is known about its risk"):
        abstain_below(trained, 0.3)
    measured = replace(
        trained, certainty=Certainty("a part", 50, 0, 0.8, None, None, None, (0.9, 0.6, 0.4), (0.15, 0.1, 0.4))
    )
    assert abstain_below(measured, 0.2) == 0.6
    assert abstain_below(measured, 0.5) == 0.4
    with pytest.raises(InputError, match=r"the smallest that is known for certain \(on 50 clips\) is 0\.10"):
        abstain_below(measured, 0.05)


@pytest.mark.slow
def test_in_processes(video: Path, trained: TrainedModel, tmp_path: Path) -> None:
    other = tmp_path / "b.mp4"
    other.write_bytes(video.read_bytes())
    videos = {"a.mp4": video, "b.mp4": other}
    index = predict_videos(videos, tmp_path / "out", trained, REQUEST, device="cpu", workers=2)
    assert index["status"].tolist() == ["ok", "ok"]
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    a, b = (table[table["video"] == name].drop(columns="video").reset_index(drop=True) for name in videos)
    pd.testing.assert_frame_equal(a, b)

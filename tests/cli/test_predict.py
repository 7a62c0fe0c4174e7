"""`dfer predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from in_process import predict_here
from small_model import portrait, rewrite_card, write_model
from videos import write_video

from dfer.certainty import Certainty


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    predict_here(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), synthetic_data=True)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "good.mp4", [portrait(number) for number in range(30)])
    (tmp_path / "in" / "empty.mp4").touch()
    (tmp_path / "in" / "notes.txt").touch()
    return tmp_path / "in"


def test_what_was_predicted_is_shown(dfer, here: None, model: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, text = dfer("predict", str(videos), "--model", str(model), "--out", str(out), "--window", "1", "--video")
    assert status == 0
    plain = " ".join(text.split())
    assert "trained on synthetic data" in plain
    assert "1 of 2 videos with a result" in plain
    assert "empty_file: it has 0 bytes" in plain
    assert "passed over, .txt files: 1" in plain
    assert "No thresholds for words" in plain
    for name in ("predictions.csv", "videos/good.mp4/timeline.png", "videos/good.mp4/annotated.mp4"):
        assert (out / name).exists() and f"{out}/{name}" in text.replace("\n", "")
    index = pd.read_parquet(out / "index.parquet")
    assert index["video"].tolist() == ["empty.mp4", "good.mp4"]
    again, text = dfer("predict", str(videos), "--model", str(model), "--out", str(out), "--window", "2")
    assert again == 2
    assert "an earlier call with another sliding" in text.replace("\n", " ")


def test_a_folder_that_another_prediction_writes_to(
    dfer, here: None, model: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".predict.lock"):
        status, text = dfer("predict", str(videos), "--model", str(model), "--out", str(out))
    assert status == 2
    assert "another prediction writes to" in text and "wait until it has ended" in " ".join(text.split())
    assert [path.name for path in out.iterdir()] == [".predict.lock"]


def test_where_it_abstains_is_said(dfer, here: None, videos: Path, tmp_path: Path) -> None:
    measured = Certainty("a part", 50, 0, 0.8, None, None, None, (0.99999, 0.4), (0.1, 0.4))
    folder = write_model(tmp_path / "model", certainty=measured.as_dict())
    status, text = dfer(
        *("predict", str(videos), "--model", str(folder), "--out", str(tmp_path / "out"), "--abstain", "0.2")
    )
    assert status == 0
    assert "below 1.00: of the others, at most 20% are wrong" in " ".join(text.split())
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert not table["answered"].any()
    assert set(table["in_words"]) == {"no answer: too uncertain"}


def test_no_result_at_all_is_a_failure(dfer, here: None, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    status, text = dfer("predict", str(tmp_path / "empty.mp4"), "--model", str(model), "--out", str(tmp_path / "out"))
    assert status == 1
    assert "0 of 1 videos with a result" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{videos}", "--model", "{tmp}/nowhere"], "does not exist. Expected PIPELINE/ARM"),
        (["{videos}", "--model", "demo/sft"], "demo has no arm sft"),
        (["{videos}", "--model", "dmo/soft"], "did you mean demo?"),
        (["{tmp}/none.mp4", "--model", "{model}"], "none.mp4 does not exist"),
        (["{videos}", "--model", "{model}", "--abstain", "0.3"], "nothing is known about its risk"),
        (["{videos}", "--model", "{model}", "--window", "0"], "expected window to be finite and at least 0.04 seconds"),
        (["{videos}", "--model", "{model}", "--every", "nan"], "expected every to be finite and at least 0.04 seconds"),
        (["{videos}", "--model", "{model}", "--abstain", "2"], "expected abstain to be a share from 0 to 1, found 2"),
        (["{videos}", "--model", "{model}", "--out", "{videos}"], "is not empty: choose another --out"),
    ],
)
def test_what_cannot_be_done_ends_with_status_2_and_nothing_written(
    dfer, here: None, model: Path, videos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.format(tmp=tmp_path, videos=videos, model=model) for argument in arguments]
    out = [] if "--out" in filled else ["--out", str(tmp_path / "out")]
    before = sorted(path.name for path in videos.iterdir())
    status, text = dfer("predict", *filled, *out)
    assert status == 2
    assert message in " ".join(text.split())
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in videos.iterdir()) == before


@pytest.mark.parametrize(
    ("damage", "status", "message"),
    [
        (lambda folder: (folder / "model.json").write_text("{"), 1, "model.json cannot be read"),
        (lambda folder: rewrite_card(folder, faces={}), 2, "does not say how the faces"),
        (lambda folder: rewrite_card(folder, faces={"detection": 3}), 2, "describes no faces"),
        (lambda folder: rewrite_card(folder, width=0.5), 1, "the weights do not fit"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), 1, "train again or copy the folder anew"),
        (lambda folder: (folder / "model.safetensors").unlink(), 1, "model.safetensors cannot be read"),
    ],
)
def test_a_damaged_model_is_a_sentence(
    dfer, here: None, videos: Path, tmp_path: Path, damage: Any, status: int, message: str
) -> None:
    folder = write_model(tmp_path / "model")
    damage(folder)
    ended, text = dfer("predict", str(videos), "--model", str(folder), "--out", str(tmp_path / "out"))
    assert ended == status
    assert message in " ".join(text.split())
    assert "Traceback" not in text
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()] if (tmp_path / "out").exists() else []
    assert {path.name for path in written} <= {"predict.json", ".predict.lock"}


def test_people_and_device_are_checked(dfer, model: Path, videos: Path, tmp_path: Path) -> None:
    status, text = dfer("predict", str(videos), "--model", str(model), "--out", str(tmp_path), "--people", "some")
    assert status == 2 and "some" in text
    assert json.loads((model / "model.json").read_text())["synthetic_data"] is True

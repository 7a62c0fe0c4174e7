from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_model import portrait, write_model
from videos import write_video

from benchmarks import prediction
from benchmarks.measure import Measured
from benchmarks.prediction import Compared, as_markdown, main
from dfer.prediction.models import TrainedModel, open_model


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: three windows."""
    pictures = [portrait(number) for number in range(75)]
    return write_video(tmp_path_factory.mktemp("video") / "film.mp4", pictures)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return open_model(str(write_model(tmp_path_factory.mktemp("model") / "model")))


def test_windows_one_by_one_are_ours_to_rounding(video: Path, model: TrainedModel) -> None:
    work = {"video": video, "model": model, "threads": 1}
    mine = next(prediction.ours(**work)).results["windows"]
    theirs = next(prediction.practice(**work, our_faces=True)).results
    assert list(mine) == pytest.approx([0.0, 0.52, 1.0])  # of 25 frames a second
    assert theirs["frames"] == 75
    assert theirs["seconds"] == pytest.approx(3.0)
    assert prediction.differences(mine, theirs["windows"]).max() < 1e-6
    assert prediction.differences(mine, dict(zip(mine, reversed(mine.values()), strict=True))).max() > 1e-4


def test_the_table() -> None:
    def side(seconds: float, *probabilities: float) -> Measured:
        windows = {0.5 * n: np.array([p, 1 - p]) for n, p in enumerate(probabilities)}
        parts = {"decoding": 1.0, "faces": 7.0, "network": 2.0}
        results = {"windows": windows, "parts": parts, "frames": 75, "seconds": 4.0}
        return Measured("a side", 2, [seconds], results=results)

    row = Compared("film.mp4", "`tsm`, 8 x 112", side(2.0, 0.6, 0.8), side(10.0, 0.4, 0.7), side(9.0, 0.6, 0.8))
    assert as_markdown([row]).splitlines()[2] == (
        "| film.mp4, 75 frames; `tsm`, 8 x 112 | 2 | 2.00 | 10.0 (1.0 + 7.0 + 2.0) | 5.0x | 50 % | 0e+00 | "
        "0.150, 0.200 | 50 % |"
    )


def test_nothing_to_predict_with(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["film.mp4"])
    assert "--model, --untrained" in capsys.readouterr().err


def test_the_paper_s_network_can_be_used(tmp_path: Path) -> None:
    card = open_model(str(prediction.untrained(tmp_path / "untrained"))).card
    assert (card["model"], card["num_segments"], card["input_size"]) == ("resnet18_tsm", 8, 224)

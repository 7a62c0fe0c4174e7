"""`dfer.load` and what it gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_model import CLASSES, rewrite_card, write_model

import dfer
from dfer.config.problems import InputError
from dfer.prediction.api import Model, NobodyError, VideoError
from dfer.prediction.models import SYNTHETIC


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return dfer.load(model_folder, device="cpu")


def test_a_video_in_a_few_lines(model: Model, video: Path, tmp_path: Path) -> None:
    result = model.predict(video, window=1.0)
    assert model.classes == tuple(CLASSES)
    assert len(result.table) == 4
    timeline = result.timeline
    assert timeline.index.names == ["person", "time"] and list(timeline.columns) == CLASSES
    np.testing.assert_allclose(timeline.sum(axis=1), 1)
    assert timeline.loc[1].index.tolist() == pytest.approx([0.5, 1.0, 1.5, 1.9], abs=0.021)
    result.plot().savefig(tmp_path / "timeline.png")
    result.annotate(tmp_path / "copy.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"timeline.png", "copy.mp4"}
    assert "No thresholds" in result.notes[0]


def test_the_same_numbers_as_the_command(model: Model, video: Path) -> None:
    whole = model.predict(str(video), window=1.0, every=0.5).table
    main = model.predict(video, window=1.0, people="main").table
    pd.testing.assert_frame_equal(whole, main)


def test_synthetic_data_is_said_wherever_one_looks(video: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    rewrite_card(folder, synthetic_data=True)
    model = dfer.load(folder, device="cpu")
    assert SYNTHETIC in repr(model)
    result = model.predict(video)
    assert result.notes[0] == SYNTHETIC
    assert SYNTHETIC in [axes.get_title(loc="right") for axes in result.plot().axes]


def test_what_cannot_be_predicted_says_why(model: Model, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="missing_file"):
        model.predict(tmp_path / "no.mp4")
    with pytest.raises(InputError, match="nothing is known about its risk"):
        model.predict(tmp_path / "no.mp4", abstain=0.2)
    with pytest.raises(InputError, match="does not exist"):
        dfer.load("nowhere")
    assert issubclass(NobodyError, Exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "expected every to be finite and at least 0.04 seconds, found 0"),
        ({"every": -0.1}, "found -0.1"),
        ({"window": -1}, "expected window to be finite and at least 0.04 seconds, found -1"),
        ({"window": float("nan")}, "found nan"),
        ({"people": "nobody"}, "expected people 'all' or 'main', found 'nobody'"),
        ({"abstain": 2}, "expected abstain to be a share from 0 to 1, found 2"),
        ({"abstain": float("nan")}, "found nan"),
    ],
)
def test_what_cannot_be_asked_for(model: Model, video: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.predict(video, **arguments)


def test_the_package_loads_nothing_heavy() -> None:
    script = "import sys, dfer; print([n for n in ('torch', 'numpy', 'pandas', 'matplotlib') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

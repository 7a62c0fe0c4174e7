"""Prediction on folders as a flow: what is the same is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from in_process import predict_here
from prefect.client.orchestration import get_client
from small_model import portrait, write_model
from videos import write_video

from dfer.config.problems import InputError
from dfer.prediction import work


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that were predicted."""
    names: list[str] = []
    predict_film = work.predict_film

    def counting(name: str, *arguments: Any, **more: Any) -> Any:
        names.append(name)
        return predict_film(name, *arguments, **more)

    monkeypatch.setattr(work, "predict_film", counting)
    predict_here(monkeypatch)
    return names


def states() -> list[str]:
    """Of the tasks named `predict`, in the order of their beginning."""
    with get_client(sync_client=True) as client:
        runs = [one for one in client.read_task_runs() if one.name.startswith("predict")]
    return [str(one.state_name) for one in sorted(runs, key=lambda one: one.expected_start_time)]


@pytest.mark.timeout(600)
def test_only_what_has_changed_is_done_again(prefect_server: None, done: list[str], tmp_path: Path) -> None:
    from flows.predict import predict

    model, films, out = write_model(tmp_path / "model"), tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name, begin in (("a.mp4", 0), ("b.mp4", 5)):
        write_video(films / name, [portrait(number) for number in range(begin, begin + 12)])
    (films / "c.mp4").touch()

    def said(**more: Any) -> Any:
        return predict([str(films)], str(model), str(out), window=1.0, device="cpu", **more)

    first = said()
    assert (first.videos, first.ok, first.made) == (3, 2, 3)
    assert pd.read_parquet(first.index)["reason"].tolist() == ["", "", "empty_file"]
    assert said().made == 0
    assert sorted(done) == ["a.mp4", "b.mp4", "c.mp4"]
    assert states()[-2:] == ["Completed", "Cached"]
    done.clear()
    write_video(films / "b.mp4", [portrait(number) for number in range(20, 30)])
    (films / "c.mp4").unlink()
    write_video(films / "d.mp4", [portrait(number) for number in range(12)])
    assert said().made == 2
    assert sorted(done) == ["b.mp4", "d.mp4"]
    assert pd.read_parquet(first.index)["video"].tolist() == ["a.mp4", "b.mp4", "d.mp4"]
    assert sorted(path.name for path in (out / "videos").iterdir()) == ["a.mp4", "b.mp4", "d.mp4"]
    done.clear()
    with FileLock(out / ".predict.lock"), pytest.raises(InputError, match="another prediction writes to"):
        said(people="main")
    assert len(list((out / "videos").iterdir())) == 3  # nothing was forgotten
    assert said(people="main").made == 3  # another question
    for wrong in ({"every": 0.0}, {"window": float("nan")}, {"abstain": 2.0}):
        with pytest.raises(ValueError, match=f"expected {next(iter(wrong))}"):
            predict([str(films)], str(model), str(out), **wrong)
    with pytest.raises(InputError, match="does not exist"):
        predict([str(tmp_path / "nowhere")], str(model), str(out))
    with pytest.raises(InputError, match="expected files or folders"):
        predict([], str(model), str(out))

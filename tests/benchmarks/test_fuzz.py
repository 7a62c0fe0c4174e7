"""A short part of `python -m benchmarks.fuzz`, and that the fuzz test notices what must not happen."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import dfer.video
from benchmarks.fuzz import clips, configs, frames, layouts, marks, pictures, pool
from benchmarks.fuzz.__main__ import as_markdown, fuzz, main
from benchmarks.fuzz.outcomes import Outcome, Plan

OWN, OTHER = marks.code_of(0, 1), marks.code_of(0, 2)
NAMES = list(clips.FORMATS)


def test_a_short_part(tmp_path: Path) -> None:
    results = fuzz(range(60), seed=1, out=tmp_path, workers=1)
    assert [result.number for result in results] == list(range(60))
    assert {result.plan.kind for result in results} == set(pool.KINDS)
    assert [f"{r.number}: {r.outcome.problem}" for r in results if r.outcome.problem] == []
    assert not list(tmp_path.iterdir())  # only inputs with a problem are kept


def test_equal_seeds_make_equal_inputs(tmp_path: Path) -> None:
    for number in (0, 1, 3, 7, 5):
        plans = [pool.make_input(number, 3, tmp_path / run / str(number)) for run in ("first", "second")]
        assert plans[0] == plans[1]
        first, second = (_contents(tmp_path / run / str(number)) for run in ("first", "second"))
        assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_a_good_video_of_every_format_is_kept_with_its_own_marks(tmp_path: Path, name: str) -> None:
    source = tmp_path / f"clip{clips.FORMATS[name][0]}"
    source.write_bytes(clips.encode(name, OWN))
    plan = Plan("clips", "", [OWN], good=True, frames=clips.FRAMES)
    assert pictures.look(source, plan, frozenset({OTHER})) == Outcome("kept")


def test_marks_survive_compression_and_turning() -> None:
    picture = marks.draw(OWN, 7)
    assert marks.read(picture) == (OWN, 7)
    small = cv2.imdecode(cv2.imencode(".jpg", cv2.resize(picture, (96, 64)), [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)
    assert marks.read(small) == (OWN, 7)
    assert marks.read_turned(np.rot90(picture)[:, ::-1], [OWN]) == OWN
    assert marks.read(np.full_like(picture, 128)) is None
    assert marks.channels_exchanged(picture[..., ::-1]) and not marks.channels_exchanged(picture)


@pytest.mark.parametrize(
    ("shown", "result", "problem"),
    [
        (lambda index: marks.draw(OWN, index), "kept", ""),
        (lambda index: marks.draw(OTHER, index), "smeared", "the picture of another input"),
        (lambda index: np.full((128, 128, 3), 128, np.uint8), "smeared", ""),
        (lambda index: np.zeros((128, 128), np.uint8), "smeared", "uint8[128, 128]"),
    ],
)
def test_another_files_picture_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: Any, result: str, problem: str
) -> None:
    _reads(monkeypatch, lambda indices: ((index, shown(index)) for index in indices))
    outcome = pictures.look(tmp_path, Plan("clips", "", [OWN]), frozenset({OWN, OTHER}))
    assert outcome.result == result
    assert problem in outcome.problem and bool(problem) == bool(outcome.problem)


def test_good_files_must_be_kept_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Plan("clips", "", [OWN], good=True, frames=4)
    _reads(monkeypatch, lambda indices: ((index, marks.draw(OWN, 3 - index)) for index in indices))
    assert "frame 0 of a good file shows" in pictures.look(tmp_path, good, frozenset()).problem
    _reads(monkeypatch, lambda indices: ((index, marks.draw(OWN, index)) for index in indices if index < 3))
    assert "3 frames of a good file with 4" in pictures.look(tmp_path, good, frozenset()).problem
    _reads(monkeypatch, lambda indices: _refuse("undecodable"))
    assert "a good file is refused" in pictures.look(tmp_path, good, frozenset()).problem
    _reads(monkeypatch, lambda indices: _refuse("no idea"))
    assert "without a reason" in pictures.look(tmp_path, Plan("clips", "", [OWN]), frozenset()).problem


def test_a_label_that_changes_without_a_word_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_ferv39k(tmp_path)
    assert layouts.compare("ferv39k", tmp_path) == Outcome("kept")
    inspect = layouts.datasets.inspect

    def wrong(layout: str, root: Path) -> Any:
        table, report = inspect(layout, root)
        return table.assign(label=(table["label"] + (Path(root) == tmp_path)) % 7), report

    monkeypatch.setattr(layouts.datasets, "inspect", wrong)
    assert "another table without a finding" in layouts.compare("ferv39k", tmp_path).problem


def test_what_a_configuration_holds_can_be_a_cache_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        configs._storable({"lr": float("inf")})
    with pytest.raises(UnicodeEncodeError):
        configs._storable({"name": "\ud800"})


def test_tracebacks_crashes_hangs_and_memory_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # by the number of the input: a process of its own imports this module, not what is set here
    monkeypatch.setattr(pool, "check_batch", check_badly)
    monkeypatch.setattr(pool, "SECONDS", 0.5)
    monkeypatch.setattr(pool, "BYTES", 64 * 2**20)
    kinds = {0: "clips", 1: "frames", 3: "tables", 2: "clips", 4: "clips"}
    plans = [(number, Plan(kind, "")) for number, kind in kinds.items()]
    results: list[pool.Result] = []
    while left := [one for one in plans if one[0] not in {result.number for result in results}]:
        results += pool._one_process(left, tmp_path, frozenset())
    outcomes = {result.number: result.outcome for result in results}
    assert outcomes[0] == Outcome("kept")
    assert outcomes[1] == Outcome("refused", "crashed")  # by design, aligning goes on
    assert "SIGSEGV" in outcomes[3].problem
    assert "hang: not done" in outcomes[2].problem
    assert "MB above the start, and growing" in outcomes[4].problem


def check_badly(*, inputs: list[tuple[int, Plan]], send: Any, **_: Any) -> None:
    """In place of `pool.check_batch`: each number does something else that must not be."""
    send(("ready", os.getpid(), pool._peak_memory()))
    for number, _plan in inputs:
        send(("started", number))
        if number in (1, 3):
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 2:
            while True:
                pass
        if number == 4:
            held = np.ones(200 * 2**20, np.uint8)
            time.sleep(60)
            del held
        send(("done", number, Outcome("kept")))


def test_tracebacks_name_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _reads(monkeypatch, lambda indices: iter([(0, None)]))
    sent: list[Any] = []
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "clip.mp4").write_bytes(b"")
    monkeypatch.setattr(pool.os, "dup2", lambda *_: None)
    pool.check_batch(inputs=[(0, Plan("clips", ""))], folder=tmp_path, codes=frozenset(), send=sent.append)
    assert sent[-1][2].problem.startswith(("AttributeError at", "TypeError at"))


def test_the_page_counts_by_kind_and_reason_and_lists_problems() -> None:
    results = [
        pool.Result(0, Plan("clips", "mp4, truncated"), Outcome("kept")),
        pool.Result(2, Plan("clips", "mp4, truncated"), Outcome("smeared", "other pixels when read again")),
        pool.Result(4, Plan("clips", "gif, zeros"), Outcome("refused", "undecodable")),
        pool.Result(1, Plan("frames", "empty"), Outcome("refused", "empty_file", "a hang")),
    ]
    page = as_markdown(results, "the command", 120)
    assert "`the command`: 4 inputs in 2 minutes, 1 with a problem." in page
    assert "| clips | 3 | 1 | 1 | 1 | 0 |" in page
    assert "| frames | 1 | 0 | 0 | 0 | 1 |" in page
    assert "| clips | undecodable 1 |" in page
    assert "in 1 of the inputs" in page
    assert "- 1, frames, empty: a hang" in page


def test_an_input_is_repeated_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "5", "--input", "5", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("5: configs, ")
    assert (tmp_path / "seed-5" / "5" / "pipeline_config.yaml").exists()


def _contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _reads(monkeypatch: pytest.MonkeyPatch, frames_of: Any) -> None:
    """Let `look` read these frames, of four."""

    class Reader:
        num_frames = 4

        def __init__(self, source: Path) -> None:
            pass

        def frames(self, indices: Any) -> Any:
            return frames_of(indices)

    monkeypatch.setattr(pictures, "Video", Reader)


def _refuse(reason: str) -> Any:
    raise dfer.video.VideoError(reason, "a detail")


def test_a_picture_whose_announced_size_opencv_refuses_stays_as_it_is(tmp_path: Path) -> None:
    picture = tmp_path / "8.bmp"
    picture.write_bytes(frames._encoded(np.zeros((4, 4, 3), np.uint8), ".bmp"))
    data = bytearray(picture.read_bytes())
    data[18:26] = struct.pack("<ii", 2**30, 2**30)
    picture.write_bytes(data)
    frames._other_kind(random.Random(0), picture, tmp_path)
    assert picture.read_bytes() == data

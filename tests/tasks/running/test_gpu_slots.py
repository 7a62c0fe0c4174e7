"""Every training has GPUs of its own; no GPU is needed to see that."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from seen_gpus import seen as visible_to_it

from dfer.config.reading import load_pipeline
from dfer.system import gpus
from dfer.system.gpu_slots import GpuSlot, GpuSlots, for_aligners, for_one_aligner
from dfer.system.processes import run_isolated
from tasks.running.slots import Slots, slower_than_alone, threads_per_training, trainings_at_a_time

CONFIG = Path(__file__).parents[3] / "pipeline_config.yaml"


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones, on which two trainings have room."""
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    monkeypatch.setattr(gpus, "_memory_of_each", lambda visible: (80 * 2**30,) * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_an_aligner_in_a_pool_takes_a_gpu_by_its_number(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in a pool have numbers one after another."""
    chosen = []
    for number in range(100, 108):
        monkeypatch.setattr("os.getpid", lambda number=number: number)
        chosen.append(for_one_aligner("cuda")["CUDA_VISIBLE_DEVICES"])
    assert sorted(chosen) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert for_one_aligner("cpu") == {}


def slots(*overrides: str) -> Slots:
    return Slots(load_pipeline("demo", CONFIG, overrides, ()))


def test_a_process_gets_the_gpus_of_its_place_in_its_environment(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")])
    )
    with slots("train.device=cuda", "train.processes=2") as mine:
        first, second = mine.training(2), mine.training(2)
        with first, second:
            seen = [run_isolated(visible_to_it, environment=place.environment) for place in (first, second)]
            assert (first.sharing, second.sharing) == (1, 1)
    assert seen == ["4,5", "6,7"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


def test_on_the_processor_the_environment_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with slots("train.device=cpu", "run.workers=2") as mine:
        place = mine.training()
        with place:
            assert (place.gpus, dict(place.environment), place.sharing) == ((), {}, 1)


def test_a_place_waits_until_enough_gpus_are_free(four_gpus: None) -> None:
    places = GpuSlots(4, ["0", "1", "2", "3"], threads=1)
    three, two = GpuSlot(lambda: places, 3), GpuSlot(lambda: places, 2)
    got = threading.Event()

    def wait_for_two() -> None:
        with two:
            got.set()

    with three:
        waiting = threading.Thread(target=wait_for_two)
        waiting.start()
        assert not got.wait(0.2)
        with GpuSlot(lambda: places):  # one is free
            pass
        assert not got.wait(0.2)
    assert got.wait(10)
    waiting.join()


def test_gpus_are_shared_evenly_where_more_trainings_than_gpus_are_asked_for() -> None:
    places = GpuSlots(5, ["0", "1"], threads=1)
    held = [places.take(1) for _ in range(5)]
    assert places.sharing == 3
    assert sorted(gpu for (gpu,) in held) == ["0", "0", "0", "1", "1"]
    started, taken = time.monotonic(), []
    sixth = threading.Thread(target=lambda: taken.append(places.take(1)), daemon=True)
    sixth.start()
    sixth.join(0.2)
    assert not taken
    places.give_back(held[1])
    sixth.join(10)
    assert taken
    assert time.monotonic() - started < 10


def test_more_processes_than_gpus_get_all_there_are() -> None:
    """The training itself says what to do about it."""
    assert GpuSlots(1, ["0", "1"], threads=1, processes=8).take(8) == ("0", "1")


@pytest.mark.parametrize(
    ("overrides", "trainings", "threads"),
    [
        (["train.device=cpu", "run.workers=8"], 9, 1),
        (["train.device=cpu", "run.workers=1"], 1, 1),
        (["train.device=cpu", "run.workers=8", "train.processes=2"], 4, 2),
        (["train.device=cuda", "run.workers=8"], 8, 1),
        (["train.device=cuda", "run.workers=8", "train.processes=2"], 2, 4),
        (["train.device=cuda", "run.workers=8", "train.batch_size=16", "train.processes=8"], 1, 8),
        (["train.device=cuda", "run.workers=8", "run.trainings=3"], 3, 2),
    ],
)
def test_trainings_at_a_time(four_gpus: None, overrides: list[str], trainings: int, threads: int) -> None:
    pipeline = load_pipeline("demo", CONFIG, overrides, ())
    assert (trainings_at_a_time(pipeline), threads_per_training(pipeline)) == (trainings, threads)


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        (["train.device=cpu", "run.workers=2"], 1.5),
        (["train.device=cpu", "run.workers=1"], 1.0),
        (["train.device=cpu", "run.workers=8", "train.processes=2"], 1.0),
        (["train.device=cpu", "run.workers=8", "run.trainings=2"], 1.0),
        (["train.device=cuda", "run.workers=2"], 1.0),
    ],
)
def test_trainings_that_share_the_cores_are_slower(four_gpus: None, overrides: list[str], times: float) -> None:
    assert slower_than_alone(load_pipeline("demo", CONFIG, overrides, ())) == times


def test_aligners_are_spread_over_the_gpus_a_few_on_each(four_gpus: None) -> None:
    slots = for_aligners("cuda", 64)
    held = [GpuSlot(lambda: slots) for _ in range(12)]
    for slot in held:
        slot.__enter__()
    assert sorted(slot.environment["CUDA_VISIBLE_DEVICES"] for slot in held) == sorted("0123" * 3)
    more = threading.Thread(target=lambda: slots.take(1), daemon=True)
    more.start()
    more.join(0.2)
    assert more.is_alive()
    held[5].__exit__()
    more.join(10)
    assert not more.is_alive()


def test_few_aligners_take_a_gpu_each(four_gpus: None) -> None:
    slots = for_aligners("cuda", 2)
    assert [slots.take(1), slots.take(1)] == [("0",), ("1",)]


def test_aligners_on_the_processor_are_as_many_as_asked_for(four_gpus: None) -> None:
    slots = for_aligners("cpu", 5)
    assert [slots.take(1) for _ in range(5)] == [()] * 5
    assert (slots.sharing, slots.threads) == (1, 1)


def test_a_process_that_aligns_sees_its_gpu_alone(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")])
    )
    seen = []
    with (
        slots("detection.provider=cuda", "run.workers=8") as mine,
        mine.aligning() as first,
        mine.aligning() as second,
    ):
        for place in (first, second):
            with place.workers.one() as process:
                seen.append(process.call(visible_to_it))
    assert seen == ["0", "1"]

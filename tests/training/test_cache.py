from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.training import Resources, cache
from dfer.training.cache import FrameCache, choose_cache

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ALONE = Resources()
GIB = 2**30


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """42 GiB of RAM and 84 GiB on the GPU, all free: with what no cache takes, room for 40 and 80."""
    monkeypatch.setattr(cache, "available_memory", lambda: 42 * GIB)
    monkeypatch.setattr(cache, "total_memory", lambda: 42 * GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (84 * GIB, 84 * GIB))


@pytest.mark.parametrize(
    ("gib", "device", "side_by_side", "where"),
    [
        (20, CPU, 1, "host"),
        (20, CPU, 2, "none"),
        (9, CPU, 2, "host"),
        (21, CPU, 1, "none"),
        (48, CUDA, 1, "device"),
        (22, CUDA, 2, "device"),
        (49, CUDA, 1, "none"),
        (20, CUDA, 3, "none"),
    ],
)
def test_auto_takes_the_nearest_place_with_room(gib: int, device: torch.device, side_by_side: int, where: str) -> None:
    choice = choose_cache("auto", gib * GIB, device, Resources(side_by_side=side_by_side))
    assert (choice.where, choice.num_bytes) == (where, gib * GIB)


def test_with_a_full_gpu_frames_are_kept_in_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, 84 * GIB))
    assert choose_cache("auto", 20 * GIB, CUDA, ALONE).where == "host"


def test_the_second_of_two_has_as_much_room_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the first one's frames are there."""
    two = Resources(side_by_side=2)
    assert choose_cache("auto", 22 * GIB, CUDA, two).where == "device"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50 * GIB, 84 * GIB))
    assert choose_cache("auto", 22 * GIB, CUDA, two).where == "device"
    assert choose_cache("auto", 9 * GIB, CPU, two).where == "host"
    monkeypatch.setattr(cache, "available_memory", lambda: 31 * GIB)
    assert choose_cache("auto", 9 * GIB, CPU, two).where == "host"


def test_a_gpu_that_ran_out_of_memory_keeps_no_frames() -> None:
    full = Resources(frames_on_gpu=False)
    assert choose_cache("auto", GIB, CUDA, full).where == "host"
    assert choose_cache("device", GIB, CUDA, full).where == "host"
    assert choose_cache("device", 30 * GIB, CUDA, full).where == "none"


def test_some_memory_stays_free_in_a_small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "available_memory", lambda: GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 8 * GIB))
    assert choose_cache("auto", 2**20, CUDA, ALONE).where == "none"


def test_a_place_asked_for_by_name_is_taken_up_to_the_last_byte_and_no_further() -> None:
    assert choose_cache("host", 40 * GIB, CPU, ALONE).where == "host"
    assert choose_cache("device", 80 * GIB, CUDA, ALONE).where == "device"
    with pytest.raises(ValueError, match=r"'host', but the decoded frames take 41\.00 GiB, and 40\.00 GiB are free"):
        choose_cache("host", 41 * GIB, CPU, ALONE)
    with pytest.raises(ValueError, match=r"30\.00 GiB, and 19\.00 GiB are free for each of 2 trainings"):
        choose_cache("host", 30 * GIB, CPU, Resources(side_by_side=2))
    with pytest.raises(ValueError, match="'device', but the training is on the CPU"):
        choose_cache("device", GIB, CPU, ALONE)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), data=st.data())
@settings(deadline=None)
def test_every_frame_of_every_clip_comes_back(lengths: list[int], data: st.DataObject) -> None:
    """Each frame has a colour of its own; clips are filled in in any order."""
    places = [(Path(f"shard-{number % 2}"), number) for number in range(len(lengths))]
    colours = np.arange(sum(lengths), dtype=np.uint8).reshape(-1, 1, 1, 1) + np.zeros((1, 2, 3, 3), np.uint8)
    clips = dict(zip(places, np.split(colours, np.cumsum(lengths)[:-1]), strict=True))
    counts = dict(zip(places, lengths, strict=True))
    assert FrameCache.num_bytes(counts, (2, 3)) == colours.nbytes
    kept = FrameCache(counts, (2, 3), device=CPU)
    assert not kept.filled
    order = data.draw(st.permutations(places))
    kept.fill((place, torch.from_numpy(clips[place])) for place in order)
    rows = data.draw(st.lists(st.sampled_from(range(len(places))), min_size=1, max_size=4))
    positions = np.array([[data.draw(st.integers(0, lengths[row] - 1)) for _ in range(3)] for row in rows])
    taken = kept.take([places[row] for row in rows], positions)
    expected = np.stack([clips[places[row]][where] for row, where in zip(rows, positions, strict=True)])
    np.testing.assert_array_equal(taken.numpy(), expected)

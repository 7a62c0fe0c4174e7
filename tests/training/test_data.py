from __future__ import annotations

import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_set import ToySet, toy_clip

from dfer.config.settings import AugmentSettings, ShardSettings
from dfer.shards import ShardError, write_shard
from dfer.training.cache import FrameCache
from dfer.training.data import (
    ClipSource,
    TrainingBatches,
    evaluation_loader,
    fill_cache,
    stored_frames,
    training_loader,
)

SAME_VIEW = AugmentSettings(min_scale=1.0, horizontal_flip=0.0)


def source_of(toy: ToySet, **options: object) -> ClipSource:
    chosen = {"num_segments": 4, "input_size": 32, "augment": AugmentSettings(), **options}
    return ClipSource(toy.clips, toy.index, toy.root, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> ToySet:
    """Two clips of 12 and 3 frames; every frame's brightness is ten times its number. Stored exactly, as NPZ."""
    root = tmp_path_factory.mktemp("counting")
    frames = [
        np.full((count, 16, 16, 3), 0, np.uint8) + (10 * np.arange(count, dtype=np.uint8))[:, None, None, None]
        for count in (12, 3)
    ]
    clips = [toy_clip(f"count/{number}", frame) for number, frame in enumerate(frames)]
    write_shard(root / "only", clips, settings=ShardSettings(format="npz"))
    table = pd.DataFrame({"clip_id": ["count/0", "count/1"], "label": [0, 1], "votes": [None, None]})
    index = pd.DataFrame({"clip_id": ["count/0", "count/1"], "status": "ok", "shard": "only", "row": [0, 1]})
    return ToySet(table, index, root)


def keep_decoded(*sources: ClipSource, workers: int = 0) -> None:
    fill_cache(FrameCache(*stored_frames(sources), device=torch.device("cpu")), sources, threads=max(1, workers))


def frame_numbers(source: ClipSource, row: int, epoch: int | None) -> list[int]:
    frames, returned = source[row, epoch]
    assert returned == row
    assert frames.dtype == torch.uint8
    assert frames.shape == (4, 3, 16, 16)
    return (frames[:, 0, 0, 0] // 10).tolist()


@pytest.mark.parametrize("cached", [False, True])
def test_one_frame_of_each_segment_the_centres_for_evaluation(counting: ToySet, cached: bool) -> None:
    source = source_of(counting, input_size=16, augment=SAME_VIEW)
    if cached:
        keep_decoded(source)
    assert frame_numbers(source, 0, None) == [1, 4, 7, 10]
    drawn = np.array([frame_numbers(source, 0, epoch) for epoch in range(1, 40)])
    assert (drawn // 3 == np.arange(4)).all()
    assert all(set(column % 3) == {0, 1, 2} for column in drawn.T)


def test_a_clip_with_fewer_frames_than_segments_repeats_some_in_order(counting: ToySet) -> None:
    source = source_of(counting, input_size=16, augment=SAME_VIEW)
    for epoch in (None, 1, 2, 3):
        numbers = frame_numbers(source, 1, epoch)
        assert numbers == sorted(numbers)
        assert set(numbers) <= {0, 1, 2}


def test_what_is_drawn_depends_on_seed_epoch_and_row_alone(toy_set: ToySet) -> None:
    source, cold = source_of(toy_set), source_of(toy_set)
    keep_decoded(source)
    keys = [(row, epoch) for epoch in (1, 2) for row in (0, 1, 5)]
    forth = [source[key][0] for key in keys]
    back = [cold[key][0] for key in reversed(keys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
    assert not torch.equal(source[0, 1][0], source[0, 2][0])
    assert not torch.equal(source[0, 1][0], source_of(toy_set, seed=1)[0, 1][0])


def test_clips_without_a_face_are_left_out_and_counted(toy_set: ToySet) -> None:
    source = source_of(toy_set)
    assert (len(source), source.left_out) == (70, 1)
    assert source.clips["clip_id"].tolist() == toy_set.clips["clip_id"][:70].tolist()


def test_every_row_shows_its_own_clip(toy_set: ToySet) -> None:
    source = source_of(toy_set)
    for row in range(5):
        mean = source[row, None][0].float().mean(dim=(0, 2, 3))
        # The toy's first three classes are red, green and blue, then yellow and cyan.
        expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]][row]
        assert (mean > 128).int().tolist() == expected


def test_an_index_of_other_shards_is_noticed(toy_set: ToySet) -> None:
    index = toy_set.index.assign(row=toy_set.index["row"].where(toy_set.index["row"] != 1, 2))
    source = ClipSource(toy_set.clips, index, toy_set.root, num_segments=4, input_size=32)
    with pytest.raises(ShardError, match="row 2 is clip toy/002, found toy/004"):
        source[2, None]


def test_a_clip_that_is_there_twice_is_seen_in_two_views(toy_set: ToySet) -> None:
    source = source_of(replace(toy_set, clips=toy_set.clips.iloc[[3, 3]]))
    assert len(source) == 2
    assert torch.equal(source[0, None][0], source[1, None][0])
    assert not torch.equal(source[0, 1][0], source[1, 1][0])


def test_tables_that_cannot_be_read_are_refused(toy_set: ToySet) -> None:
    with pytest.raises(ValueError, match="align index lists 1 clips twice, the first is toy/003"):
        twice = toy_set.index.replace("toy/004", "toy/003")
        ClipSource(toy_set.clips, twice, toy_set.root, num_segments=4, input_size=32)
    renamed = toy_set.clips.assign(clip_id="other/" + toy_set.clips["clip_id"])
    with pytest.raises(ValueError, match=r"none of 71 clips has aligned faces .*70 of them ok"):
        ClipSource(renamed, toy_set.index, toy_set.root, num_segments=4, input_size=32)
    with pytest.raises(ValueError, match="evaluation view"):
        source_of(toy_set, augment=None)[0, 1]


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 5), st.integers(1, 4))
@settings(deadline=None)
def test_an_epoch_shows_every_clip_once_and_none_alone(clips: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = TrainingBatches(clips, batch_size, seed)
    batches.epoch = epoch
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert sorted(row for batch in drawn for row, _ in batch) == list(range(clips))
    assert {key_epoch for batch in drawn for _, key_epoch in batch} == {epoch}
    assert all(len(batch) == batch_size for batch in drawn[:-1])
    assert 2 <= len(drawn[-1]) <= batch_size + 1


def test_epochs_are_shuffled_differently_and_repeatably() -> None:
    batches, again = TrainingBatches(50, 8, 3), TrainingBatches(50, 8, 3)
    first = list(batches)
    batches.epoch = again.epoch = 2
    second = list(batches)
    assert [row for batch in first for row, _ in batch] != [row for batch in second for row, _ in batch]
    assert second == list(again)


def test_a_single_clip_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match="two clips or more, found 1"):
        TrainingBatches(1, 8, 0)


def test_reading_in_other_processes_changes_nothing(toy_set: ToySet) -> None:
    epochs = {}
    for workers in (0, 2):
        batches = TrainingBatches(70, 8, 0)
        loader = training_loader(source_of(toy_set), batches, workers=workers)
        epochs[workers] = []
        for batches.epoch in (1, 2):
            epochs[workers] += list(loader)
    for (frames, rows), (other_frames, other_rows) in zip(epochs[0], epochs[2], strict=True):
        assert torch.equal(rows, other_rows)
        assert torch.equal(frames, other_frames)
        assert frames.is_contiguous()
        assert other_frames.is_contiguous()


def test_a_batch_is_its_clips_one_by_one(toy_set: ToySet) -> None:
    source, batches = source_of(toy_set, input_size=24), TrainingBatches(70, 8, 0)
    for keys, (frames, rows) in zip(batches, training_loader(source, batches), strict=True):
        assert torch.equal(frames, torch.stack([source[key][0] for key in keys]))
        assert rows.tolist() == [row for row, _ in keys]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_from_the_cache_are_those_from_the_shards(toy_set: ToySet, workers: int) -> None:
    cold, warm = source_of(toy_set, input_size=24), source_of(toy_set, input_size=24)
    some = source_of(replace(toy_set, clips=toy_set.clips[:20]), input_size=24)
    # clips of two sources are kept once
    assert len(stored_frames([warm, some])[0]) == 70
    keep_decoded(warm, some, workers=workers)
    loaders = [training_loader(source, TrainingBatches(70, 8, 0)) for source in (cold, warm)]
    for (frames, rows), (cached_frames, cached_rows) in zip(*loaders, strict=True):
        assert torch.equal(rows, cached_rows)
        assert torch.equal(frames, cached_frames)
    first, _ = next(iter(evaluation_loader(cold, batch_size=20)))
    assert torch.equal(next(iter(evaluation_loader(some, batch_size=20)))[0], first)


def test_clips_of_other_sizes_are_no_batch(toy_set: ToySet, tmp_path: Path) -> None:
    clips = [toy_clip(f"size/{side}", np.zeros((4, side, side + 2, 3), np.uint8)) for side in (16, 20)]
    write_shard(tmp_path / "only", clips, settings=ShardSettings())
    table = pd.DataFrame({"clip_id": ["size/16", "size/20"], "label": [0, 1], "votes": [None, None]})
    index = pd.DataFrame({"clip_id": ["size/16", "size/20"], "status": "ok", "shard": "only", "row": [0, 1]})
    source = source_of(ToySet(table, index, tmp_path))
    with pytest.raises(ShardError, match=r"clip size/\d+ has frames of (18x16|22x20) pixels, size/\d+ of"):
        next(iter(training_loader(source, TrainingBatches(2, 2, 0))))
    with pytest.raises(ShardError, match="row 1 has frames of 22x20 pixels, other clips of this training of 18x16"):
        keep_decoded(source)


def test_a_clip_that_cannot_be_read_is_an_error_wherever_it_is_read(toy_set: ToySet) -> None:
    index = toy_set.index.assign(row=toy_set.index["row"].where(toy_set.index["row"] != 1, 2))
    batches = TrainingBatches(70, 8, 0)
    with pytest.raises(ShardError, match="the index is of other shards"):
        list(training_loader(source_of(replace(toy_set, index=index)), batches))
    with pytest.raises(ShardError, match="the index is of other shards"):
        keep_decoded(source_of(replace(toy_set, index=index)))


def test_the_wait_is_counted_for_each_pass(toy_set: ToySet) -> None:
    source, batches = source_of(toy_set), TrainingBatches(70, 8, 0)
    decode = source.stored
    source.stored = lambda keys: (time.sleep(0.02), decode(keys))[1]  # type: ignore[method-assign]
    loader = training_loader(source, batches)
    list(loader)
    # Nobody computes in between: all is waiting.
    assert loader.waited > 0.02 * len(batches)
    for _ in loader:
        time.sleep(0.05)
    # Only the first batch has nothing to hide behind.
    assert loader.waited < 0.02 * len(batches)


def test_a_source_that_was_read_from_can_be_pickled(toy_set: ToySet) -> None:
    source = source_of(toy_set)
    expected = source[3, 1][0]
    assert torch.equal(pickle.loads(pickle.dumps(source))[3, 1][0], expected)


def test_evaluation_goes_through_the_clips_in_order(toy_set: ToySet) -> None:
    rows = torch.cat([rows for _, rows in evaluation_loader(source_of(toy_set), batch_size=16)])
    assert rows.tolist() == list(range(70))


def test_loading_does_not_touch_the_global_random_state(toy_set: ToySet) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(training_loader(source_of(toy_set), TrainingBatches(70, 8, 0), workers=0)))
    next(iter(evaluation_loader(source_of(toy_set), batch_size=4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_absolute_shard_folders_need_no_root(toy_set: ToySet) -> None:
    index = toy_set.index.assign(shard=[str(toy_set.root / shard) for shard in toy_set.index["shard"]])
    source = ClipSource(toy_set.clips, index, Path("/nowhere"), num_segments=4, input_size=32)
    assert torch.equal(source[0, None][0], source_of(toy_set)[0, None][0])


def test_a_cache_is_filled_by_several_threads_at_once(toy_set: ToySet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips are decoded at the same time, or none would go on; each thread has files of its own."""
    together, files, first_two = threading.Barrier(2, timeout=20), set(), iter([True, True])
    read = ClipSource.whole

    def whole(source: ClipSource, row: int) -> torch.Tensor:
        if next(first_two, False):
            together.wait()
        files.add((threading.get_ident(), id(source._shards)))
        return read(source, row)

    monkeypatch.setattr(ClipSource, "whole", whole)
    source = source_of(toy_set)
    fill_cache(FrameCache(*stored_frames([source]), device=torch.device("cpu")), [source], threads=2)
    assert len({thread for thread, _ in files}) == len(files) == 2

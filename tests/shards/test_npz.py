from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shard_clips import make_clip

from dfer.config.settings import ShardSettings
from dfer.shards import ShardError, open_shard, write_shard


def test_an_npz_shard_opens_with_numpy_alone(tmp_path: Path) -> None:
    clip = make_clip(7, 3)
    info = write_shard(tmp_path, [clip], settings=ShardSettings(format="npz"))
    with np.load(info.path, allow_pickle=False) as arrays:
        assert arrays["clip_ids"].tolist() == [clip.clip_id]
        np.testing.assert_array_equal(arrays["00000/frames"], clip.frames)


@pytest.mark.parametrize("damage", [bytes(40), b"("])
def test_a_damaged_header_of_an_array_is_an_error(tmp_path: Path, damage: bytes) -> None:
    path = write_shard(tmp_path, [make_clip(7, 3)], settings=ShardSettings(format="npz")).path
    content = bytearray(path.read_bytes())
    at = content.index(b"{'descr': '|u1'")
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    with pytest.raises(ShardError, match="set/00007"):
        open_shard(tmp_path).read(0)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", metadata=np.array([{"schema_version": 1}], dtype=object), clip_ids=np.array(["a"]))
    with pytest.raises(ShardError, match="allow_pickle=False"):
        open_shard(tmp_path)

from __future__ import annotations

from pathlib import Path

import pytest
from shard_clips import FORMATS, make_clip

from dfer.config.settings import ShardSettings
from dfer.shards import Clip, write_shard


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Clip], bool]:
    """A shard's folder, the clips that went into it, and whether it holds them exactly."""
    clips = [make_clip(number, length) for number, length in enumerate([5, 1, 12])]
    info = write_shard(
        tmp_path / "shard-0", iter(clips), settings=ShardSettings(format=request.param), metadata={"template": [1, 2]}
    )
    assert info.path == tmp_path / "shard-0" / f"clips.{request.param}"
    assert (info.clips, info.frames, info.size) == (3, 18, info.path.stat().st_size)
    assert [path.name for path in info.path.parent.iterdir()] == [info.path.name]
    return tmp_path / "shard-0", clips, request.param == "npz"

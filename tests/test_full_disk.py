"""What writes a file says that there is no room for it. A limit to the size of files stands in for a full disk."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dfer.files import write_atomically
from dfer.pictures import write_jpeg
from dfer.training.checkpoint import CHECKPOINT, write_checkpoint

_NOISE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)

_WRITERS: dict[str, Callable[[Path], None]] = {
    CHECKPOINT: lambda path: write_checkpoint(path.parent, {"weights": torch.zeros(100_000)}),
    "picture.jpg": lambda path: write_jpeg(path, _NOISE, quality=90),
    "model.safetensors": lambda path: write_atomically(path, bytes(100_000)),
}


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", _WRITERS)
def test_the_error_is_the_systems_own_and_names_the_file(name: str, tmp_path: Path, small_files: None) -> None:
    path = tmp_path / name
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
        _WRITERS[name](path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

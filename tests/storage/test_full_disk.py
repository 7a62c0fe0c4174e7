"""What writes a file says that there is no room for it. A limit to the size of files stands in for a full disk; in a
process of its own, for this one may be writing its report to a file."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

_CHILD = """
import json, resource, sys
from pathlib import Path

import numpy as np
import torch

from dfer.storage.files import write_atomically
from dfer.storage.jpeg import write_jpeg
from dfer.training.checkpoint import write_checkpoint

folder = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (
    lambda: write_checkpoint(folder, {"weights": torch.zeros(100_000)}),
    lambda: write_jpeg(folder / "picture.jpg", noise, quality=90),
    lambda: write_atomically(folder / "model.safetensors", bytes(100_000)),
):
    try:
        write()
    except OSError as error:
        print(json.dumps([error.errno, error.filename]))
"""


def test_the_error_is_the_systems_own_and_names_the_file(tmp_path):
    run = subprocess.run([sys.executable, "-c", _CHILD, tmp_path], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    names = ("checkpoint.pt", "picture.jpg", "model.safetensors")
    assert [json.loads(line) for line in run.stdout.splitlines()] == [
        [errno.EFBIG, str(tmp_path / name)] for name in names
    ]

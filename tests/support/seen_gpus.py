"""For a process of a test, which loads nothing else."""

from __future__ import annotations

import os
from typing import Any


def seen(*, send: Any) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")

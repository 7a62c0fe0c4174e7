"""Python's collector of cyclic garbage, kept from work that frees nothing.

It goes through all objects again and again while libraries load, and once more when a process ends. With torch, MLflow
or Prefect, each of the two takes a second or more.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect nothing while libraries load, nor, later, anything of what exists then if one was loaded."""
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # otherwise what may be garbage by now would stay
            gc.freeze()
        gc.enable()


def not_at_exit() -> None:
    """Collect nothing when this process ends: the system takes its memory anyway."""
    atexit.register(gc.freeze)

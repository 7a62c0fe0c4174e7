"""The GPUs of this machine, counted without loading torch."""

from __future__ import annotations

import os


def count() -> int:
    """GPUs that programs started from here can use; 0 without a driver."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        import pynvml
    except ImportError:  # not for this operating system
        return 0
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()

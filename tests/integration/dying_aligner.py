"""What aligns a shard, in place of the real thing: its process is killed."""

from __future__ import annotations

import os
import signal


def align(**_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

"""Keeps a crash inside a library to the clip that caused it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from dfer.system.processes import ProcessDiedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}


def without_crashing_clips(
    attempt: Callable[[Mapping[str, str], Callable[[str], None]], T],
    clips: Iterable[str],
    on_clip: Callable[[], None],
) -> T:
    """Align clips in a process, and again without the clip that crashed it, as often as one does.

    Args:
        attempt: aligns in a new process, given the clips to leave out (clip id -> reason) and a function that it calls
            with each clip's id when that clip is done.
        clips: ids in the order in which they are aligned.
        on_clip: called once for each clip that is done.

    Raises:
        ProcessDiedError: the process was ended from outside, or not while it aligned a clip.
    """
    crashed: dict[str, str] = {}
    waiting = dict.fromkeys(clips)
    while True:
        remaining = dict(waiting)

        def done(clip: str, remaining: dict[str, None] = remaining) -> None:
            remaining.pop(clip, None)
            if clip in waiting:
                del waiting[clip]
                on_clip()

        try:
            return attempt(crashed, done)
        except ProcessDiedError as error:
            culprit = next(iter(remaining), None)
            if error.signal not in _CRASHES or culprit is None:
                raise
            logger.warning("clip %s crashes the process (%s); going on without it", culprit, error.signal.name)
            crashed[culprit] = (
                f"decoding it crashes the process ({error.signal.name}); convert it with ffmpeg, or leave it out"
            )

"""Paths as people write them."""

from __future__ import annotations

import os


def expanded(path: str) -> str:
    """The path with `~` or `~user` at its start replaced by that home folder, as shells do for a word of its own.

    They do not in `--out=~/faces`, and nobody does in a file. `~name` stays as it is where there is no such user.
    Raises ValueError if the own home folder is asked for and not known.
    """
    replaced = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises for names such as ~$report.mp4
    if replaced == path and (path == "~" or path.startswith("~/")):
        raise ValueError(f"{path}: this user has no home folder; set HOME, or write the path without ~")
    return replaced

"""Paths as people write them."""

from __future__ import annotations

import os
import sys


def expanded(path: str) -> str:
    """The path with `~` or `~user` at its start replaced by that home folder, as shells do for a word of its own.

    They do not in `--out=~/faces`, and nobody does in a file. `~name` stays as it is where there is no such user.
    Raises ValueError if the own home folder is asked for and not known.
    """
    replaced = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises for names such as ~$report.mp4
    if replaced == path and (path == "~" or path.startswith("~/")):
        raise ValueError(f"{path}: this user has no home folder; set HOME, or write the path without ~")
    return replaced


def spelled(path: str | os.PathLike[str]) -> str:
    r"""The path as text that can be written anywhere; equal for equal bytes, whatever the locale.

    A path keeps the bytes of names that are no UTF-8, or not in the locale's encoding, in characters that can neither
    be printed nor stored. Here, UTF-8 is read as such, and other bytes are written as \xe9.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def storable(text: str) -> str:
    r"""A text that may name paths, such as an error, as `spelled` would write them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def problem_with_path(path: str | os.PathLike[str]) -> str:
    """Why files below a path cannot be written by Arrow and databases, which take names of UTF-8 alone; empty if they
    can."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        why = "" if encoding == "utf-8" else f", or Python takes names for {encoding} here: set PYTHONUTF8=1"
        return f"the name of {spelled(path)} is not UTF-8{why}"
    return ""


def printable(text: str) -> str:
    r"""The text with control characters, which could drive a terminal, written as \x1b; lines stay lines."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)

"""Texts that people read have no passwords in them."""

from __future__ import annotations

import re

# up to the last @ before the path, since a password may contain one
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s'\"]+(?=@)")


def mask_passwords(text: str) -> str:
    """The text with `***` for the user and password of every address in it."""
    return _USER_AND_PASSWORD.sub("***", text)

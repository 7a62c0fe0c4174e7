"""Predictions in this very process, which has the libraries loaded already."""

from __future__ import annotations

from typing import Any

import pytest

from dfer.prediction import run, work


class _Here:
    """In place of a worker process."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, function: Any, *, on_message: Any, **arguments: Any) -> Any:
        return function(send=on_message, **arguments)


def predict_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends, videos are predicted here, and no network of another test is taken."""
    monkeypatch.setattr(work, "_kept", {})
    monkeypatch.setattr(run, "_process_of", lambda slot: _Here())

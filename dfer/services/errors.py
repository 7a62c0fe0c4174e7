"""What can go wrong with services."""

from __future__ import annotations


class ServiceError(RuntimeError):
    """A service cannot be started, reached or stopped; the message says what to do."""

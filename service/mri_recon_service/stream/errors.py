"""Define the ends of a session that are not its regular end."""

from __future__ import annotations

__all__ = ["Disconnected", "SessionError"]


class SessionError(Exception):
    """End a session with a message to its client: expected, got, do."""


class Disconnected(Exception):
    """End a session whose client is gone."""

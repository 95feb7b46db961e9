"""How long a test waits for something before it calls it lost."""

from __future__ import annotations

__all__ = ["PATIENCE"]

PATIENCE = 600.0
"""Seconds. On a quiet machine nothing takes a tenth of it, on a busy one nothing takes all of it."""

"""State the notice that every result, page and answer carries."""

from __future__ import annotations

RESEARCH_ONLY = "Research only: not a medical device, not for diagnosis or treatment."

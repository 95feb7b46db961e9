"""Describe what became of one instance that was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mri_recon.pacs.instances import Instance

__all__ = ["Outcome", "State"]

State = Literal["stored", "warning", "failed", "unsent"]


@dataclass(frozen=True)
class Outcome:
    """Hold the answer to one instance.

    Attributes:
        instance: what was sent.
        state: `stored`; `warning`, stored with a remark, for example that patient data were coerced; `failed`, refused;
            `unsent`, not sent or not answered, since the connection was lost.
        reason: the remark or the reason; empty if stored.
        later: whether the same may succeed later.
        wait: seconds that the other side asks to wait before the next attempt; None if it does not say.
    """

    instance: Instance
    state: State
    reason: str = ""
    later: bool = False
    wait: float | None = None

    @property
    def stored(self) -> bool:
        """Whether the other side has the instance now."""
        return self.state in ("stored", "warning")

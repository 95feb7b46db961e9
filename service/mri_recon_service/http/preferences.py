"""What the header `Prefer` of a request asks for (RFC 7240)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Preferences", "read_preferences"]

_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Preferences:
    """Preferences that the service honours; others are ignored, as the RFC wants.

    Attributes:
        respond_async: answer with a job at once.
        wait: seconds to wait for the result before a job is answered; None: as the service finds right.
    """

    respond_async: bool = False
    wait: float | None = None

    @property
    def durable(self) -> bool:
        """The work is to go on when the connection ends."""
        return self.respond_async or self.wait is not None

    @property
    def applied(self) -> dict[str, str]:
        """The header that says what was honoured."""
        names = ["respond-async"] if self.respond_async else []
        if self.wait is not None:
            names.append(f"wait={self.wait:g}")
        return {"Preference-Applied": ", ".join(names)} if names else {}


def read_preferences(header: str | None) -> Preferences:
    """The preferences in a header; what is malformed counts for nothing."""
    found: dict[str, str] = {}
    for part in (header or "").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    seconds = min(float(wait), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else None
    return Preferences(respond_async="respond-async" in found, wait=seconds)

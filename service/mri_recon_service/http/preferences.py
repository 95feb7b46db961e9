"""Read the header `Prefer` of a request (RFC 7240)."""

from __future__ import annotations

from dataclasses import dataclass

from mri_recon_service.whole_numbers import whole_number

__all__ = ["Preferences", "read_preferences"]

_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Preferences:
    """Preferences that the service honours. Others are ignored, as the RFC requires.

    Attributes:
        respond_async: answer with a job at once.
        wait: seconds to wait for the result before the answer is a job. None: the service decides.
        representation: answer with a stored result itself, not with an address of it.
    """

    respond_async: bool = False
    wait: float | None = None
    representation: bool = False

    @property
    def durable(self) -> bool:
        """Whether the work must go on when the connection ends."""
        return self.respond_async or self.wait is not None

    @property
    def applied(self) -> dict[str, str]:
        """The header that names the honoured preferences."""
        names = ["respond-async"] if self.respond_async else []
        if self.wait is not None:
            names.append(f"wait={self.wait:g}")
        return {"Preference-Applied": ", ".join(names)} if names else {}


def read_preferences(header: str | None) -> Preferences:
    """Read the preferences in a header. Malformed ones are ignored."""
    found: dict[str, str] = {}
    for part in (header or "").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    seconds = whole_number(found.get("wait", ""))
    wait = None if seconds is None else min(float(seconds), _LONGEST_WAIT)
    whole = found.get("return", "").lower() == "representation"
    return Preferences(respond_async="respond-async" in found, wait=wait, representation=whole)

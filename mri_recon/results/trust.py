"""Say in one line what the checks of a result found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["auto_caption", "holdout_caption", "trust_lines"]


def holdout_caption(info: Mapping[str, Any]) -> str:
    """Describe the hold-out check in one line, from the `info` of any method; "" if there was none."""
    report = info.get("holdout")
    if not report:
        return ""
    count = f"{report['held_lines']} lines" if "held_lines" in report else f"{report['held_samples']} samples"
    references = ", ".join(f"{name} {_decibels(one['error_db'])} dB" for name, one in report["references"].items())
    figure = f"{_decibels(report['error_db'])} +- {_decibels(report['uncertainty_db'])} dB"
    return (
        f"Hold-out check: error {figure} on {count} that the method was not shown "
        f"(0 dB: predicts nothing; lower is better; noise alone {_decibels(report['noise_floor_db'])} dB; "
        f"{references})."
    )


def auto_caption(info: Mapping[str, Any]) -> str:
    """Say in one line what `auto` took and why; "" for any other method."""
    return f"Auto took {info['auto']['why']}." if "auto" in info else ""


def trust_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the captions of the rows of a comparison, each with the name of its method."""
    return [
        f"{row['method']}: {caption}"
        for row in rows
        for caption in (auto_caption(row["info"]), holdout_caption(row["info"]))
        if caption
    ]


def _decibels(value: float) -> str:
    """Write a figure with one digit, never as "-0.0"."""
    return f"{round(value, 1) + 0.0:.1f}"

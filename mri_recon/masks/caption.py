"""Describe a mask in a line of text, from its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["mask_caption"]

_KINDS = {"file": "columns named by a file", "array": "given columns", "from-zeros": "the columns that are not zero"}


def mask_caption(receipt: Mapping[str, Any]) -> str:
    """Describe a mask in one line: its kind, number of lines, requested and achieved acceleration."""
    asked, realised = receipt.get("requested_acceleration"), float(receipt["realised_acceleration"])
    acceleration = f"R = {realised:.2f}" if asked is None else f"R = {asked:g} requested, {realised:.2f} achieved"
    if receipt["kind"] == "pattern":
        return f"2-D pattern, {receipt['num_samples']} samples, {acceleration}"
    seed = "" if receipt.get("seed") is None else f", seed {receipt['seed']}"
    kind = _KINDS.get(receipt["kind"], f"{receipt['kind']} columns")
    return (
        f"{kind}, {receipt['num_lines']} of {receipt['support_width']} "
        f"({receipt['num_low_frequencies']} in the centre), {acceleration}{seed}"
    )

"""Convert values to JSON, and write JSON documents in one step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mri_recon._system.files import write_atomically
from mri_recon._system.text import storable

__all__ = [
    "json_text",
    "jsonable",
    "write_json",
]


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file beside its final name, then move it there, so that no reader sees half of it.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, json_text(document).encode())


def json_text(document: Mapping[str, Any]) -> str:
    """Return the JSON of a document, in ASCII."""
    return json.dumps(jsonable(document), indent=2, allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """Convert tensors, arrays, paths and tuples to plain JSON types; a number that is not finite becomes null."""
    match value:
        case bool() | None | int():
            return value
        case str():
            return storable(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {storable(str(key)): jsonable(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [jsonable(item) for item in value]
        case _ if hasattr(value, "tolist") and not isinstance(value, type):  # tensors, arrays and their numbers
            return jsonable(value.tolist())
        case _:
            return storable(str(value))

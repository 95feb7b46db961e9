"""Name methods with options, of which `auto` chooses.

A candidate is written as the name of a method, with options after colons:

    cs-wavelet      cg-sense:reg_weight=0.003      unrolled:model=my.safetensors
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mri_recon.errors import MethodError
from mri_recon.methods.option_values import option_types, parse_value
from mri_recon.methods.table import check_options, get_method

__all__ = ["Candidate", "parse_candidates"]

_SEPARATOR = re.compile(r":(?=\w+=)")  # a colon inside a path is none


@dataclass(frozen=True)
class Candidate:
    """Name a method with options.

    Attributes:
        method: name of the method.
        options: its options; omitted ones keep their defaults.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The candidate as it is written, e.g. "cg-sense:reg_weight=0.003"."""
        return ":".join([self.method, *(f"{key}={value}" for key, value in self.options.items())])


def parse_candidates(texts: str | Sequence[str]) -> list[Candidate]:
    """Read candidates from a text with commas, or from a list of texts.

    Raises:
        MethodError: no text, no candidate, the same one twice, an unknown method or option, a value that an option
            does not allow, or the option `maps`, since all candidates get the same maps.
    """
    if not isinstance(texts, str | list | tuple) or not all(isinstance(one, str) for one in texts):
        raise MethodError(
            f"expected candidates as a text or a list of texts, got {type(texts).__name__}: write e.g. "
            "cs-wavelet,unrolled"
        )
    parts = texts.split(",") if isinstance(texts, str) else list(texts)
    found = [_parsed(part) for part in parts if part.strip()]
    labels = [one.label for one in found]
    if not found or len(set(labels)) < len(labels):
        raise MethodError(
            f"expected candidates, each once, got {', '.join(labels) or 'none'}: write e.g. cs-wavelet,unrolled"
        )
    return found


def _parsed(text: str) -> Candidate:
    method, *parts = (part.strip() for part in _SEPARATOR.split(text))
    types = option_types(get_method(method))
    options: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        options[key] = parse_value(value, types.get(key, Any))
    check_options(method, options)
    if "maps" in options:
        raise MethodError(
            f"expected candidates without the option maps, got {text!r}: all of them get the same maps; leave it out"
        )
    return Candidate(method, options)

"""Describe the options of a method: defaults and allowed values from its signature, meanings from its docstring."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mri_recon.methods.option_values import allowed_values, option_types
from mri_recon.methods.table import get_method, method_options

__all__ = ["OptionDoc", "option_docs"]

_SAME_AS = re.compile(r"[Aa]rguments[\w, ]* are those of `(\w+)`")
"""Sentence by which a docstring refers to that of another function of its module."""


@dataclass(frozen=True)
class OptionDoc:
    """Describe one option.

    Attributes:
        name: name of the option.
        default: its default.
        allowed: allowed values in words; "" if the method does not declare them.
        meaning: what it does, in one paragraph; "" if the method's docstring does not say.
    """

    name: str
    default: Any
    allowed: str
    meaning: str


def option_docs(name: str) -> list[OptionDoc]:
    """Describe the options of a method, in the order of its signature.

    Raises:
        MethodError: as `get_method`.
    """
    function = get_method(name)
    types, meanings = option_types(function), _meanings(function)
    return [
        OptionDoc(option, default, allowed_values(types.get(option, Any)), meanings.get(option, ""))
        for option, default in method_options(name).items()
    ]


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Read the section `Args` of a docstring in Google's style: the text of each argument in one line."""
    text = inspect.getdoc(function) or ""
    if (same := _SAME_AS.search(text)) is not None:
        other = getattr(sys.modules.get(function.__module__), same.group(1), None)
        if callable(other) and other is not function:
            return _meanings(other)
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith(" ") and line.strip():
            inside, names = line.strip() == "Args:", []
            continue
        head = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if inside and head:
            names = head.group(1).split(", ")
            found |= dict.fromkeys(names, head.group(2))
        elif inside and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found

"""Read docstrings as the plain text they are, where Sphinx expects reStructuredText; show signatures as written.

The docstrings write code in single backticks and equations as indented lines. Here the first become literals, the
second literal blocks, and signs that reStructuredText would interpret are escaped. Napoleon reads the sections
("Args:", "Returns:", ...) afterwards.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.util.inspect import stringify_signature

__all__ = ["as_rest", "setup"]

_SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Raises|Returns|Yields|Note|Warning):\s*$")
_FIRST_OF_NAPOLEON = 400
"""Napoleon has the default priority, 500."""


def as_rest(lines: list[str]) -> list[str]:
    """Convert the lines of one docstring."""
    pieces: list[tuple[bool, list[str]]] = []  # (equation or code, its lines)
    in_section = False
    for number, line in enumerate(lines):
        if line.strip() and not line.startswith(" "):
            in_section = bool(_SECTION.match(line))
        after_gap = number > 0 and not lines[number - 1].strip()
        goes_on = bool(pieces) and pieces[-1][0] and (line.startswith("    ") or not line.strip())
        literal = not in_section and (goes_on or (after_gap and line.startswith("    ") and bool(line.strip())))
        if pieces and pieces[-1][0] == literal:
            pieces[-1][1].append(line)
        else:
            pieces.append((literal, [line]))
    converted: list[str] = []
    for literal, piece in pieces:
        converted += ["::", "", *piece] if literal else _escaped("\n".join(piece)).split("\n")
        if literal and piece[-1].strip():
            converted.append("")
    return converted


def _escaped(text: str) -> str:
    """Escape prose, and make code in single backticks a literal."""
    parts = re.split(r"`([^`]+)`", text)
    prose = [re.sub(r"([*|\\])|(?<=\w)_(?!\w)", _escape, part) for part in parts[::2]]
    literals = [f"``{' '.join(part.split()) if chr(10) in part else part}``" for part in parts[1::2]]
    joined = prose[0]
    for literal, after in zip(literals, prose[1:], strict=True):
        before = "\\ " if joined and joined[-1].isalnum() else ""
        joined += before + literal + ("\\ " if after and after[0].isalnum() else "") + after
    return joined


def _escape(sign: re.Match[str]) -> str:
    return f"\\{sign[0]}"


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rest(lines)


def _sign(app: Any, what: str, name: str, obj: Any, options: Any, *found: str | None) -> tuple[str, str] | None:
    """Write types as the source does, not as the objects they evaluate to; options without, whose types are ranges."""
    if what not in ("class", "function", "method") or found[0] is None:
        return None
    signature = inspect.signature(obj)
    if what == "method":
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    of_method = name.startswith("mri_recon.methods.")
    text = stringify_signature(signature, show_annotation=not of_method, show_return_annotation=False)
    returned = signature.return_annotation
    known = what != "class" and not of_method and isinstance(returned, str)
    return text.replace("npt.", ""), returned.replace("npt.", "") if known else ""


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-signature", _sign)
    app.connect("autodoc-process-docstring", _process, priority=_FIRST_OF_NAPOLEON)
    return {"parallel_read_safe": True}

"""Every refusal of a file says what to do, as docs/using/files.md promises."""

from __future__ import annotations

import ast
from pathlib import Path

READERS = Path(__file__).parents[2] / "mri_recon" / "io"


def test_every_refusal_says_what_to_do() -> None:
    """Behind what was expected and what came stands a colon and the remedy."""
    without = []
    for path in sorted(READERS.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "FormatError":
                continue
            message = call.args[0]
            if isinstance(message, ast.JoinedStr | ast.Constant) and ": " not in (text := ast.unparse(message)):
                without.append(f"{path.name}:{call.lineno} {text}")
    # Two end in a constant, which holds the remedy.
    assert [text for text in without if "_DAMAGED" not in text] == []

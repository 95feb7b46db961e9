"""The examples of the pages run, and print what they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "count"), [("files.md", 3), ("progress.md", 2), ("provenance.md", 1)])
def test_the_examples_run(
    page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == count
    for block in blocks:
        exec(compile(block, page, "exec"), {})
        printed = capsys.readouterr().out
        for said in re.findall(r"print\(.*\)  # (.*)", block):
            assert said in printed


def test_every_refusal_says_what_to_do() -> None:
    """The page promises it: behind what was expected and what came stands a colon and the remedy."""
    without = []
    for path in sorted((DOCS.parent / "mri_recon" / "io").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "FormatError":
                continue
            message = call.args[0]
            if isinstance(message, ast.JoinedStr | ast.Constant) and ": " not in (text := ast.unparse(message)):
                without.append(f"{path.name}:{call.lineno} {text}")
    # Two end in a constant, which holds the remedy.
    assert [text for text in without if "_DAMAGED" not in text] == []

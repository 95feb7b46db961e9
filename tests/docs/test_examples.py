"""The examples of the pages run, and print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "using"


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

"""The steps that fit again what depends on the weights, and the tables that they put into the pages."""

from pathlib import Path

import pytest
import typer

from benchmarks import refit

PAGE = "Before.\n\n<!-- table: regret 1 -->\n\n| old |\n|---|\n\n<!-- end of table -->\n\nAfter.\n"
OUTPUT = "text\n\n| a |\n|---|\n| 1 |\n\nmore\n\n| b |\n|---|\n| 2 |\n"


def test_a_table_is_replaced_and_the_rest_stays() -> None:
    made = {"regret": refit.tables(OUTPUT)}
    new = refit.with_tables(PAGE, made)
    assert new == PAGE.replace("| old |\n|---|", "| b |\n|---|\n| 2 |")
    assert refit.with_tables(new, made) == new
    assert refit.with_tables(PAGE, {"scans": ["| c |"]}) == PAGE


def test_a_table_that_was_not_printed() -> None:
    with pytest.raises(ValueError, match="expected table 1 of step regret, got 1 tables"):
        refit.with_tables(PAGE, {"regret": ["| a |"]})


def test_every_marker_of_the_pages_has_a_step() -> None:
    names = {step.name for step in refit.STEPS}
    pages = [page.read_text("utf-8") for page in refit.DOCS.rglob("*.md")]
    found = [(mark[2], mark[3]) for page in pages for mark in refit.BLOCK.finditer(page)]
    assert found
    assert {name for name, _ in found} <= names
    assert len(found) == len(set(found))
    assert sum(page.count("<!-- table:") for page in pages) == len(found)  # each marker has its end


def test_steps_of_the_test_split_are_asked_for() -> None:
    assert not any(step.test for step in refit.chosen("", test=False))
    assert [step.name for step in refit.chosen("regret,trust", test=False)] == ["regret", "trust"]
    assert refit.chosen("", test=True) == list(refit.STEPS)
    with pytest.raises(typer.BadParameter, match="looks at the test split"):
        refit.chosen("test", test=False)
    with pytest.raises(typer.BadParameter, match="expected steps of trust, .*, got 'trusst'"):
        refit.chosen("trusst", test=False)


def test_a_run_puts_the_output_of_its_last_command_into_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "say.py").write_text("import sys\nprint('| ' + sys.argv[1] + ' |\\n|---|')\n")
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- table: one 0 -->\n<!-- end of table -->\n")
    step = refit.Step("one", [f"python {tmp_path}/say.py first", f"python {tmp_path}/say.py {{folder}}/second"])
    monkeypatch.setattr(refit, "STEPS", (step,))
    monkeypatch.setattr(refit, "DOCS", page.parent)
    monkeypatch.setattr(refit, "ROOT", tmp_path)
    refit.main(tmp_path / "kept", "", False)
    assert f"| {tmp_path}/kept/second |" in page.read_text()
    assert (tmp_path / "kept" / "one.txt").is_file()
    assert "changed docs/page.md" in capsys.readouterr().out

"""The examples of the pages run, and print what they say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.embedded_sample import sample_path

DOCS = Path(__file__).parents[2] / "docs" / "using"


@pytest.mark.parametrize(
    ("page", "count"), [("files.md", 3), ("progress.md", 2), ("provenance.md", 1), ("python.md", 4)]
)
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


def test_the_readmes_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = _blocks("README.md", "python")
    shutil.copy(sample_path(), tmp_path / "knee.h5")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "PSNR" in capsys.readouterr().out


def test_the_package_of_the_walk_throughs_adds_a_method_and_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRIBUTING's examples, laid out as pip installs them."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("\n".join(_blocks("CONTRIBUTING.md", "python")))
    information = tmp_path / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    groups = "\n".join(_blocks("CONTRIBUTING.md", "toml"))
    (information / "entry_points.txt").write_text(groups.replace("project.entry-points.", "").replace('"', ""))
    monkeypatch.syspath_prepend(tmp_path)

    sample = str(sample_path())
    assert CliRunner().invoke(build_app(), ["lines", sample]).stdout == "127\n"
    methods = ["--methods", "zero-filled,blurred", "--option", "blurred.keep=0.6"]
    result = CliRunner().invoke(build_app(), ["compare", sample, "--acceleration", "4", *methods])
    assert result.exit_code == 0, result.output
    assert "blurred" in result.stdout


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"```{language}\n(.*?)```", (DOCS.parents[1] / page).read_text(encoding="utf-8"), flags=re.DOTALL
    )

"""The examples of the client's page run against a service, and print what they say."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE
from tests.support.service import ServerProcess, until

PAGE = (Path(__file__).parents[2] / "docs" / "service" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ServerProcess(tmp_path_factory.mktemp("data"))
    until(lambda: server.client.get("/health/ready").status_code == 200, PATIENCE)
    yield str(server.client.base_url)
    server.kill(signal.SIGTERM)


def test_the_page_has_its_examples() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_examples_run(
    address: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = BLOCKS[number]
    if ".nii.gz" in block and find_spec("nibabel") is None:
        pytest.skip("the extra 'clinical' is not installed")
    monkeypatch.chdir(tmp_path)
    assert "http://127.0.0.1:8000" in block
    exec(compile(block.replace("http://127.0.0.1:8000", address), "client.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    for said in re.findall(r"print\(.*\)  # (.*)", block):
        assert said in printed
    for saved in re.findall(r'save\("(.*?)"', block):
        assert (tmp_path / saved).stat().st_size > 0


def test_the_tables_are_complete() -> None:
    """Every public name of the client, and every error, is on the page."""
    from mri_recon_service import client

    for name in (one for one in dir(client.Client) if not one.startswith("_")):
        assert f"`{name}(" in PAGE or f"{name}(" in PAGE, name
    for name in (one for one in client.__all__ if one.endswith("Error")):
        assert f"`{name}`" in PAGE, name

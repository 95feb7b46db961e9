"""The verb `send`: what it refuses before any connection, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mri_recon.cli import build_app
from tests.support.pacs import ENHANCED, entity, service
from tests.support.patience import PATIENCE

DICOM, STOW = ["--dicom", "PACS@127.0.0.1:1"], ["--stow", "http://127.0.0.1:1/web"]


def send(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["send", *map(str, arguments)])


def fails(*arguments: object) -> str:
    result = send(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("mri-recon: error: ")
    return line


def test_arguments_that_do_not_fit(written: Callable[..., Path]) -> None:
    path = written("a.dcm")
    for arguments, told in (
        ([path], "expected --stow URL or --dicom AET@HOST:PORT, got none: give one"),
        ([path, *DICOM, *STOW], "expected --stow URL or --dicom AET@HOST:PORT, got both: give one"),
        (DICOM, "expected at least one RESULT to send, got none"),
        (["--echo", path, *DICOM], "expected --echo with an address alone, got more"),
        (["--echo", "--dry-run", *DICOM], "expected --echo with an address alone, got more"),
        ([path, *STOW, "--aet", "US"], "expected --aet and --tls with --dicom, got them with --stow"),
        ([path, *STOW, "--tls"], "expected --aet and --tls with --dicom, got them with --stow"),
        ([path, *DICOM, "--credentials-over-http"], "expected --credentials-over-http with --stow"),
        ([path, *DICOM, "--ca-file", path], "expected --tls where certificates are given for DICOM"),
        ([path, *DICOM, "--json", path], "expected a name that ends in .json"),
        ([path, "--stow", "https://us:geheim@host"], "leave the user and the password out of it"),
    ):
        line = fails(*arguments)
        assert told in line
        assert "geheim" not in line


def test_a_json_file_never_replaces_a_result(written: Callable[..., Path]) -> None:
    path = written("a.dcm")
    (path.parent / "a.json").symlink_to(path)
    content = path.read_bytes()
    assert "RESULT" in fails(path, *DICOM, "--json", path.parent / "a.json")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("library", "address"), [("pynetdicom", DICOM), ("dicomweb_client.api", STOW), ("pydicom", DICOM)]
)
def test_a_missing_library(
    library: str, address: list[str], written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written("a.dcm")
    monkeypatch.setitem(sys.modules, library, None)
    assert fails(path, *address).endswith("it is not installed: pip install 'mri-recon[pacs]'")


def test_proxies_of_the_environment(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("a.dcm")
    with service([]) as (url, requests):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert "the proxy of the environment cannot be used: check HTTPS_PROXY" in fails(path, "--stow", url)
        assert requests == []
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert send(path, "--stow", url).exit_code == 0


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_bigendian.dcm", "rtplan.dcm"])
def test_dicom_of_others_keeps_its_transfer_syntax(name: str, tmp_path: Path) -> None:
    """Files that come with pydicom: compressed, big-endian, and no image."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = Path(str(get_testdata_file(name, download=False)))
    data = pydicom.dcmread(path)
    syntax = str(data.file_meta.TransferSyntaxUID)
    assert "--foreign" in fails(path, *DICOM)
    with entity([], classes=(data.SOPClassUID,), syntaxes=(syntax,)) as (target, stored):
        result = send(path, "--dicom", target, "--foreign")
        assert result.exit_code == 0, result.output
    assert stored[0].file_meta.TransferSyntaxUID == syntax
    assert stored[0].get("PixelData") == data.get("PixelData")
    with service([]) as (url, requests):
        assert send(path, "--stow", url, "--foreign").exit_code == 0
    body = requests[0][3]
    assert data.get("PixelData", b"") in body


def test_ctrl_c_tells_what_was_stored(written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    asked, go_on = threading.Event(), threading.Event()

    def slow(event: Any) -> int:
        asked.set()
        go_on.wait(PATIENCE)
        return 0

    with entity([0, slow]) as (target, stored):
        command = [sys.executable, "-m", "mri_recon.cli", "send", str(path), "--dicom", str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert asked.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            threading.Timer(1.0, go_on.set).start()
            told, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert told.startswith("stored ")
    assert "interrupted" in errors
    assert 1 <= len(stored) < 3


def test_a_name_with_any_bytes(written: Callable[..., Path]) -> None:
    path = written("a.dcm")
    odd = path.with_name("odd\n\x1b[31m\udcff.dcm")
    path.rename(odd)
    with entity([], classes=(ENHANCED,)) as (target, _):
        result = send(odd, "--dicom", target, "--json", odd.with_name("out.json"))
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert len(result.stdout.splitlines()) == 2
    assert "odd" in odd.with_name("out.json").read_text()

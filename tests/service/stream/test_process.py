"""`mri-recon stream` as an operator starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon_service.http.keys import add_key
from mri_recon_service.settings import settings_table
from mri_recon_service.stream.settings import StreamSettings
from tests.io.mrd_files import messages_of, mrd
from tests.service.stream.scans import KspaceOf, header_of, scan_lines, undersampled
from tests.support.mrd_client import Client, hold_session
from tests.support.patience import PATIENCE
from tests.support.service import until

pytest.importorskip("ismrmrd", reason="the library ismrmrd is not installed")

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "service" / "streaming.md"


@contextmanager
def _started(folder: Path, *options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MRI_RECON_DATA_DIR": str(folder / "data"), **variables}
    environment["MRI_RECON_UPLOAD_DIR"] = str(folder)
    command = [sys.executable, "-m", "mri_recon.cli", "stream", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"port (\d+)", line)
        if not found and "for want of" in (said := process.communicate()[1]):
            pytest.skip(f"uploads cannot be isolated here: {said}")
        assert found, line
        yield process, int(found.group(1))
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_a_session_with_the_process(tmp_path: Path, kspace: KspaceOf) -> None:
    full = kspace(2, 2, 24, 30)
    lines, header = scan_lines(full, undersampled(30)), header_of(full)
    with _started(tmp_path, "--configuration", "cs-wavelet max_iters=20") as (process, port):
        answer = hold_session(port, None, header, messages_of(lines))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert answer.closed
    command = ["reconstruct", "a.h5", "--method", "cs-wavelet", "--option", "max_iters=20", "-o", "a.mrd"]
    mrd(tmp_path / "a.h5", lines, header)
    subprocess.run([sys.executable, "-m", "mri_recon.cli", *command], cwd=tmp_path, check=True, capture_output=True)
    with h5py.File(tmp_path / "a.mrd") as file:
        images = file["dataset/images_0"]
        pixels = images["data"][()]
        for number, sent in enumerate(answer.images):
            np.testing.assert_array_equal(sent.data, pixels["real"][number] + 1j * pixels["imag"][number])
            assert sent.meta["DataRole"] == "Image"
            assert sent.meta["ImageComment"] in images["attributes"][number].decode()
            for name in ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view", "matrix_size"):
                assert tuple(getattr(sent, name)) == tuple(images["header"][name][number])
            assert sent.slice == images["header"]["slice"][number]
    messages = [json.loads(line)["message"] for line in errors.splitlines()]
    assert any(re.search(rf"stream session \w+: complete, {len(lines)} readouts, .* 2 images", one) for one in messages)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("mri-recon-")] == []


def test_sigterm_during_a_session(tmp_path: Path, kspace: KspaceOf) -> None:
    """The client is told, the process ends with status 0 and leaves no file of the session."""
    full = kspace(2, 1, 24, 30)
    with _started(tmp_path, MRI_RECON_STREAM_STOP_SECONDS="0.2") as (process, port), Client(port) as client:
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full))[:10])
        until(lambda: len(client.answer.texts) == 1)
        process.send_signal(signal.SIGTERM)
        answer = client.wait()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert answer.texts[-1] == "error: the server stops: send the scan again later"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("mri-recon-")] == []


def test_a_killed_server_leaves_files_that_the_next_one_deletes(tmp_path: Path, kspace: KspaceOf) -> None:
    full = kspace(1, 1, 24, 30)
    with _started(tmp_path) as (process, port), Client(port) as client:
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full))[:10])
        until(lambda: len(client.answer.texts) == 1)
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert [one for one in tmp_path.iterdir() if one.name.startswith("mri-recon-stream-")]
    with _started(tmp_path) as (process, port):
        hold_session(port, "zero-filled", header_of(full), messages_of(scan_lines(full)))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert [one for one in tmp_path.iterdir() if one.name.startswith("mri-recon-stream-")] == []


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (["--host", "0.0.0.0"], {}, "expected the clients that may connect where other machines reach the server"),
        (["--clients", "here"], {}, "setting clients: expected addresses or networks such as 10.1.0.0/16, got 'here'"),
        (["--configuration", "foo"], {}, "settings of the stream: expected one of the configurations zero-filled"),
        ([], {"MRI_RECON_STREAM_METHODS": "foo"}, "settings of the stream: expected some of the methods zero-filled"),
        ([], {"MRI_RECON_STREAM_NAMES": "a: foo"}, "settings of the stream: expected one of the configurations zero-"),
        ([], {"MRI_RECON_STREAM_NAMES": "foo"}, "setting names: expected NAME: CONFIGURATION, separated by semicolons"),
        ([], {"MRI_RECON_STREAM_MAX_CLIENTS": "0"}, "setting max_clients: Input should be greater than 0"),
        ([], {"MRI_RECON_REQUIRE_KEYS": "1"}, "expected at least one API key"),
        (["--host", "192.0.2.1"], {"MRI_RECON_STREAM_CLIENTS": "10.0.0.0/8"}, "expected an address to listen on"),
    ],
)
def test_settings_that_are_refused_in_one_line(
    tmp_path: Path, options: list[str], variables: dict[str, str], message: str
) -> None:
    environment = {"MRI_RECON_KEYS_FILE": str(tmp_path / "keys.json"), "MRI_RECON_DATA_DIR": str(tmp_path), **variables}
    done = CliRunner().invoke(build_app(), ["stream", "--port", "0", *options], env=environment)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("mri-recon: error: ")
    assert done.stderr.count("\n") == 1


def test_names_of_the_http_service_expose_nothing(tmp_path: Path) -> None:
    """The environment of `serve` behind a proxy asks for no clients here: the address decides."""
    with _started(tmp_path, MRI_RECON_ALLOWED_HOSTS="mri.example.org") as (_, port), Client(port) as client:
        assert client.finish().closed


def test_another_address_with_clients_and_a_key(tmp_path: Path, kspace: KspaceOf) -> None:
    """On every address of this machine; the client comes from its loopback one."""
    key = add_key(tmp_path / "keys.json", "scanner")
    variables = {"MRI_RECON_KEYS_FILE": str(tmp_path / "keys.json"), "MRI_RECON_REQUIRE_KEYS": "1"}
    full = kspace(1, 1, 24, 30)
    with _started(tmp_path, "--host", "0.0.0.0", "--clients", "127.0.0.0/8", **variables) as (process, port):
        answer = hold_session(port, "zero-filled", header_of(full), [])
        assert "expected an API key" in answer.texts[0]
        answer = hold_session(port, f"zero-filled key={key}", header_of(full), messages_of(scan_lines(full)))
        assert len(answer.images) == 1
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert key not in errors


def test_the_table_of_settings_is_in_the_docs() -> None:
    assert settings_table(StreamSettings) in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("address", "admitted"), [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.0.0.1", False), ("fe80::1%lo", False)]
)
def test_addresses_of_clients(address: str, admitted: bool) -> None:
    assert StreamSettings(clients="10.0.0.0/8,192.0.2.7").admits(address) is admitted  # type: ignore[arg-type]
    assert StreamSettings().admits(address)

"""What `tests/conftest.py` promises: a test runs as on a stranger's machine, and real data at hand is used."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mri_recon_data.fetch import cache_folder
from tests.support.no_network import sitecustomize as no_network
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[1]
ELSEWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737)."""


def _reach(address: str) -> None:
    if address == "name":
        socket.getaddrinfo("example.org", 80)
    elif address == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", (ELSEWHERE, 9))
    else:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
            one.settimeout(1)
            one.connect((address, 9))


@pytest.mark.parametrize("address", [ELSEWHERE, "2001:db8::1", "name", "udp"])
def test_no_test_reaches_another_machine(address: str) -> None:
    with pytest.raises(ConnectionRefusedError, match="tests reach no network"):
        _reach(address)
    assert len(no_network.attempts) == 1
    no_network.attempts.clear()


def test_a_name_that_is_nobodys_is_unknown() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("no-such-host.invalid", 80)


@pytest.mark.parametrize("options", [(), ("-P",)])
def test_no_python_process_of_a_test_reaches_another_machine(tmp_path: Path, options: tuple[str, ...]) -> None:
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 9), timeout=1)"
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ConnectionRefusedError: tests reach no network" in done.stderr


def test_the_guard_stands_in_front_of_another_sitecustomize(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the other one')\n")
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 9), timeout=1)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the other one\n"
    assert "tests reach no network" in done.stderr


def test_this_machine_may_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        one.sendall(b"x")


def test_no_cache_and_no_data_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "MRI_RECON_DATA" not in os.environ
    assert cache_folder().is_relative_to(os.environ["HOME_OF_MRI_RECON_TESTS"])
    assert Path.home() == Path(os.environ["HOME_OF_MRI_RECON_TESTS"])


TESTS = """
import os
import pytest

def test_uses_it(real_data):
    assert real_data.is_dir()

@pytest.mark.real_data
def test_bears_the_mark():
    assert os.environ["MRI_RECON_DATA"]

def test_needs_none():
    assert "MRI_RECON_DATA" not in os.environ

@pytest.mark.real_data
@pytest.mark.skipif({skip}, reason="somebody's oversight")
def test_left_out():
    pass
"""


def _run(folder: Path, *options: str, data: str | None, skip: bool) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers = real_data\npythonpath = {ROOT}\n")
    (folder / "test_it.py").write_text(TESTS.format(skip=skip))
    environment = {key: value for key, value in os.environ.items() if key != "MRI_RECON_DATA"}
    if data is not None:
        environment["MRI_RECON_DATA"] = data
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_without_the_data_skips_are_fine(tmp_path: Path) -> None:
    done = _run(tmp_path, data=None, skip=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 3 skipped" in done.stdout


WORKERS = [(), ("--numprocesses", "1")]


@pytest.mark.parametrize("options", WORKERS)
def test_with_the_data_everything_must_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = _run(tmp_path, *options, data=str(tmp_path), skip=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.parametrize("options", WORKERS)
def test_with_the_data_a_skip_fails_and_is_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = _run(tmp_path, *options, data=str(tmp_path), skip=True)
    assert done.returncode == 1, done.stdout
    assert "MRI_RECON_DATA is set, but this real-data test was skipped: test_it.py::test_left_out" in done.stdout


@pytest.mark.parametrize("missing", ["absent", "file"])
def test_data_that_is_missing_fails(tmp_path: Path, missing: str) -> None:
    (tmp_path / "file").touch()
    done = _run(tmp_path, data=str(tmp_path / missing), skip=False)
    assert done.returncode == 1, done.stdout
    assert "which is not a folder" in done.stdout

"""The server as a user starts it, with curl and with Python; and that docs/service/service.md says what is true."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mri_recon as mr
from mri_recon.cli import build_app
from mri_recon_service.http.keys import add_key
from mri_recon_service.problems import PROBLEMS
from mri_recon_service.uploads.isolation import Isolation
from mri_recon_service.uploads.parser_pool import ParserPool
from tests.support.patience import PATIENCE
from tests.support.service import until

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "service" / "service.md"
curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
PACS = all(find_spec(name) for name in ("pydicom", "pynetdicom", "dicomweb_client"))
"""Whether the extra 'pacs' is installed, without which no target can be registered."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mri-recon serve` in a process of its own, on a free port, with a target `archive` that is switched off."""
    targets = tmp_path_factory.mktemp("targets") / "targets.toml"
    targets.write_text('[archive]\ndicom = "ARCHIVE@127.0.0.1:9"\n' if PACS else "")
    command = [sys.executable, "-m", "mri_recon.cli", "serve", "--port", "0"]
    environment = _same_threads() | {
        "PYTHONUNBUFFERED": "1",
        "MRI_RECON_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "MRI_RECON_TARGETS_FILE": str(targets),
    }
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.communicate()[1]
        assert "Research only" in line
        yield found.group()
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    fastmri_file: Callable[..., Path],
) -> Path:
    """A folder with the files that the documentation speaks of."""
    path = tmp_path_factory.mktemp("user")
    full = kspace(2, 3, 33, 42)
    mask = mr.random_mask(42, 4, seed=1)
    fastmri_file(path / "scan.h5", full)
    fastmri_file(path / "undersampled.h5", mr.undersample(full, mask).numpy(), mask.lines)
    (path / "kspace.npy").write_bytes(npy(full))
    (path / "mask.npy").write_bytes(npy(mask.lines))
    (path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    return path


def _same_threads() -> dict[str, str]:
    """Environment of a process that computes with as many threads as this one."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def _wait_until_ready(address: str) -> None:
    until(lambda: httpx.get(f"{address}/health/ready", trust_env=False, timeout=PATIENCE).status_code == 200)


def _curl_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


@curl
@pytest.mark.parametrize("line", _curl_lines())
def test_the_curl_lines_of_the_docs(address: str, folder: Path, line: str) -> None:
    if "deliver=" in line and not PACS:
        pytest.skip("the extra 'pacs' is not installed")
    if line.endswith("/health/ready"):
        _wait_until_ready(address)
    environment = {**os.environ, "CURL_HOME": str(folder), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-c", line.replace("http://127.0.0.1:8000", address)],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    output = line.partition(" -o ")[2]
    content = (folder / output).read_bytes() if output else done.stdout
    if output.endswith(".h5"):
        with h5py.File(io.BytesIO(content)) as file:
            assert file["reconstruction"].shape == (2, 33, 42)
    elif output.endswith(".npy"):
        assert np.load(io.BytesIO(content)).shape == (2, 33, 42)
    elif output.endswith(".png"):
        assert content.startswith(b"\x89PNG")
    elif output.endswith(".nii.gz"):
        assert gzip.decompress(content)[344:348] == b"n+1\0"
    else:
        assert isinstance(json.loads(content), dict)


@curl
def test_the_script_of_the_docs(address: str, folder: Path) -> None:
    """A job from acceptance to its end, as the documentation does it."""
    (script,) = re.findall(r"```bash\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8000", address)],
        cwd=folder,
        env={**os.environ, "CURL_HOME": str(folder), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "event: progress" in done.stdout
    assert "event: end" in done.stdout
    assert '"status":"succeeded"' in done.stdout
    with np.load(folder / "comparison.npz") as found:
        assert {"image.zero-filled", "image.cs-wavelet", "mask", "kspace", "metadata"} <= set(found.files)


def test_service_command_line_and_python_agree(address: str, folder: Path) -> None:
    """They agree with equal numbers of threads: with others, sums in another order end the iteration elsewhere."""
    scan = mr.load(folder / "scan.h5")
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    python = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cs-wavelet").image.numpy()
    with (folder / "scan.h5").open("rb") as file:
        answer = httpx.post(
            f"{address}/v1/reconstructions",
            files={"file": ("scan.h5", file)},
            data={"method": "cs-wavelet", "acceleration": "4"},
            timeout=PATIENCE,
            trust_env=False,
        )
    assert answer.status_code == 200, answer.text
    command = ["reconstruct", "scan.h5", "--method", "cs-wavelet", "--acceleration", "4", "-o", "cli.h5"]
    command = [sys.executable, "-m", "mri_recon.cli", *command]
    subprocess.run(command, cwd=folder, env=_same_threads(), check=True, capture_output=True)
    with h5py.File(io.BytesIO(answer.content)) as service, h5py.File(folder / "cli.h5") as cli:
        np.testing.assert_array_equal(service["reconstruction_complex"][()], cli["reconstruction_complex"][()])
        np.testing.assert_array_equal(service["reconstruction"][()], cli["reconstruction"][()])
        threads = [json.loads(file.attrs["provenance"])["threads"] for file in (service, cli)]
        assert threads == [torch.get_num_threads()] * 2
        np.testing.assert_allclose(service["reconstruction_complex"][()], python, atol=1e-5 * np.abs(python).max())


def test_the_python_example(address: str, folder: Path) -> None:
    example = str(ROOT / "service" / "examples" / "python_client.py")
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    command = [sys.executable, example, address, "scan.h5", "4"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("(2, 33, 42) {"), done.stderr
    receipt = json.loads(done.stdout.removeprefix("(2, 33, 42) "))
    assert (receipt["num_lines"], receipt["width"], receipt["requested_acceleration"]) == (10, 42, 4)


def _refusal(tmp_path: Path) -> str:
    """The one line in which `serve` refuses every address of this machine."""
    environment = {"MRI_RECON_KEYS_FILE": str(tmp_path / "keys.json")}
    done = CliRunner().invoke(build_app(), ["serve", "--host", "0.0.0.0", "--port", "0"], env=environment)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_remote_address_without_keys_is_refused_in_one_line(tmp_path: Path) -> None:
    line = _refusal(tmp_path)
    assert line.startswith("mri-recon: error: expected at least one API key")
    assert "mri-recon key add" in line


def test_a_remote_address_without_isolation_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(tmp_path / "keys.json", "a")
    for name in ("start", "close"):
        monkeypatch.setattr(ParserPool, name, lambda self: None)
    monkeypatch.setattr(ParserPool, "restrictions", Isolation(network="seccomp", seccomp=True, landlock=0))
    line = _refusal(tmp_path)
    assert line.startswith("mri-recon: error: expected a loopback address such as 127.0.0.1, got '0.0.0.0'")
    assert "for want of landlock" in line


def test_a_remote_address_with_keys_and_isolation(tmp_path: Path) -> None:
    """On every address of this machine; asked by its loopback one."""
    key = add_key(tmp_path / "keys.json", "a")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MRI_RECON_KEYS_FILE": str(tmp_path / "keys.json")}
    environment |= {"MRI_RECON_DATA_DIR": str(tmp_path / "jobs"), "MRI_RECON_HOST": "0.0.0.0"}
    command = [sys.executable, "-m", "mri_recon.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://0\.0\.0\.0:(\d+)", line)
        if not found and "for want of" in (said := process.communicate()[1]):
            pytest.skip(f"uploads cannot be isolated here: {said}")
        assert found, line
        address = f"http://127.0.0.1:{found.group(1)}/v1/sample"
        refused = httpx.get(address, trust_env=False, timeout=PATIENCE)
        assert refused.status_code == 401
        headers = {"Authorization": f"Bearer {key}", "Host": "any.example.org"}
        assert httpx.get(address, headers=headers, trust_env=False, timeout=PATIENCE).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def _table(heading: str) -> list[list[str]]:
    section = DOCS.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_table_of_problems_is_the_codes() -> None:
    expected = [[f"`{code}`", str(kind.status), kind.title, kind.cure] for code, kind in PROBLEMS.items()]
    assert _table("Problems") == expected

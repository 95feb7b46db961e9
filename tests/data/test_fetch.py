"""Fetching: a local copy, the cache, a server on this machine; and content that is not what was registered."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mri_recon._system.hashes import file_sha256
from mri_recon.errors import DataError
from mri_recon_data.fetch import DATA_VARIABLE, cache_folder, locate, verify

CONTENT = b"k-space\n" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "raw/set/scan.mat"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("server")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", root
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


def test_a_local_copy_is_used_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert locate(NAME, DIGEST, url="http://127.0.0.1:9/never-asked") == path


def test_a_local_copy_that_lacks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="the folder that MRI_RECON_DATA names: add it, or unset the variable"):
        locate(NAME, DIGEST, url="http://127.0.0.1:9/never-asked")


def test_a_local_copy_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(DataError, match="which is not a folder"):
        locate(NAME, DIGEST, url=None)


def test_a_changed_file_is_refused_even_after_it_was_verified(tmp_path: Path) -> None:
    path = tmp_path / "scan.mat"
    path.write_bytes(CONTENT)
    assert file_sha256(path) == DIGEST
    assert verify(path, DIGEST) == path
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(DataError, match=f"expected SHA-256 {DIGEST}, got .*: delete the file and fetch it again"):
        verify(path, DIGEST)


def test_an_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        verify(tmp_path / "absent", DIGEST)
    with pytest.raises(DataError, match="cannot read .*Is a directory"):
        verify(tmp_path, DIGEST)


def test_a_download_lands_in_the_cache_and_is_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pooch")
    address, root = server
    (root / "figure 1.mat").write_bytes(CONTENT)
    url = f"{address}/figure%201.mat"
    path = locate(NAME, DIGEST, url=url, cache=tmp_path)
    assert path == tmp_path / NAME
    assert path.read_bytes() == CONTENT
    (root / "figure 1.mat").unlink()
    assert locate(NAME, DIGEST, url=url, cache=tmp_path) == path


def test_a_download_with_other_content_is_refused_and_not_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pooch")
    address, root = server
    (root / "other.mat").write_bytes(b"something else")
    with pytest.raises(DataError, match="another SHA-256 than the registered"):
        locate(NAME, DIGEST, url=f"{address}/other.mat", cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_that_fails(server: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pooch")
    with pytest.raises(DataError, match="download failed .*404.*: try again, or name a local copy in MRI_RECON_DATA"):
        locate(NAME, DIGEST, url=f"{server[0]}/absent.mat", cache=tmp_path)


def test_a_file_without_an_address_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be downloaded. Ask the authors."):
        locate(NAME, DIGEST, url=None, manual="Ask the authors.", cache=tmp_path)


def test_downloads_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(DataError, match="need the extra 'data'"):
        locate(NAME, DIGEST, url="http://127.0.0.1:9/never-asked", cache=tmp_path)


def test_the_cache_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mri-recon"

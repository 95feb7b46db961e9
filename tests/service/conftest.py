"""A real server in a thread, on a free loopback port, and small scans to send to it."""

from __future__ import annotations

import io
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import h5py
import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from mri_recon.models import Unet, UnetConfig, Unrolled, UnrolledConfig
from mri_recon.models.checkpoint import save_checkpoint
from mri_recon_service.app import create_app
from mri_recon_service.buffers import Buffers
from mri_recon_service.http import logs
from mri_recon_service.http.server import make_server
from mri_recon_service.settings import Settings
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import JobStore
from mri_recon_service.uploads.parser_pool import ParserPool
from tests.support.methods import Steps, add_method
from tests.support.networks import untrained_card
from tests.support.patience import PATIENCE
from tests.support.postgres import PostgresServer, skip_without_postgres
from tests.support.viewer import (  # noqa: F401  # fixtures
    browser,
    open_page,
    run_id,
    scan_file,
    second_id,
    server,
    start,
)

ComplexArray = np.ndarray[Any, np.dtype[np.complex64]]


class SharedPool:
    """Parser processes that outlive one server: each takes seconds to start."""

    _pools: ClassVar[dict[tuple[object, ...], ParserPool]] = {}

    def __init__(self, settings: Settings, buffers: Buffers | None = None) -> None:
        key = (settings.max_decoded_bytes, settings.parser_timeout_seconds, settings.parser_memory_bytes)
        if key not in self._pools:
            own = settings.model_copy(update={"parser_processes": 1, "upload_dir": None})
            self._pools[key] = ParserPool(own)
            self._pools[key].start()
        self._pool = self._pools[key]

    def start(self) -> None:
        """It runs already."""

    def close(self) -> None:
        """Others use it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    @classmethod
    def close_all(cls) -> None:
        for pool in cls._pools.values():
            pool.close()
        cls._pools.clear()


@pytest.fixture(scope="session", autouse=True)
def _shared_parsers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mri_recon_service.app.ParserPool", SharedPool)
        yield
    SharedPool.close_all()


class ServiceClient(httpx.Client):
    """A client that knows the application it talks to."""

    app: FastAPI


@pytest.fixture(autouse=True)
def log_of_its_own() -> Iterator[None]:
    """A test that starts the verb sends the log of the whole process to a stream that is closed after it."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, logs.JsonFormatter | logs.TextFormatter):
            root.removeHandler(handler)


@contextmanager
def _serve(settings: Settings) -> Iterator[ServiceClient]:
    if settings.data_dir is None:
        with (
            tempfile.TemporaryDirectory() as folder,
            _serve(settings.model_copy(update={"data_dir": Path(folder)})) as own,
        ):
            yield own
        return
    app = create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    running = make_server(app, settings)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.005)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with ServiceClient(base_url=address, timeout=PATIENCE, trust_env=False) as client:
            client.app = app
            yield client
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], Any]:
    """`with serve(Settings(...)) as client:`."""
    return _serve


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with small limits, for the whole run."""
    settings = Settings(max_upload_bytes=2_000_000, upload_dir=tmp_path_factory.mktemp("uploads"), max_iters=60)
    with _serve(settings) as one:
        yield one


def _kspace(slices: int, coils: int, readout: int, phase: int, seed: int = 0) -> ComplexArray:
    """k-space of smooth blobs, each coil with its own phase, and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, readout), np.linspace(-1, 1, phase), indexing="ij")
    image = np.zeros((slices, coils, readout, phase), np.complex128)
    for s in range(slices):
        for c in range(coils):
            center = rng.uniform(-0.4, 0.4, 2)
            blob = np.exp(-8 * ((y - center[0]) ** 2 + (x - center[1]) ** 2)) + 0.5 * (y**2 + x**2 < 0.5)
            image[s, c] = blob * np.exp(1j * (c + x))
    axes = (-2, -1)
    full = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=axes), norm="ortho"), axes=axes)
    noise = rng.standard_normal((*full.shape, 2)) @ np.array([1, 1j])
    return np.asarray(full + 0.01 * noise, dtype=np.complex64)


@pytest.fixture(scope="session")
def kspace() -> Callable[..., ComplexArray]:
    """`kspace(slices, coils, readout, phase, seed=0)`."""
    return _kspace


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def npy() -> Callable[[Any], bytes]:
    """An array as the bytes of a .npy file."""
    return _npy


@pytest.fixture(scope="session")
def fastmri_file() -> Callable[..., Path]:
    """`fastmri_file(path, kspace, mask=None)` writes the least that is a fastMRI file."""

    def write(path: Path, kspace: ComplexArray, mask: Any = None) -> Path:
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace
            if mask is not None:
                file["mask"] = mask
        return path

    return write


@pytest.fixture(scope="session")
def post(npy: Callable[[Any], bytes]) -> Callable[..., httpx.Response]:
    """`post(client, array or bytes, accept=..., name=..., mask=..., to=..., **fields)`."""

    def send(
        client: httpx.Client,
        content: Any,
        *,
        accept: str | None = "application/x-npy",
        name: str = "scan.npy",
        mask: tuple[str, bytes] | None = None,
        to: str = "/v1/reconstructions",
        options: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        files = {"file": (name, content if isinstance(content, bytes) else npy(content))}
        if mask is not None:
            files["mask"] = mask
        data = {key: str(value) for key, value in (fields | dict(options or {})).items()}
        return client.post(to, files=files, data=data, headers={"Accept": accept} if accept else {})

    return send


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A very small untrained network in the place of the shipped weights; its name."""
    torch.manual_seed(0)
    config = UnetConfig(chans=2, num_pool_layers=1, channels_per_group=2)
    card = untrained_card("unet", config)
    (tmp_path / "package" / "weights").mkdir(parents=True)
    network = Unet(config)
    torch.nn.init.normal_(network.head.weight, std=0.1)  # zero at first: the network would return its input
    save_checkpoint(tmp_path / "package" / "weights" / "unet.safetensors", network, card)
    monkeypatch.setattr("mri_recon.models.checkpoint.files", lambda package: tmp_path / "package")
    return "unet"


@pytest.fixture
def tiny_models(tiny_model: str, tmp_path: Path) -> tuple[str, str]:
    """A very small untrained network in the place of each shipped one; their names."""
    config = UnrolledConfig(num_cascades=1, chans=2, num_pool_layers=1, channels_per_group=2)
    card = untrained_card("unrolled", config)
    save_checkpoint(tmp_path / "package" / "weights" / "unrolled.safetensors", Unrolled(config), card)
    return tiny_model, "unrolled"


@pytest.fixture
def problem() -> Callable[..., dict[str, Any]]:
    """`problem(response, status, code)` checks a problem document and returns it."""

    def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
        document: dict[str, Any] = response.json()
        assert (response.status_code, document["code"]) == (status, code), document
        assert response.headers["content-type"] == "application/problem+json"
        assert document["status"] == status
        assert document["type"] == f"/problems/{code}"
        assert document["title"]
        assert document["request_id"] == response.headers["x-request-id"]
        assert "Traceback" not in response.text
        return document

    return check


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """A method of a hundred iterations, each of which waits for `steps.go.release()`."""
    method = Steps()
    add_method(monkeypatch, "steps", method)
    yield method
    method.go.release(1000)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, for the whole run."""
    skip_without_postgres()
    one = PostgresServer()
    yield one
    one.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], JobStore]]:
    """`open_store()` opens the same store of each kind, as one process after the other does."""
    opened: list[JobStore] = []
    address = request.getfixturevalue("postgres").database() if request.param == "postgresql" else ""

    def one() -> JobStore:
        if address:
            from mri_recon_service.storage.database import Database
            from mri_recon_service.storage.postgres import PostgresStore

            opened.append(PostgresStore(Database(address)))
        else:
            opened.append(SqliteStore(tmp_path / "jobs.sqlite"))
        return opened[-1]

    yield one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], JobStore]) -> JobStore:
    """A store of each kind."""
    return open_store()

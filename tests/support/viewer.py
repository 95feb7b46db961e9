"""The viewer in Chromium on a small scan: fixtures that the service's `conftest` imports."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.io import Geometry
from mri_recon.io.save import save_scan
from mri_recon_service.settings import Settings
from tests.support.service import until_status

__all__ = ["BROWSER", "CHROMIUM", "DEVICES", "METHODS", "arrays_of", "open_pane", "rewritten", "to_images"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: no browser tests"),
    pytest.mark.skipif(bool(os.environ.get("MRI_RECON_NO_BROWSER")), reason="MRI_RECON_NO_BROWSER is set"),
]
"""Marks of every test in a browser."""

DEVICES: dict[str, dict[str, Any]] = {
    "laptop": {"viewport": {"width": 1366, "height": 768}},
    "large": {"viewport": {"width": 2560, "height": 1440}},
    "tablet": {"viewport": {"width": 1024, "height": 768}, "has_touch": True},
    "telephone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
METHODS = "zero-filled,cg-sense"


@pytest.fixture(scope="module")
def server(serve: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serve(Settings(data_dir=tmp_path_factory.mktemp("viewer"))) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as engine:
        one = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def open_page(browser: Any, server: httpx.Client) -> Iterator[Callable[..., Any]]:
    """`open_page(fragment="", device="laptop")`: the viewer on a device, its methods listed; errors fail the test."""
    contexts, errors = [], []

    def visit(fragment: str = "", device: str = "laptop") -> Any:
        context = browser.new_context(**DEVICES[device], accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{server.base_url}/{fragment}")
        page.wait_for_selector("input[name=method]", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory, kspace: Callable[..., Any]) -> Path:
    """Three slices of two coils with a known place in the patient, its pixels twice as high as wide."""
    path = tmp_path_factory.mktemp("scan") / "placed.h5"
    places = tuple((0.0, 0.0, 4.0 * number) for number in range(3))
    geometry = Geometry((2.0, 1.0, 4.0), places, ((0, 1, 0), (1, 0, 0), (0, 0, 1)), "HFS")
    save_scan(path, kspace(3, 2, 24, 37), geometry=geometry)
    return path


@pytest.fixture(scope="module")
def start(server: httpx.Client, scan_file: Path) -> Callable[..., str]:
    """`start(**fields)`: the identifier of a finished comparison of the scan."""

    def run(content: bytes | None = None, name: str = "placed.h5", **fields: str) -> str:
        files = {"file": (name, scan_file.read_bytes() if content is None else content)}
        data = {"methods": METHODS, "acceleration": "3", **fields}
        data = {name: value for name, value in data.items() if value}
        headers = {"Prefer": "respond-async"}
        job = server.post("/v1/compare", files=files, data=data, headers=headers).json()
        until_status(server, job["links"]["self"], "succeeded")
        return str(job["id"])

    return run


@pytest.fixture(scope="module")
def run_id(start: Callable[..., str]) -> str:
    return start()


@pytest.fixture(scope="module")
def second_id(start: Callable[..., str]) -> str:
    """A run of the same scan at another acceleration."""
    return start(acceleration="2")


def arrays_of(server: httpx.Client, run: str) -> Any:
    answer = server.get(f"/v1/jobs/{run}/result", headers={"Accept": "application/x-npz"})
    return np.load(io.BytesIO(answer.content))


def rewritten(bundle: Mapping[str, Any], change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The npz of a run after `change(arrays, metadata)`."""
    arrays = dict(bundle)
    metadata = json.loads(arrays["metadata"].tobytes())
    change(arrays, metadata)
    arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def open_pane(page: Any, name: str) -> None:
    page.locator(f"#tab-{name}").click()


def to_images(page: Any) -> None:
    if page.locator("#tab-images").is_visible():
        open_pane(page, "images")

"""The images of a comparison one by one: while it runs, and afterwards as files; and the list of a client's jobs."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import torch

import mri_recon as mr
from mri_recon.progress import OnProgress, Progress
from mri_recon_service.http.keys import add_key
from mri_recon_service.settings import Settings
from tests.support.methods import add_method
from tests.support.patience import PATIENCE
from tests.support.service import array_of, until, until_status

ASYNC = {"Prefer": "respond-async"}
NPZ = {"Accept": "application/x-npz"}
Check = Callable[..., dict[str, Any]]


class Held:
    """A method that ends when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(
        self, kspace: torch.Tensor, mask: Any, *, sens_maps: Any, on_progress: OnProgress | None = None
    ) -> Any:
        assert on_progress is not None
        on_progress(Progress("held", "iterate", 1, 2))
        assert self.go.wait(PATIENCE)
        return kspace[:, 0], {}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    method = Held()
    add_method(monkeypatch, "held", method)
    yield method
    method.go.set()


@pytest.fixture
def send(npy: Callable[[Any], bytes], kspace: Callable[..., Any]) -> Callable[..., httpx.Response]:
    """`send(client, key="", **fields)`: a comparison as a job."""

    def post(client: httpx.Client, *, key: str = "", **fields: Any) -> httpx.Response:
        headers = {**ASYNC, **({"Authorization": f"Bearer {key}"} if key else {})}
        data = {"acceleration": "3", **fields}
        files = {"file": ("scan.npy", npy(kspace(2, 2, 25, 36)))}
        return client.post("/v1/compare", files=files, data=data, headers=headers)

    return post


def test_parts_come_while_the_comparison_runs(
    client: httpx.Client, send: Any, held: Held, kspace: Callable[..., Any], problem: Check
) -> None:
    here = send(client, methods="zero-filled,held,cg-sense").headers["location"]

    def parts() -> list[str]:
        progress = client.get(here).json()["progress"]
        return [] if progress is None else list(progress["parts"])

    until(lambda: parts() == ["scan", "zero-filled"])
    scan = array_of(client.get(f"{here}/parts/scan", headers=NPZ))
    about = json.loads(scan["metadata"].tobytes())
    assert set(scan) == {"reference", "mask", "kspace", "metadata"}
    assert about["results"] == []
    assert about["mask"]["num_lines"] == 12
    first = array_of(client.get(f"{here}/parts/zero-filled"))
    assert set(first) == {"image.zero-filled", "metadata"}  # magnitudes of several coils: no phase
    assert problem(client.get(f"{here}/parts/held"), 404, "part-not-found")["valid"] == ["scan", "zero-filled"]
    problem(client.get(f"{here}/methods/zero-filled"), 409, "job-not-finished")
    held.go.set()
    until_status(client, here, "succeeded")
    whole = array_of(client.get(f"{here}/result", headers=NPZ))
    for name, array in {**scan, **first}.items():
        if name != "metadata":
            np.testing.assert_array_equal(whole[name], array)
    final = json.loads(whole["metadata"].tobytes())
    assert json.loads(first["metadata"].tobytes())["results"] == final["results"][:1]
    assert problem(client.get(f"{here}/parts/scan"), 404, "part-not-found")["detail"].endswith("fetch its result")
    # The numbers of each slice, and the phase where there is one: of the image, cropped as its magnitude.
    mask = mr.random_mask(36, 3, seed=0)
    image = mr.reconstruct(mr.undersample(kspace(2, 2, 25, 36), mask), mask, method="cg-sense").image.numpy()
    degrees = whole["phase.cg-sense"] * (360 / 256) - 180
    strong = np.abs(image) > 0.1 * np.abs(image).max()
    apart = np.exp(1j * np.deg2rad(degrees)) * np.exp(-1j * np.angle(image))
    assert np.rad2deg(np.abs(np.angle(apart)))[strong].max() < 0.72
    by_slice = final["slices"]["cg-sense"]
    assert np.mean(by_slice["ssim"]) == pytest.approx(final["results"][2]["ssim"])
    assert [len(by_slice[name]) for name in ("nmse", "psnr", "ssim")] == [2, 2, 2]


def test_a_finished_comparison_gives_every_method_as_a_file(
    client: httpx.Client, send: Any, kspace: Callable[..., Any], problem: Check
) -> None:
    here = send(client, methods="zero-filled,cg-sense").headers["location"]
    until_status(client, here, "succeeded")
    mask = mr.random_mask(36, 3, seed=0)
    expected = mr.reconstruct(mr.undersample(kspace(2, 2, 25, 36), mask), mask, method="cg-sense").image.numpy()
    answer = client.get(f"{here}/methods/cg-sense")
    assert answer.headers["content-disposition"] == 'attachment; filename="cg-sense.h5"'
    with h5py.File(io.BytesIO(answer.content)) as file:
        np.testing.assert_array_equal(file["reconstruction_complex"][()], expected)
        provenance = json.loads(file.attrs["provenance"])
        assert file.attrs["notice"].startswith("Research only")
    assert provenance == client.get(f"{here}/result").json()["provenance"]["cg-sense"]
    matlab = client.get(f"{here}/methods/zero-filled", headers={"Accept": "application/x-matlab-data"})
    assert matlab.content.startswith(b"MATLAB 5.0")
    assert matlab.headers["content-disposition"].endswith('"zero-filled.mat"')
    answer = problem(client.get(f"{here}/methods/unet"), 404, "part-not-found")
    assert answer["valid"] == ["zero-filled", "cg-sense"]
    problem(client.get(f"{here}/methods/cg-sense", headers={"Accept": "text/csv"}), 406, "not-acceptable")


def test_the_files_of_a_comparison_are_no_more_than_estimated(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], tmp_path: Path
) -> None:
    """With every map; the uploads and the parts are gone."""
    with serve(Settings(data_dir=tmp_path)) as client:
        files = {"file": ("scan.npy", npy(kspace(2, 2, 96, 90)))}
        data = {"acceleration": "3", "methods": "cg-sense", "check": "holdout"}
        job = client.post("/v1/compare", files=files, data=data, headers=ASYNC).json()
        until_status(client, job["links"]["self"], "succeeded")
    kept = {path.name: path.stat().st_size for path in (tmp_path / "jobs" / job["id"]).iterdir()}
    assert set(kept) == {"result.npz", "method-0.h5"}
    assert sum(kept.values()) <= 33 * 2 * 96 * 90 + 100_000  # beside the descriptions


def test_jobs_are_listed_for_their_client_only(serve: Any, send: Any, tmp_path: Path, problem: Check) -> None:
    keys = tmp_path / "keys"
    names = {name: add_key(keys, name) for name in ("ann", "bob")}
    with serve(Settings(require_keys=True, keys_file=keys, data_dir=tmp_path / "data")) as client:

        def listed(key: str, **query: Any) -> dict[str, Any]:
            answer = client.get("/v1/jobs", params=query, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

        assert listed(names["ann"]) == {**listed(names["bob"]), "jobs": [], "next": None}
        sent = [
            send(client, key=names["ann"], methods="zero-filled", seed=str(number)).json()["id"] for number in range(3)
        ]
        other = send(client, key=names["bob"], methods="zero-filled").json()["id"]
        first = listed(names["ann"], limit=2)
        assert [job["id"] for job in first["jobs"]] == sent[:0:-1]
        assert first["jobs"][0]["request"]["file"] == "upload.npy"
        assert first["jobs"][0]["request"]["fields"]["seed"] == "2"
        rest = client.get(first["next"], headers={"Authorization": f"Bearer {names['ann']}"}).json()
        assert ([job["id"] for job in rest["jobs"]], rest["next"]) == (sent[:1], None)
        assert [job["id"] for job in listed(names["bob"])["jobs"]] == [other]
        assert listed(names["bob"], before=sent[2])["jobs"] == []
        problem(client.get("/v1/jobs"), 401, "unauthorized")
        query = client.get("/v1/jobs", params={"limit": 0}, headers={"Authorization": f"Bearer {names['ann']}"})
        problem(query, 422, "invalid-request")

"""`/v1/validate`: what a request would do, without doing it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest

import mri_recon as mr
from mri_recon.io import Geometry
from mri_recon.io.save import save_scan
from mri_recon.methods.estimates import Estimates
from mri_recon_service.settings import Settings

Check = Callable[..., dict[str, Any]]
Post = Callable[..., httpx.Response]


@pytest.fixture
def ask(post: Post) -> Callable[..., httpx.Response]:
    """`ask(client, content, **fields)`."""

    def send(client: httpx.Client, content: Any, **fields: Any) -> httpx.Response:
        return post(client, content, to="/v1/validate", accept=None, **fields)

    return send


def test_the_sample(serve: Any, ask: Post, tmp_path: Path) -> None:
    content = (files("mri_recon") / "_sample" / "colin27_8ch.h5").read_bytes()
    with serve(Settings(upload_dir=tmp_path)) as client:
        answer = ask(client, content, name="scan.h5", methods="cs-wavelet,unet", acceleration=4, seed=1)
        folders = [one for one in tmp_path.iterdir() if not one.name.startswith("mri-recon-parser-")]
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["accepted"] is True
    assert document["problem"] is None
    assert document["answered"] == "at-once"
    assert document["files"]["file"]["bytes"] == len(content)
    assert len(document["files"]["file"]["sha256"]) == 64
    scan = document["scan"]
    assert [scan[name] for name in ("slices", "coils", "readout", "phase")] == [4, 8, 151, 127]
    assert scan["decoded_bytes"] == 4 * 8 * 151 * 127 * 8
    assert scan["fully_sampled"]
    assert scan["simulated"]
    assert scan["own_mask"] is None
    assert scan["reference"] == "file: reconstruction_rss"
    assert scan["noise_sigma"] > 0
    expected = mr.random_mask(127, 4, seed=1).receipt()
    assert document["mask"]["lines"] == expected["lines"]
    assert document["mask"]["realised_acceleration"] == pytest.approx(expected["realised_acceleration"])
    memory = {one["method"]: one["memory_bytes"] for one in document["methods"]}
    assert memory == {name: Estimates.memory_bytes(name, (4, 8, 151, 127)) for name in ("cs-wavelet", "unet")}
    both = {name: {} for name in memory}
    assert document["memory_bytes"] == Estimates.comparison_bytes(both, (4, 8, 151, 127)) > max(memory.values())
    assert document["seconds"] == pytest.approx(sum(one["seconds"] for one in document["methods"]))
    assert document["research_only"].startswith("Research only")
    assert folders == []


def test_kspace_that_is_not_centred_is_told(client: httpx.Client, ask: Post, post: Post) -> None:
    y, x = np.mgrid[-1:1:64j, -1:1:60j]
    image = (y**2 + (x / 0.8) ** 2 < 0.7) + 0.5 * (y**2 + x**2 < 0.1)
    unshifted = np.fft.fft2(np.fft.ifftshift(image))[None, None].astype(np.complex64)
    for array, word in (
        (unshifted, "np.fft.fftshift(kspace, axes=(-2, -1))"),
        (np.fft.fftshift(np.roll(unshifted, 9, -1), (-2, -1)), "np.roll(kspace, -9, axis=-1)"),
        (np.fft.fftshift(unshifted, (-2, -1)), ""),
    ):
        fields = {"methods": "zero-filled,unet", "acceleration": 4, "axes": "slice coil readout phase"}
        warnings = ask(client, array, **fields).json()["scan"]["warnings"]
        assert [word in text for text in warnings] == ([True] if word else [])
        answer = post(client, array, to="/v1/compare", accept="application/json", **fields)
        for row in answer.json()["results"]:
            told = [text for text in row["info"]["warnings"] if "energy peak" in text]
            assert told == warnings


def test_how_it_would_be_answered(serve: Any, ask: Post, post: Post, kspace: Callable[..., Any]) -> None:
    full, fields = kspace(1, 2, 25, 36), {"methods": "zero-filled,cg-sense", "acceleration": 3}
    size = 2 * 2 * 25 * 36 * 8
    for limit, expected, status in ((size, "at-once", 200), (size - 1, "as-job", 202)):
        with serve(Settings(sync_bytes=limit)) as client:
            assert ask(client, full, **fields).json()["answered"] == expected
            assert post(client, full, to="/v1/compare", accept=None, **fields).status_code == status  # and so it is
    with serve(Settings(max_memory_bytes=1000)) as client:
        document = ask(client, full, **fields).json()
        assert (document["accepted"], document["answered"]) == (False, "refused")
        assert document["problem"]["code"] == "too-much-memory"


def test_what_would_be_refused_is_described(client: httpx.Client, ask: Post, kspace: Callable[..., Any]) -> None:
    full = kspace(2, 1, 25, 36)
    for fields, code in (
        ({}, "missing-mask"),
        ({"acceleration": 0.5}, "invalid-mask"),
        ({"acceleration": 3, "slice": 2}, "invalid-request"),
        ({"acceleration": 3, "mask": ("m.npy", b"")}, "empty-file"),
    ):
        answer = ask(client, full, method="zero-filled", **fields)
        document = answer.json()
        if code == "empty-file":  # nothing was read that could be described
            assert (answer.status_code, document["code"]) == (422, code)
            continue
        assert answer.status_code == 200, answer.text
        assert (document["accepted"], document["answered"], document["mask"]) == (False, "refused", None)
        assert document["problem"]["code"] == code
        assert document["problem"]["request_id"] == answer.headers["x-request-id"]
        assert document["scan"]["slices"] == 2


def test_what_cannot_be_read_is_a_problem(
    client: httpx.Client, ask: Post, kspace: Callable[..., Any], problem: Check
) -> None:
    full = kspace(1, 1, 25, 36)
    problem(ask(client, b"garbage" * 100, method="zero-filled", acceleration=3), 422, "invalid-file")
    problem(ask(client, full, method="nope", acceleration=3), 422, "unknown-method")
    problem(ask(client, full, methods="zero-filled", accelleration=3), 422, "unknown-option")
    problem(ask(client, full, method="cs-wavelet", acceleration=3, max_iters=10**6), 422, "invalid-option")
    problem(client.post("/v1/validate"), 415, "unsupported-media-type")


def test_an_undersampled_scan_with_its_own_mask(
    client: httpx.Client, ask: Post, kspace: Callable[..., Any], fastmri_file: Callable[..., Path], tmp_path: Path
) -> None:
    mask = mr.random_mask(36, 3, seed=0)
    path = fastmri_file(tmp_path / "s.h5", mr.undersample(kspace(1, 2, 25, 36), mask).numpy(), mask.lines)
    document = ask(client, path.read_bytes(), name="s.h5", method="cg-sense").json()
    assert document["accepted"]
    assert not document["scan"]["fully_sampled"]
    assert document["scan"]["own_mask"]["lines"] == document["mask"]["lines"] == np.flatnonzero(mask.lines).tolist()


def test_an_undersampled_scan_without_a_mask_takes_it_from_its_zeros(
    client: httpx.Client, ask: Post, post: Post, kspace: Callable[..., Any], problem: Check
) -> None:
    """The two refusals name what helps, and it does."""
    mask = mr.random_mask(36, 3, seed=0)
    array = mr.undersample(kspace(1, 2, 25, 36), mask).numpy()
    for fields, code in (
        ({}, "missing-mask"),
        ({"acceleration": 4}, "invalid-mask"),
        ({"mask": "file"}, "missing-mask"),
    ):
        document = ask(client, array, method="zero-filled", options=fields).json()
        assert document["problem"]["code"] == code
        assert "mask=from-zeros" in document["problem"]["detail"]
        assert not document["scan"]["fully_sampled"]
    options = {"mask": "from-zeros"}
    document = ask(client, array, method="zero-filled", options=options).json()
    assert document["accepted"]
    assert document["mask"]["kind"] == "from-zeros"
    assert document["mask"]["lines"] == np.flatnonzero(mask.lines).tolist()
    answer = post(client, array, method="zero-filled", options=options)
    expected = mr.reconstruct(array, mask, method="zero-filled").image.numpy()
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), expected, atol=1e-5 * np.abs(expected).max())
    assert json.loads(answer.headers["x-mask-receipt"])["kind"] == "from-zeros"
    problem(ask(client, array, method="zero-filled", acceleration=4, options=options), 422, "conflicting-masks")


def test_the_geometry_of_a_scan(client: httpx.Client, ask: Post, tmp_path: Path, kspace: Callable[..., Any]) -> None:
    """Letters only where the file has directions, and nothing had to be assumed of their signs."""
    assert ask(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3).json()["scan"]["geometry"] is None
    for assumed in (False, True):
        geometry = Geometry((1.5, 0.75, 4.0), ((0.0, 0.0, 0.0),), ((0, 1, 0), (1, 0, 0), (0, 0, 1)), "HFS", assumed)
        save_scan(tmp_path / "placed.h5", kspace(1, 1, 25, 36), geometry=geometry)
        content = (tmp_path / "placed.h5").read_bytes()
        found = ask(client, content, name="placed.h5", method="zero-filled", acceleration=3).json()["scan"]["geometry"]
        assert found["voxel_size"] == [1.5, 0.75, 4.0]
        assert found["sides_assumed"] == assumed
        assert found["toward"] == (None if assumed else ["L", "P"])


def test_assumed_axes_and_empty_slices_are_told(client: httpx.Client, ask: Post, post: Post) -> None:
    said = "The axes are assumed to be slice readout phase (the file names none): give axes if they differ."
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 24, 20)) + 1j * rng.standard_normal((3, 24, 20))).astype(np.complex64)
    kspace[2] = 0
    told = ask(client, kspace, acceleration=2, method="zero-filled").json()["scan"]
    assert told["axes_assumed"] is True
    assert told["warnings"] == [said, "1 of 3 slices are empty, with zeros only: 2 (counted from 0)."]
    given = ask(client, kspace, acceleration=2, method="zero-filled", axes="slice readout phase").json()["scan"]
    assert given["warnings"] == ["1 of 3 slices are empty, with zeros only: 2 (counted from 0)."]
    answer = post(client, kspace, acceleration=2, method="cg-sense", accept="application/x-hdf5")
    assert answer.status_code == 200, answer.text
    with h5py.File(io.BytesIO(answer.content)) as file:
        found = json.loads(file.attrs["info"])["warnings"]
        assert not file["reconstruction"][2].any()
    assert said in found
    assert any(text.startswith("1 of 3 slices hold no data") for text in found)

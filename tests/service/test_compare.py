"""`POST /v1/compare`: the library's comparison, with pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import mri_recon as mr
from mri_recon.metrics import CONVENTION
from mri_recon.results.comparison import compare
from mri_recon_service.settings import Settings

Post = Callable[..., httpx.Response]


def _pixels(picture: str) -> Any:
    """Read by Pillow, which shares nothing with the writer."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_the_document_is_the_librarys(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], npy: Callable[[Any], bytes], tmp_path: Path
) -> None:
    full = kspace(2, 3, 33, 41)
    (tmp_path / "scan.npy").write_bytes(npy(full))
    scan = mr.load(tmp_path / "scan.npy")
    mask = mr.random_mask(41, 3, seed=5, support=scan.support)
    expected = compare(scan, mask, ["zero-filled", "cs-wavelet"], options={"cs-wavelet": {"max_iters": 5}})
    answer = post(
        client,
        full,
        to="/v1/compare",
        accept="application/json",
        methods="zero-filled, cs-wavelet",
        acceleration=3,
        seed=5,
        options={"cs-wavelet.max_iters": "5"},
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    wanted = expected.document()
    assert document["convention"] == wanted["convention"]
    assert document["convention"].startswith(CONVENTION)
    assert document["mask"] == wanted["mask"]
    for got, row in zip(document["results"], wanted["results"], strict=True):
        for name in ("method", "acceleration", "seed", "nmse", "psnr", "ssim"):
            assert got[name] == row[name]
        assert got["info"]["warnings"] == row["info"]["warnings"]
        assert got["seconds"] > 0
    assert document["results"][1]["info"]["iterations"] == 5
    assert "Research only" in document["research_only"]

    images = document["images"]
    high, top = images["window"][1], images["error_window"][1]
    assert (images["slice"], images["num_slices"], images["size"]) == (1, 2, [33, 41])
    assert scan.target is not None
    reference = scan.target[1].numpy()
    np.testing.assert_array_equal(_pixels(images["reference"]), np.rint(255 * np.clip(reference / high, 0, 1)))
    for name in ("zero-filled", "cs-wavelet"):
        image = expected.magnitude(name)[1].numpy()
        np.testing.assert_array_equal(
            _pixels(images["methods"][name]["image"]), np.rint(255 * np.clip(image.astype(float) / high, 0, 1))
        )
        error = np.abs(image - reference).astype(float)
        np.testing.assert_array_equal(
            _pixels(images["methods"][name]["error"]), np.rint(255 * np.clip(error / top, 0, 1))
        )


def test_without_a_reference_there_are_no_metrics(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    fastmri_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    mask = mr.random_mask(36, 3, seed=2)
    path = fastmri_file(tmp_path / "scan.h5", mr.undersample(kspace(1, 1, 25, 36), mask).numpy(), mask.lines)
    fields = {"methods": "zero-filled", "axes": "slice coil readout phase"}
    answer = post(client, path.read_bytes(), name="scan.h5", to="/v1/compare", accept=None, **fields)
    document = answer.json()
    assert answer.status_code == 200, document
    (row,) = document["results"]
    assert (row["nmse"], row["psnr"], row["ssim"], row["acceleration"]) == (None, None, None, None)
    assert row["info"]["warnings"] == []
    assert document["images"]["reference"] is None
    assert document["images"]["error_window"] is None
    assert document["images"]["methods"]["zero-filled"]["error"] is None


def test_the_methods_by_default(
    tiny_models: tuple[str, str], serve: Any, post: Post, kspace: Callable[..., Any]
) -> None:
    with serve(Settings()) as client:
        answer = post(client, kspace(1, 2, 33, 41), to="/v1/compare", accept="application/json", acceleration=3)
    results = answer.json()["results"]
    assert [row["method"] for row in results] == ["zero-filled", "cs-wavelet", "unet", "unrolled"]
    assert [row["info"]["model"] for row in results[2:]] == list(tiny_models)


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"methods": ","}, "unknown-method", "at least one method"),
        ({"methods": "zero-filled,nope"}, "unknown-method", "'nope'"),
        ({"methods": "zero-filled", "max_iters": "3"}, "unknown-option", "METHOD.OPTION"),
        ({"methods": "zero-filled", "cs-wavelet.max_iters": "3"}, "unknown-option", "METHOD.OPTION"),
        ({"methods": "cs-wavelet", "cs-wavelet.nope": "3"}, "unknown-option", "'cs-wavelet.nope'"),
        ({"methods": "cs-wavelet", "cs-wavelet.max_iters": "many"}, "invalid-option", "cs-wavelet.max_iters"),
        ({"methods": "cs-wavelet", "cs-wavelet.levels": "30"}, "invalid-option", "cs-wavelet.levels"),
        ({"methods": "cs-wavelet", "cs-wavelet.max_iters": "61"}, "invalid-option", "at most 60"),
        ({"methods": "unet", "unet.model": "/etc/passwd.safetensors"}, "unknown-model", "registered name"),
        ({"methods": "zero-filled", "slice": "1"}, "invalid-request", "slice: expected 0 to 0"),
    ],
)
def test_problems(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    problem: Callable[..., dict[str, Any]],
    fields: dict[str, str],
    code: str,
    says: str,
) -> None:
    answer = post(client, kspace(1, 1, 25, 36), to="/v1/compare", accept=None, acceleration=3, options=fields)
    assert says in problem(answer, 422, code)["detail"]


def test_only_json_and_npz(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], problem: Callable[..., dict[str, Any]]
) -> None:
    answer = post(client, kspace(1, 1, 25, 36), to="/v1/compare", accept="image/png", acceleration=3)
    assert problem(answer, 406, "not-acceptable")["valid"] == ["application/json", "application/x-npz"]


def test_infinite_psnr_is_null(client: httpx.Client, post: Post, kspace: Callable[..., Any], npy: Any) -> None:
    """A mask of everything reproduces the reference exactly, and JSON has no infinity."""
    answer = post(
        client,
        kspace(1, 1, 25, 36),
        to="/v1/compare",
        accept=None,
        methods="zero-filled",
        mask=("all.npy", npy(np.ones(36, bool))),
    )
    (row,) = json.loads(answer.text, parse_constant=lambda name: pytest.fail(name))["results"]
    assert row["nmse"] == pytest.approx(0, abs=1e-12)

"""`POST /v1/reconstructions`: the same array as the Python call, for every form of input and output."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import scipy.io
from PIL import Image

import mri_recon as mr
from tests.support.methods import add_method
from tests.support.service import array_of

Post = Callable[..., httpx.Response]
SHAPES = [(1, 1, 33, 41), (2, 1, 40, 27), (1, 3, 25, 36), (2, 4, 32, 31)]


def _python(path: Path, method: str, **options: Any) -> Any:
    scan = mr.load(path)
    mask = mr.random_mask(scan.width, acceleration=3, seed=5, support=scan.support)
    return mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method=method, **options).image.numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("method", "options"),
    [("zero-filled", {}), ("cg-sense", {"reg_weight": 0.02}), ("cs-wavelet", {"max_iters": 7, "wavelet": "db2"})],
)
def test_the_array_is_the_python_calls(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    tmp_path: Path,
    shape: tuple[int, ...],
    method: str,
    options: dict[str, Any],
) -> None:
    (tmp_path / "scan.npy").write_bytes(npy(kspace(*shape)))
    expected = _python(tmp_path / "scan.npy", method, **options)
    got = array_of(
        post(client, (tmp_path / "scan.npy").read_bytes(), method=method, acceleration=3, seed=5, options=options)
    )
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_a_network_gives_the_python_calls_array(
    tiny_model: str, serve: Any, post: Post, kspace: Callable[..., Any], npy: Callable[[Any], bytes], tmp_path: Path
) -> None:
    from mri_recon_service.settings import Settings

    (tmp_path / "scan.npy").write_bytes(npy(kspace(2, 3, 33, 26)))
    expected = _python(tmp_path / "scan.npy", "unet", model=tiny_model)
    zero_filled = _python(tmp_path / "scan.npy", "zero-filled")
    with serve(Settings()) as client:
        got = array_of(
            post(client, kspace(2, 3, 33, 26), method="unet", acceleration=3, seed=5, options={"model": tiny_model})
        )
    np.testing.assert_array_equal(got, expected)
    assert not np.allclose(np.abs(got), zero_filled)


def test_what_a_network_warns_of_comes_with_every_image(
    tiny_model: str, serve: Any, post: Post, kspace: Callable[..., Any]
) -> None:
    from mri_recon_service.settings import Settings

    with serve(Settings()) as client:
        answers = [
            post(client, kspace(1, 1, 33, 64), accept=accept, method="unet", acceleration=13, num_low_frequencies=3)
            for accept in ("image/png", "application/x-npy", "application/x-hdf5")
        ]
    for answer in answers:
        assert answer.status_code == 200
        (warning, *_) = json.loads(answer.headers["x-reconstruction-info"])["warnings"]
        assert "outside the training" in warning


@pytest.mark.parametrize("method", ["zero-filled", "cs-wavelet"])
def test_another_input_gives_another_output(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], method: str
) -> None:
    options = {"max_iters": 3} if method == "cs-wavelet" else {}
    base = array_of(post(client, kspace(1, 2, 27, 32), method=method, acceleration=3, options=options))
    data = array_of(post(client, kspace(1, 2, 27, 32, 1), method=method, acceleration=3, options=options))
    seed = array_of(post(client, kspace(1, 2, 27, 32), method=method, acceleration=3, seed=1, options=options))
    fewer = array_of(post(client, kspace(1, 2, 27, 32), method=method, acceleration=4, options=options))
    for other in (data, seed, fewer):
        assert not np.allclose(base, other)


def test_the_default_answer_is_the_file_that_save_writes(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], tmp_path: Path
) -> None:
    fields = {"method": "cs-wavelet", "acceleration": 3, "options": {"max_iters": 4}}
    answer = post(client, kspace(2, 3, 25, 36), accept=None, **fields)
    assert answer.headers["content-type"] == "application/x-hdf5"
    assert 'filename="reconstruction.h5"' in answer.headers["content-disposition"]
    image = array_of(post(client, kspace(2, 3, 25, 36), **fields))
    with h5py.File(io.BytesIO(answer.content)) as file:
        np.testing.assert_array_equal(file["reconstruction_complex"][()], image)
        np.testing.assert_allclose(file["reconstruction"][()], np.abs(image), rtol=1e-6)
        assert file.attrs["method"] == "cs-wavelet"
        receipt = json.loads(file.attrs["mask"])
        assert receipt["num_lines"] == 12
        assert "Research only" in file.attrs["notice"]


def test_a_picture_states_its_window(client: httpx.Client, post: Post, kspace: Callable[..., Any]) -> None:
    fields = {"method": "zero-filled", "acceleration": 3}
    image = np.abs(array_of(post(client, kspace(3, 2, 25, 36), **fields)))
    answer = post(client, kspace(3, 2, 25, 36), accept="image/png", slice=2, **fields)
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        pixels, text = np.asarray(picture, np.int64), picture.info
    low, high = (float(end) for end in answer.headers["x-preview-window"].split())
    assert answer.headers["x-preview-slice"] == "2"
    assert low == 0
    expected = np.rint(255 * np.clip(image[2] / high, 0, 1))
    assert np.abs(pixels - expected).max() <= 1  # the header has six digits
    assert text["Window"] == answer.headers["x-preview-window"]
    assert "Research only" in text["Disclaimer"]
    assert json.loads(text["Mask"])["seed"] == 0
    middle = post(client, kspace(3, 2, 25, 36), accept="image/png", **fields)
    assert middle.headers["x-preview-slice"] == "1"
    assert middle.content != answer.content


def test_headers_carry_the_receipt(client: httpx.Client, post: Post, kspace: Callable[..., Any]) -> None:
    answer = post(client, kspace(1, 2, 25, 36), method="cs-wavelet", acceleration=4, num_low_frequencies=5, seed=3)
    receipt = json.loads(answer.headers["x-mask-receipt"])
    mask = mr.random_mask(36, 4, num_low_frequencies=5, seed=3)
    expected = mask.receipt()
    del expected["lines"]
    assert receipt == {**expected, "sha256": hashlib.sha256(np.packbits(mask.lines).tobytes()).hexdigest()}
    info = json.loads(answer.headers["x-reconstruction-info"])
    assert info["reg_weight"] > 0
    assert info["seconds"] > 0
    assert "Research only" in answer.headers["x-research-only"]
    assert answer.headers["vary"] == "Accept"


def test_masks_as_files(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    fastmri_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    full = kspace(1, 2, 25, 36)
    mask = mr.random_mask(36, 3, seed=2)
    expected = mr.reconstruct(mr.undersample(full, mask), mask, method="zero-filled").image.numpy()
    given = array_of(post(client, full, method="zero-filled", mask=("m.npy", npy(mask.lines))))
    np.testing.assert_array_equal(given, expected)
    pattern = np.random.default_rng(0).random((25, 36)) < 0.4
    pattern[8:17, 14:22] = True
    given = array_of(post(client, full, method="zero-filled", mask=("m.npy", npy(pattern))))
    reference = mr.reconstruct(mr.undersample(full, pattern), pattern, method="zero-filled").image.numpy()
    np.testing.assert_array_equal(given, reference)
    # The scan's own mask, asked for and not asked for.
    path = fastmri_file(tmp_path / "scan.h5", mr.undersample(full, mask).numpy(), mask.lines)
    for fields in ({}, {"options": {"mask": "file"}}):
        own = array_of(post(client, path.read_bytes(), name="scan.h5", method="zero-filled", **fields))
        np.testing.assert_array_equal(own, expected)


def test_every_format_and_raw_bodies(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    fastmri_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    full = kspace(2, 3, 25, 36)
    np.savez(tmp_path / "s.npz", kspace=full, other=np.zeros(3))
    scipy.io.savemat(tmp_path / "s.mat", {"k": full})
    bodies = {
        "s.npy": (npy(full), "application/x-npy", {}),
        "s.npz": ((tmp_path / "s.npz").read_bytes(), "application/x-npz", {"variable": "kspace"}),
        "s.mat": (
            (tmp_path / "s.mat").read_bytes(),
            "application/x-matlab-data",
            {"axes": "slice coil readout phase", "variable": "k"},
        ),
        "S.H5": (fastmri_file(tmp_path / "s.h5", full).read_bytes(), "application/x-hdf5", {}),
    }
    fields = {"method": "zero-filled", "acceleration": "3", "seed": "5"}
    expected = _python_of(full)
    for name, (body, kind, extra) in bodies.items():
        form = array_of(post(client, body, name=name, options={**fields, **extra}))
        np.testing.assert_array_equal(form, expected)
        for content_type, query in ((kind, {}), ("application/octet-stream", {"filename": f"C:\\scans\\{name}"})):
            headers = {"Content-Type": content_type, "Accept": "application/x-npy"}
            raw = client.post("/v1/reconstructions", content=body, params={**fields, **extra, **query}, headers=headers)
            np.testing.assert_array_equal(array_of(raw), expected)


def _python_of(full: Any) -> Any:
    mask = mr.random_mask(full.shape[-1], 3, seed=5)
    return mr.reconstruct(mr.undersample(full, mask), mask, method="zero-filled").image.numpy()


def test_a_plugin_method_is_served(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the table of methods has is there, with its own options and their types."""
    import torch

    seen: dict[str, Any] = {}

    def custom(kspace: torch.Tensor, mask: Any, *, sens_maps: Any, scale: float = 1.0, flag: bool = False, any_=None):  # type: ignore[no-untyped-def]
        seen.update(scale=scale, flag=flag, any_=any_)
        return scale * kspace[:, 0], {"wide": [1] * 5000}

    add_method(monkeypatch, "custom", custom)
    options = {"scale": "2", "flag": "true", "any_": "free text"}
    full = kspace(1, 2, 25, 36)
    answer = post(client, full, method="custom", acceleration=3, options=options)
    mask = mr.random_mask(36, 3, seed=0)
    np.testing.assert_array_equal(array_of(answer), 2 * mr.undersample(full, mask)[:, 0].numpy())
    assert seen == {"scale": 2.0, "flag": True, "any_": "free text"}
    assert "wide" not in json.loads(answer.headers["x-reconstruction-info"])


def test_on_a_real_scan(real_data: Path, client: httpx.Client, serve: Any) -> None:
    """The raw sagittal scan: the same array from the service as from Python, by HDF5 and by npy."""
    from mri_recon_service.settings import Settings

    path = next(
        path
        for path in sorted((real_data / "raw" / "head-sagittal-t1").rglob("*"))
        if path.suffix in {".mat", ".h5", ".npy"}
    )
    scan = mr.load(path)
    mask = mr.random_mask(scan.width, 4, seed=0, support=scan.support)
    expected = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cs-wavelet", max_iters=5).image.numpy()
    fields = {"method": "cs-wavelet", "acceleration": "4", "max_iters": "5"}
    with serve(Settings()) as roomy:
        npy, hdf5 = (
            roomy.post(
                "/v1/reconstructions",
                files={"file": (path.name, path.read_bytes())},
                data=fields,
                headers={"Accept": accept},
            )
            for accept in ("application/x-npy", "application/x-hdf5")
        )
    np.testing.assert_array_equal(array_of(npy), expected)
    with h5py.File(io.BytesIO(hdf5.content)) as file:
        np.testing.assert_array_equal(file["reconstruction_complex"][()], expected)


def test_the_holdout_check_comes_with_the_answer(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], npy: Callable[[Any], bytes], tmp_path: Path
) -> None:
    content = npy(kspace(1, 3, 25, 60))
    (tmp_path / "scan.npy").write_bytes(content)
    scan = mr.load(tmp_path / "scan.npy")
    mask = mr.random_mask(scan.width, acceleration=2, num_low_frequencies=8, seed=5, support=scan.support)
    expected = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cg-sense", check="holdout").info[
        "holdout"
    ]
    fields = {"method": "cg-sense", "acceleration": 2, "num_low_frequencies": 8, "seed": 5}
    answer = post(client, content, check="holdout", **fields)
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.headers["X-Reconstruction-Info"])["holdout"]
    assert found["error_db"] == pytest.approx(expected["error_db"], abs=1e-3)
    assert found["held_lines"] == expected["held_lines"]
    assert "holdout" not in json.loads(post(client, content, **fields).headers["X-Reconstruction-Info"])
    assert post(client, content, check="twice", **fields).status_code == 422
    few = post(client, content, check="holdout", **{**fields, "acceleration": 6})
    assert few.status_code == 422
    assert "at least 6 sampled lines outside the fully sampled centre" in few.json()["detail"]


def test_candidates_cannot_pad_without_limit(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], npy: Callable[[Any], bytes]
) -> None:
    answer = post(client, npy(kspace(1, 1, 25, 60)), method="auto", acceleration=2, candidates="cs-wavelet:levels=30")
    assert answer.status_code == 422
    assert "option 'candidates: cs-wavelet:levels': expected 1 to 4" in answer.json()["detail"]

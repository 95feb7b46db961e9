"""Arrays of any byte order, layout and right to be written to give the same image; crops keep the centre."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mri_recon as mr
from mri_recon._arrays import as_complex_tensor, as_tensor, center_crop, center_window, lower_median
from mri_recon.coils.combine import rss
from mri_recon.io.scan import make_scan
from mri_recon.metrics import nmse
from mri_recon.transforms.fourier import ifft2c
from tests.support.methods import BUILT_IN


def scan() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 28), indexing="ij")
    image = (y**2 + x**2 < 0.6) * np.stack([1 + 0.3 * y, 1 - 0.3 * x])
    kspace = mr.fft2c(torch.from_numpy(image[None].astype(np.complex64))).numpy()
    return (kspace + 0.02 * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))).astype("c8")


def variants(kspace: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    read_only = kspace.copy()
    read_only.flags.writeable = False
    folder.mkdir(exist_ok=True)
    np.save(folder / "a.npy", kspace)
    return {
        "read-only": read_only,
        "mapped": np.load(folder / "a.npy", mmap_mode="r"),
        "mapped copy on write": np.load(folder / "a.npy", mmap_mode="c"),
        "Fortran": np.asfortranarray(kspace),
        "negative strides": kspace[:, :, ::-1].copy()[:, :, ::-1],
        "every other": np.repeat(kspace, 2, axis=-1)[..., ::2],
        "broadcast": np.broadcast_to(kspace, kspace.shape),
        "big-endian": kspace.astype(">c8"),
        "double": kspace.astype("c16"),
        "big-endian double": kspace.astype(">c16"),
        "long double": kspace.astype("c32"),
    }


NAMES = [
    "read-only", "mapped", "mapped copy on write", "Fortran", "negative strides", "every other", "broadcast",
    "big-endian", "double", "big-endian double", "long double",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", BUILT_IN)
def test_every_array_gives_the_same_image(tmp_path: Path, name: str, method: str) -> None:
    mask = mr.random_mask(28, 2, center_fraction=0.25, seed=0)
    quick = {"cs-wavelet": {"max_iters": 3}, "auto": {"candidates": "cg-sense,cs-wavelet:max_iters=3"}}
    options: dict[str, Any] = quick.get(method, {})
    full = variants(scan(), tmp_path)[name]
    given = variants(mr.undersample(scan(), mask).numpy(), tmp_path)[name]
    before = given.copy()
    wanted = mr.undersample(scan(), mask)
    assert torch.equal(mr.undersample(full, mask), wanted)
    found = mr.reconstruct(given, mask, method=method, **options)
    assert torch.equal(found.image, mr.reconstruct(wanted, mask, method=method, **options).image)
    np.testing.assert_array_equal(given, before)
    found.image.zero_()
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("name", NAMES)
def test_maps_and_noise_samples_too(tmp_path: Path, name: str) -> None:
    mask = mr.random_mask(28, 2, center_fraction=0.25, seed=0)
    kspace = mr.undersample(scan(), mask)
    maps, noise = np.full((1, 2, 24, 28), 0.5**0.5, "c8"), scan().reshape(2, -1)
    wanted = mr.reconstruct(kspace, mask, method="cg-sense", sens_maps=maps, prewhiten=noise)
    found = mr.reconstruct(
        kspace,
        mask,
        method="cg-sense",
        sens_maps=variants(maps, tmp_path / "maps")[name],
        prewhiten=variants(scan(), tmp_path)[name].reshape(2, -1),
    )
    torch.testing.assert_close(found.image, wanted.image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["?", "u1", "u2", "i8", "f2", "f4", ">f8", "g", "c8", ">c16", "c32"])
def test_masks_of_every_type(kind: str) -> None:
    lines = np.array([1, 0, 1, 1, 1, 0, 1] * 4)
    wanted = mr.undersample(scan(), lines.astype(bool))
    given = lines.astype(kind)
    given.flags.writeable = False
    assert torch.equal(mr.undersample(scan(), given), wanted)
    assert torch.equal(mr.undersample(scan(), given[::-1].copy()[::-1]), wanted)


def test_memory_is_shared_only_where_it_may_be() -> None:
    array = scan()
    assert as_complex_tensor(array).data_ptr() == array.ctypes.data
    array.flags.writeable = False
    assert as_complex_tensor(array).data_ptr() != array.ctypes.data
    assert as_tensor(np.arange(3.0).astype("g")).dtype == torch.float64
    assert as_tensor(np.arange(3).astype(">i4")).tolist() == [0, 1, 2]
    tensor = torch.ones(3)
    assert as_tensor(tensor) is tensor


@given(full=st.tuples(st.integers(1, 12), st.integers(1, 12)), size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_the_centre_stays_the_centre(full: tuple[int, int], size: tuple[int, int]) -> None:
    image = torch.zeros(full)
    image[full[0] // 2, full[1] // 2] = 1
    part = center_crop(image, size)
    assert part.shape == tuple(min(n, wanted) for n, wanted in zip(full, size, strict=True))
    assert part[part.shape[0] // 2, part.shape[1] // 2] == 1
    assert np.array_equal(image.numpy()[center_window(full, size)], part.numpy())


@pytest.mark.parametrize("recon_size", [(11, 9), (10, 8), (11, 12), (16, 12)])
def test_reference_and_image_are_cut_at_the_same_place(recon_size: tuple[int, int]) -> None:
    # An even side cut to an odd one: two rules that both look right differ by a pixel here.
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(2, 3, 16, 12, 2)).view(np.complex128)[..., 0]
    scan = make_scan(kspace, name="test", meta={}, recon_size=recon_size)
    assert scan.target is not None
    assert scan.target.shape == (2, *recon_size)
    assert nmse(rss(ifft2c(scan.kspace)), scan.target) == pytest.approx(0, abs=1e-12)


@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_the_lower_median_is_that_of_pytorch(values: list[int]) -> None:
    assert lower_median(np.array(values)) == int(torch.tensor(values).median())

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import MethodError, ShapeError
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from tests.support.helpers import complex_randn


def _filtered(x: np.ndarray, taps: list[float], spacing: int, axis: int) -> np.ndarray:
    """The equation of the docstring, sample by sample."""
    x = np.moveaxis(x, axis, 0)
    n, half = len(x), len(taps) // 2
    out = np.zeros_like(x)
    for k in range(n):
        for j, tap in enumerate(taps):
            out[k] += tap / np.sqrt(2) * x[(k + (half - j) * spacing) % n]
    return np.moveaxis(out, 0, axis)


def _direct(x: np.ndarray, wavelet: str, levels: int) -> np.ndarray:
    filters = pywt.Wavelet(wavelet)
    details: list[np.ndarray] = []
    for level in range(levels):
        lo, hi = (_filtered(x, taps, 1 << level, 0) for taps in (filters.dec_lo, filters.dec_hi))
        x, low_high = (_filtered(lo, taps, 1 << level, 1) for taps in (filters.dec_lo, filters.dec_hi))
        high_low, high_high = (_filtered(hi, taps, 1 << level, 1) for taps in (filters.dec_lo, filters.dec_hi))
        details = [high_low, low_high, high_high, *details]
    return np.stack([x, *details])


@pytest.mark.parametrize(
    ("wavelet", "levels", "size"),
    [("haar", 3, (24, 40)), ("haar", 1, (2, 6)), ("db2", 2, (12, 20)), ("db4", 3, (16, 24)), ("sym5", 1, (14, 26))],
)
def test_equals_pywavelets_where_it_has_the_transform(wavelet: str, levels: int, size: tuple[int, int]) -> None:
    x = complex_randn(2, *size)
    ours = StationaryWaveletTransform(levels, size, wavelet).forward(x)
    assert ours.shape == (2, 3 * levels + 1, *size)
    for item, bands in zip(x.numpy(), ours.numpy(), strict=True):
        approximation, *details = pywt.swt2(item, wavelet, levels, norm=True, trim_approx=True)
        reference = np.stack([approximation, *(band for level in details for band in level)])
        assert np.abs(bands - reference).max() < 1e-13


@pytest.mark.parametrize(
    ("wavelet", "levels", "size"), [("haar", 3, (17, 12)), ("haar", 2, (5, 9)), ("db2", 2, (7, 10)), ("db4", 2, (9, 5))]
)
def test_equals_the_equation_at_odd_sizes(wavelet: str, levels: int, size: tuple[int, int]) -> None:
    x = complex_randn(*size)
    ours = StationaryWaveletTransform(levels, size, wavelet).forward(x)
    assert np.abs(ours.numpy() - _direct(x.numpy(), wavelet, levels)).max() < 1e-13


@given(
    wavelet=st.sampled_from(["haar", "db2", "db4", "coif2"]),
    levels=st.integers(1, 3),
    size=st.tuples(st.integers(8, 21), st.integers(8, 21)),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    seed=st.integers(0, 99),
)
def test_parseval_frame_that_commutes_with_shifts(
    wavelet: str, levels: int, size: tuple[int, int], shift: tuple[int, int], seed: int
) -> None:
    transform = StationaryWaveletTransform(levels, size, wavelet)
    x = complex_randn(2, *size, seed=seed)
    c = transform.forward(x)
    # The published filters of long wavelets are orthogonal to about 1e-11 only.
    torch.testing.assert_close(transform.adjoint(c), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        transform.forward(torch.roll(x, shift, (-2, -1))), torch.roll(c, shift, (-2, -1)), rtol=0, atol=1e-12
    )
    assert transform.gram(x) is x


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_types_and_batches(wavelet: str, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    transform = StationaryWaveletTransform(2, (9, 14), wavelet)
    x = torch.randn(*batch, 9, 14, dtype=dtype)
    before = x.clone()
    c = transform.forward(x)
    assert c.dtype == dtype
    assert c.shape == (*batch, 7, 9, 14)
    assert torch.equal(x, before)
    kept = c.clone()
    torch.testing.assert_close(transform.adjoint(c), x)
    assert torch.equal(c, kept)
    double = torch.complex128 if dtype.is_complex else torch.float64
    torch.testing.assert_close(c, transform.forward(x.to(double)).to(dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_writes_to_a_buffer_and_reads_views(wavelet: str) -> None:
    transform = StationaryWaveletTransform(2, (9, 14), wavelet)
    x = complex_randn(2, 14, 9).mT.conj()
    out = torch.full((2, 7, 9, 14), torch.nan, dtype=x.dtype)
    assert transform.forward(x, out=out) is out
    torch.testing.assert_close(out, transform.forward(x.contiguous().resolve_conj()))
    for bad in (out[:, :6], out.mT.contiguous().mT, out.real.contiguous()):
        with pytest.raises(ShapeError, match=r"contiguous out \(2, 7, 9, 14\)"):
            transform.forward(x, out=bad)


def test_one_row_is_an_image() -> None:
    transform = StationaryWaveletTransform(1, (1, 6))
    x = complex_randn(1, 6)
    torch.testing.assert_close(transform.adjoint(transform.forward(x)), x)


def test_errors_name_the_cure() -> None:
    with pytest.raises(MethodError, match=r"got 'bior4\.4': choose one of .*db4"):
        StationaryWaveletTransform(2, (16, 16), "bior4.4")
    for levels in (0, 5, True, 2.0):
        with pytest.raises(MethodError, match="expected 1 to 4 wavelet levels"):
            StationaryWaveletTransform(levels, (17, 40))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="image .* with samples"):
        StationaryWaveletTransform(1, (0, 4))
    transform = StationaryWaveletTransform(2, (16, 12))
    with pytest.raises(ShapeError, match=r"of size \(16, 12\), got \(12, 16\)"):
        transform.forward(complex_randn(12, 16))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 7, h, w\)"):
        transform.adjoint(complex_randn(6, 16, 12))

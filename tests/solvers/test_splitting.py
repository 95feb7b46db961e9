from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.solvers.compiled_haar import CompiledHaarSplit, choose_split, compile_ahead
from mri_recon.solvers.shrinkage import BandShrinkage
from mri_recon.solvers.splitting import BandSplit
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from tests.support.without_numba import without_numba

pytest.importorskip("numba", reason="the compiled split needs numba, of the extra fast")


def _shrinkage(num_bands: int, kind: torch.dtype, separate: bool) -> BandShrinkage:
    weights = torch.linspace(0.0, 0.9, num_bands)
    return BandShrinkage(weights, num_bands, complex_values=kind.is_complex, separate_parts=separate, coupled=False)


@given(
    h=st.integers(33, 48),
    w=st.integers(32, 47),
    batch=st.integers(1, 2),
    levels=st.integers(1, 5),
    kind=st.sampled_from([torch.complex64, torch.complex128, torch.float32, torch.float64]),
    separate=st.booleans(),
    relaxation=st.floats(0.5, 1.9),
)
def test_the_compiled_split_is_that_of_the_bands(
    h: int, w: int, batch: int, levels: int, kind: torch.dtype, separate: bool, relaxation: float
) -> None:
    transform = StationaryWaveletTransform(levels, (h, w))
    shrinkage = _shrinkage(transform.num_bands, kind, separate)
    generator = torch.Generator().manual_seed(h * w)
    like = torch.zeros(batch, h, w, dtype=kind)
    plain, compiled = BandSplit(transform, shrinkage, like), CompiledHaarSplit(transform, shrinkage, like)
    accuracy = 1e-5 if kind in (torch.complex64, torch.float32) else 1e-12
    for step in range(3):
        x = torch.randn(like.shape, dtype=kind, generator=generator)
        rho = None if step == 0 else relaxation
        wanted, wanted_sums = plain.step(x, rho, measured=step != 1)
        found, found_sums = compiled.step(x, rho, measured=step != 1)
        torch.testing.assert_close(found, wanted, rtol=0, atol=10 * accuracy)
        assert (found_sums is None) == (wanted_sums is None) == (step == 1)
        if found_sums is not None and wanted_sums is not None:
            for name, value in vars(wanted_sums).items():
                torch.testing.assert_close(getattr(found_sums, name), value, rtol=10 * accuracy, atol=1e-9)
    torch.testing.assert_close(compiled.multiplier_image(), plain.multiplier_image(), rtol=0, atol=10 * accuracy)
    image = 0.3 * torch.randn(like.shape, dtype=kind, generator=generator)
    torch.testing.assert_close(
        compiled.multiplier_image(image), plain.multiplier_image(image), rtol=0, atol=10 * accuracy
    )


@given(
    h=st.integers(33, 48),
    w=st.integers(32, 47),
    batch=st.integers(1, 2),
    levels=st.integers(1, 5),
    kind=st.sampled_from([torch.complex64, torch.complex128, torch.float32, torch.float64]),
    separate=st.booleans(),
    zero_weight=st.booleans(),
)
def test_the_largest_ratio_is_that_of_the_bands(
    h: int, w: int, batch: int, levels: int, kind: torch.dtype, separate: bool, zero_weight: bool
) -> None:
    transform = StationaryWaveletTransform(levels, (h, w))
    weights = torch.linspace(0.0 if zero_weight else 0.2, 0.9, transform.num_bands, dtype=torch.float64)
    shrinkage = BandShrinkage(
        weights, transform.num_bands, complex_values=kind.is_complex, separate_parts=separate, coupled=False
    )
    x = torch.randn(batch, h, w, dtype=kind, generator=torch.Generator().manual_seed(h * w))
    found = CompiledHaarSplit(transform, shrinkage, x).largest_ratio(x)
    torch.testing.assert_close(found, BandSplit(transform, shrinkage, x).largest_ratio(x), rtol=1e-4, atol=0)
    bands = transform.forward(x)
    size = torch.view_as_real(bands).abs().amax(dim=-1) if separate and kind.is_complex else bands.abs()
    wanted = (size.double() / weights[:, None, None]).amax(dim=(1, 2, 3))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)


def test_the_input_is_kept_and_may_be_a_view() -> None:
    transform = StationaryWaveletTransform(3, (40, 37))
    shrinkage = _shrinkage(transform.num_bands, torch.complex64, True)
    x = torch.randn(1, 37, 40, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).mT.conj()
    before = x.clone()
    split = CompiledHaarSplit(transform, shrinkage, torch.empty(1, 40, 37, dtype=torch.complex64))
    plain = BandSplit(transform, shrinkage, before)
    torch.testing.assert_close(
        split.step(x, None, measured=False)[0], plain.step(before, None, measured=False)[0], rtol=0, atol=1e-5
    )
    assert torch.equal(x, before)


@pytest.mark.parametrize("case", ["", "small", "other wavelet", "differences", "coupled"])
def test_what_is_compiled(case: str) -> None:
    size = (150, 95) if case == "small" else (97, 96)
    like = torch.zeros(1, *size, dtype=torch.complex64)
    wavelet = "db2" if case == "other wavelet" else "haar"
    transform = PeriodicGradient(size) if case == "differences" else StationaryWaveletTransform(2, size, wavelet)
    coupled = case == "coupled"
    shrinkage = BandShrinkage(
        None, transform.num_bands, complex_values=True, separate_parts=not coupled, coupled=coupled
    )
    assert type(choose_split(transform, shrinkage, like)) is (BandSplit if case else CompiledHaarSplit)


def test_what_is_compiled_ahead_is_what_a_reconstruction_calls() -> None:
    from mri_recon.solvers import _haar_kernels

    assert compile_ahead()
    loops: Any = (_haar_kernels.one_level, _haar_kernels.low_back)
    before = [len(one.signatures) for one in loops]
    for separate in (True, False):
        transform = StationaryWaveletTransform(3, (97, 101))
        x = torch.randn(1, 97, 101, dtype=torch.complex64)
        split = CompiledHaarSplit(transform, _shrinkage(transform.num_bands, torch.complex64, separate), x)
        for relaxation in (None, 1.6):
            split.step(x, relaxation, measured=True)
        split.multiplier_image()
    assert [len(one.signatures) for one in loops] == before


def test_without_numba_the_bands_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    transform = StationaryWaveletTransform(2, (97, 96))
    shrinkage = _shrinkage(transform.num_bands, torch.complex64, True)
    split = choose_split(transform, shrinkage, torch.zeros(1, 97, 96, dtype=torch.complex64))
    assert type(split) is BandSplit
    assert not compile_ahead()

from __future__ import annotations

import pytest
import torch

from mri_recon.coils.phase import smooth_phase_map, smooth_phase_of_rows
from mri_recon.coils.sensitivity_maps import low_resolution_images
from mri_recon.errors import MaskError, ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import KSPACE_SHAPES, complex_randn, phantom, smooth_maps


def _center(width: int, columns: int) -> torch.Tensor:
    lines = torch.zeros(width, dtype=torch.bool)
    lines[width // 2 - columns // 2 : width // 2 - columns // 2 + columns] = True
    return lines


def _error(phase: torch.Tensor, image: torch.Tensor) -> float:
    """Mean |angle| between the phases where there is signal."""
    inside = image.abs() > 0.5 * image.abs().max()
    return float((phase * image.conj())[inside].angle().abs().mean())


@pytest.mark.parametrize(("coils", "size"), [(1, (40, 33)), (4, (33, 48))])
def test_finds_a_smooth_phase(coils: int, size: tuple[int, int]) -> None:
    image = torch.stack([phantom(*size), phantom(*size).conj() * 1j])
    maps = smooth_maps(coils, *size) if coils > 1 else torch.ones(1, *size, dtype=torch.complex128)
    lines = _center(size[1], 7)
    kspace = fft2c(maps * image[:, None]) * lines
    phase = smooth_phase_map(kspace, lines, maps)
    assert phase.shape == image.shape
    torch.testing.assert_close(phase.abs(), torch.ones_like(phase.abs()))
    assert _error(phase, image) < 0.15
    assert _error(torch.ones_like(phase), image) > 0.3
    if coils == 1:
        torch.testing.assert_close(smooth_phase_map(kspace, lines), phase)


@pytest.mark.parametrize("shift", [-2, 2])
def test_follows_an_echo_that_is_off_centre(shift: int) -> None:
    h, w = 48, 65
    ramp = torch.polar(torch.ones(w, dtype=torch.float64), 2 * torch.pi * shift * torch.arange(w).double() / w)
    rows = torch.polar(torch.ones(h, dtype=torch.float64), -2 * torch.pi * 5 * torch.arange(h).double() / h)
    image = (phantom(h, w).abs() * ramp * rows[:, None])[None]
    lines = _center(w, 5)
    kspace = fft2c(image[:, None]) * lines
    found = _error(smooth_phase_map(kspace, lines), image)
    # A window about N//2 gives the outermost columns next to nothing.
    assert found < 0.25
    assert found < 0.5 * _error(low_resolution_images(kspace, lines)[:, 0], image)


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
def test_each_slice_by_itself_whatever_its_units(shape: tuple[int, ...]) -> None:
    kspace = complex_randn(*shape)
    maps = complex_randn(*shape, seed=1)
    mask = random_mask(shape[-1], acceleration=2, num_low_frequencies=3, seed=0)
    phase = smooth_phase_map(kspace, mask, maps)
    alone = torch.cat([smooth_phase_map(kspace[s : s + 1], mask, maps[s]) for s in range(shape[0])])
    torch.testing.assert_close(alone, phase)
    single = kspace.to(torch.complex64), maps.to(torch.complex64)
    one, tiny = (smooth_phase_map(factor * single[0], mask, single[1]) for factor in (1, 1e-25))
    torch.testing.assert_close(tiny, one, rtol=0, atol=1e-3)
    outside = kspace.clone()
    lines = torch.tensor(mask.lines)
    outside[..., ~lines] += 1
    torch.testing.assert_close(smooth_phase_map(outside, mask, maps), phase)


def test_reads_the_centre_of_a_pattern_only() -> None:
    pattern = torch.zeros(20, 17, dtype=torch.bool)
    pattern[7:13, 6:11] = True
    pattern[0, 0] = True
    kspace = complex_randn(1, 1, 20, 17)
    phase = smooth_phase_map(kspace, pattern)
    changed = kspace.clone()
    changed[..., 0, 0] = 99
    torch.testing.assert_close(smooth_phase_map(changed, pattern), phase)
    changed[..., 10, 8] = 99
    assert not torch.allclose(smooth_phase_map(changed, pattern), phase)


def test_nothing_has_the_phase_one() -> None:
    phase = smooth_phase_map(torch.zeros(2, 1, 8, 9, dtype=torch.complex64), _center(9, 3))
    assert torch.equal(phase, torch.ones(2, 8, 9, dtype=torch.complex64))


def test_errors_name_the_cure() -> None:
    with pytest.raises(ShapeError, match="a single image of one coil"):
        smooth_phase_map(complex_randn(1, 8, 9), _center(9, 3))
    with pytest.raises(ShapeError, match="sens_maps for 2 coils, got none"):
        smooth_phase_map(complex_randn(1, 2, 8, 9), _center(9, 3))
    with pytest.raises(ShapeError, match="equal coils and sizes"):
        smooth_phase_map(complex_randn(1, 2, 8, 9), _center(9, 3), complex_randn(3, 8, 9))
    with pytest.raises(MaskError, match="fully sampled centre"):
        smooth_phase_map(complex_randn(1, 1, 8, 9), torch.arange(9) < 2)


@pytest.mark.parametrize(("num_coils", "shape"), [(1, (50, 61)), (4, (75, 48))])
def test_rows_of_the_phase_are_those_of_the_whole(num_coils: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    kspace = torch.randn(num_coils, *shape, dtype=torch.complex64, generator=generator)
    kspace[:, shape[0] // 2 + 2, shape[1] // 2 - 1] = 40
    mask = random_mask(shape[1], 2, num_low_frequencies=9, seed=0)
    masked = undersample(kspace, mask)
    maps = torch.randn(num_coils, *shape, dtype=torch.complex64, generator=generator)
    rows = torch.tensor([7, 3, 44])
    whole = smooth_phase_map(masked[None], mask, maps[None])[0]
    torch.testing.assert_close(smooth_phase_of_rows(masked, mask, maps[:, rows], rows), whole[rows], rtol=0, atol=1e-4)
    with pytest.raises(ShapeError, match="expected sens_maps .* at those rows, got"):
        smooth_phase_of_rows(masked, mask, maps, rows)

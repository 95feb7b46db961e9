from __future__ import annotations

import pytest
import torch

from mri_recon.operators.preconditioner import circulant_inverse
from mri_recon.operators.sense import SenseOperator


def _operator(coils: int, size: tuple[int, int], *, pattern: bool, image_size: tuple[int, int] | None) -> SenseOperator:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(1, coils, *size, dtype=torch.complex128, generator=generator)
    maps /= maps.abs().square().sum(dim=1, keepdim=True).sqrt()
    shape = size if pattern else size[-1:]
    return SenseOperator(torch.rand(shape, generator=generator) < 0.4, maps, image_size)


@pytest.mark.parametrize("pattern", [False, True])
@pytest.mark.parametrize("coils", [1, 3])
def test_is_the_inverse_of_the_diagonal(coils: int, pattern: bool) -> None:
    size = (5, 7)
    operator = _operator(coils, size, pattern=pattern, image_size=None)
    # A column of the DFT along the transformed axes, on one row where rows are separate problems.
    dims = operator.dims
    for place in [(0, 0), (3, 5), (4, 2)]:
        delta = torch.zeros(1, *size, dtype=torch.complex128)
        delta[0, place[0], place[1]] = 1
        wave = torch.fft.ifftn(delta, dim=dims, norm="ortho")
        entry = torch.vdot(wave.flatten(), operator.gram(wave).flatten()).real
        made = circulant_inverse(operator)(wave, torch.tensor([0.3], dtype=torch.float64))
        torch.testing.assert_close(made, wave / (entry + 0.3))


def test_one_coil_of_modulus_one_is_inverted_exactly() -> None:
    size = (6, 9)
    mask = torch.rand(9, generator=torch.Generator().manual_seed(1)) < 0.5
    operator = SenseOperator(mask, torch.ones(2, 1, *size, dtype=torch.complex128))
    x = torch.randn(2, *size, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    beta = torch.tensor([0.1, 2.0], dtype=torch.float64)
    system = operator.gram(x) + beta[:, None, None] * x
    torch.testing.assert_close(circulant_inverse(operator)(system, beta), x)


def test_is_hermitian_and_positive_with_a_padded_image_and_a_mask_for_each_item() -> None:
    operator = _operator(3, (6, 7), pattern=True, image_size=(8, 8))
    maps = operator.sens_maps.expand(2, -1, -1, -1).contiguous()
    masks = (torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(5)) < 0.5).double()
    operator = operator.with_maps(maps, (8, 8), mask=masks)
    solve = circulant_inverse(operator)
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randn(2, 6, 7, dtype=torch.complex128, generator=generator) for _ in range(2))
    x, y = operator.pad(x), operator.pad(y)
    beta = torch.tensor([0.2, 0.5], dtype=torch.float64)
    left, right = torch.vdot(x.flatten(), solve(y, beta).flatten()), torch.vdot(solve(x, beta).flatten(), y.flatten())
    torch.testing.assert_close(left, right)
    assert float(torch.vdot(x.flatten(), solve(x, beta).flatten()).real) > 0

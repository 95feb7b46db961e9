from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mri_recon.operators.preconditioner import circulant_inverse, penalised_inverse, row_block_inverse
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.problem import LinearMap
from tests.support.helpers import smooth_maps


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
        made = circulant_inverse(operator, torch.tensor([0.3], dtype=torch.float64))(wave)
        torch.testing.assert_close(made, wave / (entry + 0.3))


def test_one_coil_of_modulus_one_is_inverted_exactly() -> None:
    size = (6, 9)
    mask = torch.rand(9, generator=torch.Generator().manual_seed(1)) < 0.5
    operator = SenseOperator(mask, torch.ones(2, 1, *size, dtype=torch.complex128))
    x = torch.randn(2, *size, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    beta = torch.tensor([0.1, 2.0], dtype=torch.float64)
    system = operator.gram(x) + beta[:, None, None] * x
    torch.testing.assert_close(circulant_inverse(operator, beta)(system), x)


def test_is_hermitian_and_positive_with_a_padded_image_and_a_mask_for_each_item() -> None:
    operator = _operator(3, (6, 7), pattern=True, image_size=(8, 8))
    maps = operator.sens_maps.expand(2, -1, -1, -1).contiguous()
    masks = (torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(5)) < 0.5).double()
    operator = operator.with_maps(maps, (8, 8), mask=masks)
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randn(2, 6, 7, dtype=torch.complex128, generator=generator) for _ in range(2))
    x, y = operator.pad(x), operator.pad(y)
    _hermitian_and_positive(circulant_inverse(operator, torch.tensor([0.2, 0.5], dtype=torch.float64)), x, y)


def _hermitian_and_positive(solve: LinearMap, x: Tensor, y: Tensor) -> None:
    left, right = torch.vdot(x.flatten(), solve(y).flatten()), torch.vdot(solve(x).flatten(), y.flatten())
    torch.testing.assert_close(left, right)
    assert float(torch.vdot(x.flatten(), solve(x).flatten()).real) > 0


@pytest.mark.parametrize("size", [(11, 7), (3, 10)])
def test_rows_with_the_same_maps_are_inverted_exactly(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(6)
    row = torch.randn(2, 3, 1, size[1], dtype=torch.complex128, generator=generator)
    mask = torch.rand(size[1], generator=generator) < 0.5
    operator = SenseOperator(mask, row.expand(-1, -1, size[0], -1))
    x, y = (torch.randn(2, *size, dtype=torch.complex128, generator=generator) for _ in range(2))
    beta = torch.tensor([0.01, 0.7], dtype=torch.float64)
    solve = row_block_inverse(operator, beta)
    torch.testing.assert_close(solve(operator.gram(x) + beta[:, None, None] * x), x)
    _hermitian_and_positive(solve, x, y)
    # One item alone is computed in another way.
    alone = row_block_inverse(operator.with_maps(operator.sens_maps[1:]), beta[1:])
    torch.testing.assert_close(alone(x[1:]), solve(x)[1:])


def test_blocks_are_nearer_to_the_inverse_than_the_diagonal_where_beta_is_small() -> None:
    size = (40, 37)
    operator = SenseOperator(torch.arange(37) % 3 == 0, smooth_maps(4, *size)[None])
    x = torch.randn(1, *size, dtype=torch.complex128, generator=torch.Generator().manual_seed(7))
    beta = torch.tensor([0.01], dtype=torch.float64)
    system = operator.gram(x) + 0.01 * x
    blocks, diagonal = (
        float((make(operator, beta)(system) - x).norm() / x.norm()) for make in (row_block_inverse, circulant_inverse)
    )
    assert blocks < 0.6 * diagonal


def test_the_blocks_are_chosen_where_they_pay() -> None:
    maps = smooth_maps(4, 12, 10)[None]
    columns, pattern = torch.arange(10) % 2 == 0, (torch.arange(120) % 3 == 0).reshape(12, 10)
    x = torch.randn(1, 12, 10, dtype=torch.complex128, generator=torch.Generator().manual_seed(8))
    little, much = (torch.tensor([beta], dtype=torch.float64) for beta in (1e-3, 1.0))

    def same(operator: SenseOperator, beta: Tensor, make: Callable[[SenseOperator, Tensor], LinearMap]) -> bool:
        image = operator.pad(x)
        return torch.equal(penalised_inverse(operator, beta)(image), make(operator, beta)(image))

    assert same(SenseOperator(columns, maps), little, row_block_inverse)
    assert same(SenseOperator(columns, maps), much, circulant_inverse)
    assert same(SenseOperator(pattern, maps), little, circulant_inverse)
    assert same(SenseOperator(columns, maps, (16, 16)), little, circulant_inverse)

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.problem import real_inner
from tests.support.data_term import DataTerm
from tests.support.helpers import complex_randn, random_columns


def _term(
    shape: tuple[int, int, int, int],
    mask: Tensor,
    image_size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.complex128,
    unit: float = 1.0,
) -> tuple[SenseOperator, Tensor, SenseDataTerm]:
    maps = complex_randn(*shape, seed=1, dtype=dtype)
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    operator = SenseOperator(mask, maps, image_size)
    kspace = unit * complex_randn(*shape, seed=2, dtype=dtype) * mask
    return operator, kspace, SenseDataTerm(operator, kspace)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 2),
    coils=st.integers(1, 3),
    h=st.integers(1, 11),
    w=st.integers(1, 12),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 4)),
    pattern=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_the_operator(
    batch: int, coils: int, h: int, w: int, padding: tuple[int, int], pattern: bool, seed: int
) -> None:
    mask = random_columns(w, seed)
    if pattern:
        mask = mask & (torch.rand(h, w, generator=torch.Generator().manual_seed(seed)) < 0.7)
        mask[h // 2, w // 2] = True
    size = (h + padding[0], w + padding[1])
    operator, kspace, term = _term((batch, coils, h, w), mask, size, unit=37.0)
    scale = term.scale[:, None, None]
    y = kspace / scale[:, None]
    assert bool((term.rhs.abs().flatten(1).amax(1) < 1).all())
    assert bool((term.rhs.abs().flatten(1).amax(1) >= 0.5).all())
    u = complex_randn(batch, *size, seed=seed)
    r = y - operator.forward(u)
    torch.testing.assert_close(term.rhs, operator.adjoint(y))
    torch.testing.assert_close(term.gram(u), operator.gram(u))
    torch.testing.assert_close(term.gradient(u), operator.adjoint(r))
    found = term.residual(u)
    torch.testing.assert_close(found.gradient, operator.adjoint(r))
    torch.testing.assert_close(found.energy, (r.abs() ** 2).flatten(1).sum(1))
    torch.testing.assert_close(found.correlation, (r.conj() * y).real.flatten(1).sum(1))
    torch.testing.assert_close(term.at_zero().energy, (y.abs() ** 2).flatten(1).sum(1))
    torch.testing.assert_close(term.coverage, (operator.sens_maps.abs() ** 2).sum(1))
    assert term.norm_bound == pytest.approx(operator.norm_bound)


def test_decoupled_rows_agree_with_the_two_dimensional_path_in_single_precision() -> None:
    columns = random_columns(45)
    rows = (1, 4, 32, 45)
    _, _, decoupled = _term(rows, columns, dtype=torch.complex64)
    _, _, coupled = _term(rows, columns.expand(32, 45), dtype=torch.complex64)
    u = complex_randn(1, 32, 45, dtype=torch.complex64)
    for name in ("gram", "gradient"):
        one, two = getattr(decoupled, name)(u), getattr(coupled, name)(u)
        assert float((one - two).abs().max()) < 1e-5 * float(two.abs().max())


def test_the_scale_is_a_power_of_two_and_that_of_zeros_is_zero() -> None:
    operator, kspace, term = _term((2, 2, 6, 7), random_columns(7))
    assert bool((torch.frexp(term.scale).mantissa == 0.5).all())
    kspace[1] = 0
    term = SenseDataTerm(operator, kspace)
    assert float(term.scale[1]) == 0
    assert not bool(term.rhs[1].any())


def test_normal_leaves_earlier_results_alone() -> None:
    _, _, term = _term((1, 2, 8, 9), random_columns(9))
    u = complex_randn(1, 8, 9)
    first = term.gram(u)
    kept = first.clone()
    term.gram(2 * u)
    term.residual(3 * u)
    assert torch.equal(first, kept)


def test_generic_data_term() -> None:
    matrix, y = complex_randn(5, 7), complex_randn(2, 5, seed=1)
    term = DataTerm(lambda x: x @ matrix.T, lambda r: r @ matrix.conj(), y)
    x = complex_randn(2, 7, seed=2)
    r = y - x @ matrix.T
    torch.testing.assert_close(term.gradient(x), r @ matrix.conj())
    found = term.residual(x)
    torch.testing.assert_close(found.gradient, r @ matrix.conj())
    torch.testing.assert_close(found.energy, (r.abs() ** 2).sum(1))
    torch.testing.assert_close(found.correlation, (r.conj() * y).real.sum(1))
    torch.testing.assert_close(term.at_zero().correlation, (y.abs() ** 2).sum(1))


def test_real_inner_is_accurate_in_single_precision() -> None:
    a, b = complex_randn(2, 300, 400, dtype=torch.complex64), complex_randn(2, 300, 400, seed=1, dtype=torch.complex64)
    exact = (a.to(torch.complex128).conj() * b.to(torch.complex128)).real.flatten(1).sum(1)
    bound = (a.abs() * b.abs()).double().flatten(1).sum(1)
    assert bool(((real_inner(a, b) - exact).abs() < 1e-6 * bound).all())
    assert real_inner(a.real, b.real).dtype == torch.float64


def test_k_space_of_another_scan() -> None:
    operator, kspace, _ = _term((1, 2, 8, 9), random_columns(9))
    with pytest.raises(ShapeError, match="the maps belong to another scan"):
        SenseDataTerm(operator, kspace[..., :8])
    with pytest.raises(ShapeError, match="the maps belong to another scan"):
        SenseDataTerm(operator, kspace[0])

from __future__ import annotations

import pytest
import torch

from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.operators.virtual_coils import of_virtual_coils, with_virtual_coils
from tests.support.helpers import assert_adjoint, complex_randn, random_columns, smooth_maps


@pytest.mark.parametrize("coils", [8, 12])
@pytest.mark.parametrize("image_size", [None, (48, 52)])
def test_virtual_coils_give_nearly_the_gradient_and_exactly_the_residual(
    coils: int, image_size: tuple[int, int] | None
) -> None:
    maps = smooth_maps(coils, 45, 50).expand(2, coils, 45, 50)
    operator = SenseOperator(random_columns(50), maps, image_size)
    exact = SenseDataTerm(operator, complex_randn(2, coils, 45, 50) * random_columns(50))
    reduced = with_virtual_coils(exact)
    assert type(reduced).__name__ == "_ReducedDataTerm"
    u, near = complex_randn(2, *operator.image_size), 1e-3 * complex_randn(2, *operator.image_size, seed=1)
    torch.testing.assert_close(reduced.at_zero().gradient, exact.rhs)
    error = (reduced.gradient(u) - exact.gradient(u)).flatten(1).norm(dim=1)
    # ||E|| <= 0.005; far above rounding, or nothing was left out.
    assert bool((error <= 0.005 * u.flatten(1).norm(dim=1)).all())
    assert bool((error >= 1e-6 * u.flatten(1).norm(dim=1)).all())
    found, truth = reduced.residual(u), exact.residual(u)
    assert torch.equal(found.gradient, truth.gradient)
    assert torch.equal(found.energy, truth.energy)
    torch.testing.assert_close(reduced.gradient(u), truth.gradient)
    error = (reduced.gradient(u + near) - exact.gradient(u + near)).flatten(1).norm(dim=1)
    assert bool((error <= 0.005 * near.flatten(1).norm(dim=1)).all())


def test_no_virtual_coils_where_nothing_is_gained() -> None:
    for mask, maps in (
        (random_columns(36), smooth_maps(3, 31, 36)),  # few coils
        (random_columns(36).repeat(31, 1), smooth_maps(8, 31, 36)),  # rows are coupled
        (random_columns(36), complex_randn(8, 31, 36)),  # maps that do not compress
    ):
        term = SenseDataTerm(SenseOperator(mask, maps), complex_randn(1, *maps.shape) * mask)
        assert with_virtual_coils(term) is term


@pytest.mark.parametrize("left_out", [0.005, 0.05])
def test_few_coils_stay_adjoint_and_within_their_bound(left_out: float) -> None:
    maps, mask = smooth_maps(8, 45, 50)[None], random_columns(50)
    operator = SenseOperator(mask, maps)
    few = of_virtual_coils(operator, left_out)
    coils = few.sens_maps.shape[1]
    assert 1 < coils < 8
    assert_adjoint(few.forward, few.adjoint, complex_randn(1, 45, 50), complex_randn(1, coils, 45, 50, seed=1))
    x = complex_randn(1, 45, 50, seed=2)
    assert (few.gram(x) - operator.gram(x)).norm() <= left_out * operator.norm_bound * x.norm()


def test_virtual_coils_of_a_slice_do_not_depend_on_its_neighbours() -> None:
    smooth, smoother = smooth_maps(8, 45, 50)[None], smooth_maps(2, 45, 50).repeat(4, 1, 1)[None]
    mask = random_columns(50)
    x = complex_randn(2, 45, 50)
    both = of_virtual_coils(SenseOperator(mask, torch.cat([smooth, smoother])), 0.02)
    for item, maps in enumerate((smooth, smoother)):
        alone = of_virtual_coils(SenseOperator(mask, maps), 0.02)
        torch.testing.assert_close(alone.gram(x[item : item + 1]), both.gram(x)[item : item + 1])
    assert both.sens_maps.shape[1] < 8

"""The properties that every linear map has: adjoint, Gram, norm, gradient, types, views, scale, independent items."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.helpers import assert_adjoint, complex_randn
from tests.support.linear_maps import LinearMapCase, linear_maps

DOUBLE, SINGLE = linear_maps(), linear_maps(torch.complex64)

every_map = pytest.mark.parametrize("case", DOUBLE.values(), ids=list(DOUBLE))


def _x(case: LinearMapCase, seed: int = 1) -> Tensor:
    return complex_randn(case.items, *case.x_shape, seed=seed)


def _y(case: LinearMapCase, seed: int = 2) -> Tensor:
    return case.range_of(complex_randn(case.items, *case.y_shape, seed=seed))


@every_map
def test_adjoint(case: LinearMapCase) -> None:
    assert_adjoint(case.forward, case.adjoint, _x(case), _y(case), rtol=max(1e-10, case.tolerance))


@pytest.mark.parametrize("name", [name for name, case in DOUBLE.items() if case.gram is not None])
def test_gram(name: str) -> None:
    case = DOUBLE[name]
    assert case.gram is not None
    x, z = _x(case), _x(case, seed=3)
    expected = case.adjoint(case.forward(x))
    torch.testing.assert_close(case.gram(x), expected, rtol=1e-9, atol=100 * case.tolerance)
    assert_adjoint(case.gram, case.gram, x, z)


@every_map
def test_norm(case: LinearMapCase) -> None:
    x = _x(case)
    ratio = float(case.forward(x).norm() / x.norm())
    assert ratio <= case.norm * (1 + 1e-9)
    if case.isometry:
        assert ratio == pytest.approx(1, rel=1e-9)
        torch.testing.assert_close(case.adjoint(case.forward(x)), x, rtol=0, atol=max(1e-12, case.tolerance))


@pytest.mark.parametrize("name", [name for name, case in DOUBLE.items() if case.differentiable])
def test_gradient(name: str) -> None:
    """The gradient of Re <w, A x> is A^H w, and that of Re <w, A^H y> is A w."""
    case = DOUBLE[name]
    for forward, adjoint, at, weight in (
        (case.forward, case.adjoint, _x(case), _y(case)),
        (case.adjoint, lambda x: case.range_of(case.forward(x)), _y(case), _x(case)),
    ):
        leaf = at.clone().requires_grad_()
        (weight.conj() * forward(leaf)).real.sum().backward()
        assert leaf.grad is not None
        gradient = case.range_of(leaf.grad) if leaf.grad.shape == _y(case).shape else leaf.grad
        torch.testing.assert_close(gradient, adjoint(weight), rtol=1e-9, atol=max(1e-10, case.tolerance))


@pytest.mark.parametrize("name", DOUBLE)
def test_single_precision(name: str) -> None:
    case, single = DOUBLE[name], SINGLE[name]
    for double, function, at in (
        (case.forward, single.forward, _x(case)),
        (case.adjoint, single.adjoint, _y(case)),
    ):
        expected, found = double(at), function(at.to(torch.complex64))
        assert found.dtype == torch.complex64
        assert (found - expected).abs().max() <= 3e-5 * expected.abs().max()


@every_map
def test_views_in_another_order_and_the_input_is_kept(case: LinearMapCase) -> None:
    for function, at in ((case.forward, _x(case)), (case.adjoint, _y(case))):
        expected = function(at)
        for view in (at.mT.contiguous().mT, at.conj().resolve_conj().conj()):
            before = view.clone()
            torch.testing.assert_close(function(view), expected, rtol=1e-12, atol=1e-12)
            assert torch.equal(view, before)


@every_map
def test_linear_and_exact_in_powers_of_two(case: LinearMapCase) -> None:
    x, z = _x(case), _x(case, seed=3)
    torch.testing.assert_close(case.forward(2.0**30 * x), 2.0**30 * case.forward(x), rtol=0, atol=0)
    mixed = case.forward((2 + 1j) * x + z)
    torch.testing.assert_close(mixed, (2 + 1j) * case.forward(x) + case.forward(z), rtol=1e-9, atol=1e-9)


@every_map
def test_items_do_not_mix(case: LinearMapCase) -> None:
    """What changes one item changes no other."""
    for function, at in ((case.forward, _x(case)), (case.adjoint, _y(case))):
        changed = at.clone()
        changed[0] = 0
        torch.testing.assert_close(function(changed)[1:], function(at)[1:], rtol=1e-12, atol=1e-12)
        assert not function(changed)[0].any()

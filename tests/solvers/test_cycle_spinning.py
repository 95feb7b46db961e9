from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError
from mri_recon.solvers.cycle_spinning import cycle_spinning
from mri_recon.solvers.problem import Solution
from mri_recon.solvers.shrinkage import soft_threshold
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon.transforms.wavelets import WaveletTransform
from tests.support.helpers import column_lines, complex_randn, phantom

SIZE = (12, 20)


def _lines() -> Tensor:
    return torch.from_numpy(column_lines(SIZE[1]))


def _normal(x: Tensor) -> Tensor:
    return ifft2c(_lines() * fft2c(x))


def _plain(b: Tensor, lam: float, magnitude: str, step: float, iterations: int) -> Tensor:
    """The equation of the docstring for one item, without restarts carried any other way than written."""
    transform = WaveletTransform("db2", 2, SIZE)
    generator = np.random.default_rng(0)
    x = x_old = torch.zeros_like(b)
    t, beta = 1.0, 0.0
    for _ in range(iterations):
        z = x + beta * (x - x_old)
        rows, columns = generator.integers(0, 4, size=2)
        v = torch.roll(z + step * (b - _normal(z)), (int(rows), int(columns)), (0, 1))
        c = transform.forward(v)
        if magnitude == "parts":
            c = torch.complex(soft_threshold(c.real, step * lam), soft_threshold(c.imag, step * lam))
        else:
            c = soft_threshold(c, step * lam)
        x_old, x = x, torch.roll(transform.inverse(c), (-int(rows), -int(columns)), (0, 1))
        if float((torch.view_as_real(z - x) * torch.view_as_real(x - x_old)).sum()) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        beta, t = (t - 1) / t_next, t_next
    return x


@pytest.mark.parametrize("magnitude", ["complex", "parts"])
def test_equals_the_equation_item_by_item(magnitude: str) -> None:
    b = _normal(torch.stack([phantom(*SIZE), complex_randn(*SIZE)]))
    lam = torch.tensor([0.02, 0.2], dtype=torch.float64)
    transform = WaveletTransform("db2", 2, SIZE)
    options: dict[str, Any] = {"separate_parts": magnitude == "parts", "step": 0.9, "max_iters": 23}
    solution = cycle_spinning(_normal, b, transform, lam, **options)
    for item in range(2):
        reference = _plain(b[item], float(lam[item]), magnitude, 0.9, 23)
        torch.testing.assert_close(solution.x[item], reference)
    assert solution.relative_gap is None
    assert solution.iterations.tolist() == [23, 23]
    assert solution.history["change"].shape == (23, 2)
    torch.testing.assert_close(solution.history["change"][-1], solution.last("change"))


def test_the_shifts_are_the_same_every_time() -> None:
    b, transform, lam = _normal(phantom(*SIZE)[None]), WaveletTransform("haar", 2, SIZE), torch.tensor([0.1])
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    state = torch.get_rng_state()
    first, again = (cycle_spinning(_normal, b, transform, lam, max_iters=9).x for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_types_and_real_images() -> None:
    transform, lam = WaveletTransform("haar", 2, SIZE), torch.tensor([0.1])
    for dtype in (torch.float32, torch.complex64, torch.complex128):
        x = torch.ones(1, *SIZE, dtype=dtype)
        results = [
            cycle_spinning(lambda v: v, x, transform, lam, max_iters=3, separate_parts=separate).x
            for separate in (False, True)
        ]
        assert results[0].dtype == dtype
        torch.testing.assert_close(results[0], results[1])
    zero = cycle_spinning(lambda v: v, torch.zeros(1, *SIZE), transform, lam, max_iters=3)
    assert not zero.x.any()
    assert zero.last("change").tolist() == [0]


def test_errors_name_the_cure() -> None:
    b, transform, lam = complex_randn(2, *SIZE), WaveletTransform("haar", 2, SIZE), torch.ones(2)

    def call(**options: Any) -> Solution:
        arguments = {"normal": _normal, "rhs": b, "transform": transform, "reg_weight": lam} | options
        return cycle_spinning(**arguments)

    for options in ({"step": 0.0}, {"max_iters": 0}):
        with pytest.raises(MethodError, match="expected step > 0"):
            call(**options)
    for rhs in (b[0], b[:, :8]):
        with pytest.raises(ShapeError, match="pad it, or build the transform"):
            call(rhs=rhs)
    with pytest.raises(ShapeError, match=r"expected reg_weight \(2,\), one an item"):
        call(reg_weight=torch.tensor(1.0))
    for bad in (torch.zeros(2), torch.tensor([1.0, torch.inf])):
        with pytest.raises(MethodError, match="without a penalty use conjugate gradients"):
            call(reg_weight=bad)

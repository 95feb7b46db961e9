from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError
from mri_recon.operators.preconditioner import circulant_inverse
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.admm import admm
from mri_recon.solvers.problem import LinearMap, Solution
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from tests.support.helpers import complex_randn, phantom, smooth_maps


def _lines(width: int) -> Tensor:
    lines = torch.arange(width) % 3 == 0
    lines[width // 2 - 1 : width // 2 + 2] = True
    return lines


def _problem(coils: int, size: tuple[int, int], items: int = 1, seed: int = 0) -> tuple[SenseOperator, Tensor]:
    maps = smooth_maps(coils, *size) if coils > 1 else torch.ones(1, *size, dtype=torch.complex128)
    operator = SenseOperator(_lines(size[1]), maps.expand(items, -1, -1, -1))
    noise = complex_randn(items, coils, *size, seed=seed)
    return operator, operator.forward(phantom(*size).expand(items, -1, -1)) + 0.1 * _lines(size[1]) * noise


def _dense(function: Any, size: tuple[int, int]) -> np.ndarray:
    """The matrix of a linear map of images, column by column."""
    basis = torch.eye(size[0] * size[1], dtype=torch.complex128).reshape(-1, *size)
    return function(basis).reshape(len(basis), -1).T.numpy()


def _magnitudes(c: np.ndarray, magnitude: str, coupled: bool) -> np.ndarray:
    """Magnitudes `(part, group, pixel)` of bands `(band, pixel)`, broadcastable to their parts."""
    parts = np.stack([c.real, c.imag])
    if magnitude == "complex":
        parts = np.sqrt((parts**2).sum(0, keepdims=True))
    return np.sqrt((parts**2).sum(1, keepdims=True)) if coupled else np.abs(parts)


def _objective(
    x: np.ndarray, a: np.ndarray, y: np.ndarray, d: np.ndarray, w: np.ndarray, magnitude: str, coupled: bool
) -> float:
    c = (d @ x).reshape(len(w), -1)
    return float(
        0.5 * (np.abs(a @ x - y) ** 2).sum()
        + (_magnitudes(c, magnitude, coupled) * (w[:1] if coupled else w)[None, :, None]).sum()
    )


def _chambolle_pock(
    a: np.ndarray, y: np.ndarray, d: np.ndarray, w: np.ndarray, magnitude: str, coupled: bool, iterations: int = 5000
) -> float:
    """Objective after a long run of the primal-dual method, with dense matrices in double precision."""
    norm = np.sqrt(np.linalg.norm(a, 2) ** 2 + np.linalg.norm(d, 2) ** 2)
    tau, sigma = 1 / norm, 1 / norm
    x = np.zeros(a.shape[1], complex)
    average, p, q = x, np.zeros(len(y), complex), np.zeros(len(d), complex)
    bound = (w[:1] if coupled else w)[None, :, None]
    for _ in range(iterations):
        p = (p + sigma * (a @ average - y)) / (1 + sigma)
        q = (q + sigma * (d @ average)).reshape(len(w), -1)
        factor = bound / np.maximum(_magnitudes(q, magnitude, coupled), bound)
        parts = np.stack([q.real, q.imag]) * factor
        q = (parts[0] + 1j * parts[1]).ravel()
        x_new = x - tau * (a.conj().T @ p + d.conj().T @ q)
        average, x = 2 * x_new - x, x_new
    return _objective(x, a, y, d, w, magnitude, coupled)


def _exact_solve(a: np.ndarray, d: np.ndarray) -> Any:
    """`(r, beta) -> (H + beta D^H D)^-1 r` of dense matrices."""
    h, gram = (torch.from_numpy(m.conj().T @ m) for m in (a, d))

    def solve(r: Tensor, beta: Tensor) -> Tensor:
        system = (h + beta[:, None, None] * gram).to(r.dtype)
        return torch.linalg.solve(system, r.flatten(1)).reshape(r.shape)

    return solve


def _transform(name: str, size: tuple[int, int]) -> StationaryWaveletTransform | PeriodicGradient:
    return PeriodicGradient(size) if name == "tv" else StationaryWaveletTransform(2, size, name)


@pytest.mark.parametrize(("coils", "size"), [(1, (9, 6)), (3, (6, 11))])
@pytest.mark.parametrize(
    ("name", "magnitude", "coupled"),
    [("haar", "complex", False), ("haar", "parts", False), ("tv", "complex", True), ("tv", "parts", True),
     ("tv", "complex", False)],
)  # fmt: skip
def test_reaches_the_minimum(coils: int, size: tuple[int, int], name: str, magnitude: str, coupled: bool) -> None:
    operator, y = _problem(coils, size)
    transform = _transform(name, size)
    w = np.linspace(1, 2, transform.num_bands)
    if coupled:
        w[:] = w[0]
    b = operator.adjoint(y)
    lam = 0.05 * b.abs().amax(dim=(1, 2))
    a, d = _dense(lambda x: operator.forward(x[:, None][:, 0]), size), _dense(transform.forward, size)
    solve = _exact_solve(a, d) if coils == 1 else None
    solution = admm(
        operator.gram, b, transform, lam, weights=torch.from_numpy(w), separate_parts=magnitude == "parts",
        coupled=coupled, solve=solve, tol=1e-6, max_iters=3000,
    )  # fmt: skip
    assert solution.converged.all()
    assert solution.relative_gap is None
    flat, data = solution.x.flatten().numpy(), y.flatten().numpy()
    reached = _objective(flat, a, data, d, float(lam) * w, magnitude, coupled)
    best = _chambolle_pock(a, data, d, float(lam) * w, magnitude, coupled)
    assert abs(reached / best - 1) < 1e-5
    assert float(solution.last("objective")) == pytest.approx(reached - 0.5 * float(y.abs().square().sum()), rel=1e-9)
    # Away from it by more than the tolerance: the comparison can fail.
    assert _objective(1.02 * flat, a, data, d, float(lam) * w, magnitude, coupled) > best * (1 + 2e-5)


def _certified(
    relative: float, magnitude: str, gap_tol: float, max_iters: int, check_every: int, dual_steps: int = 8
) -> Solution:
    size = (12, 15)
    operator, y = _problem(1, size, items=2)
    b, transform = operator.adjoint(y), StationaryWaveletTransform(2, size)
    lam = relative * b.abs().amax(dim=(1, 2))
    return admm(
        operator.gram, b, transform, lam, separate_parts=magnitude == "parts",
        projection=True, tol=0, gap_tol=gap_tol, max_iters=max_iters, check_every=check_every, dual_steps=dual_steps,
    )  # fmt: skip


@pytest.mark.parametrize("magnitude", ["complex", "parts"])
@pytest.mark.parametrize("relative", [1e-3, 0.03, 0.3, 0.9])
def test_gap_bounds_the_suboptimality_at_every_check(relative: float, magnitude: str) -> None:
    best = _certified(relative, magnitude, gap_tol=1e-6, max_iters=5000, check_every=20)
    assert best.converged.all()
    half = 0.5 * _problem(1, (12, 15), items=2)[1].abs().square().sum(dim=(1, 2, 3))
    solution = _certified(relative, magnitude, gap_tol=0, max_iters=60, check_every=1)
    excess = (solution.history["objective"] + half) / (best.last("objective") + half) - 1
    gap = solution.history["relative_gap"]
    assert bool((excess <= gap + 1e-12).all())
    assert bool((excess >= -1e-6).all())
    assert gap.shape == (60, 2)
    assert float(gap[-1].max()) < float(gap[0].max())


def test_the_search_for_a_dual_point_certifies_earlier() -> None:
    found = _certified(0.03, "parts", gap_tol=1e-2, max_iters=500, check_every=5)
    unsearched = _certified(0.03, "parts", gap_tol=1e-2, max_iters=500, check_every=5, dual_steps=0)
    assert found.converged.all()
    assert unsearched.converged.all()
    assert bool((found.iterations <= 0.6 * unsearched.iterations).all())


@pytest.mark.parametrize("gap_tol", [1e-2, 1e-4])
def test_the_gap_of_a_search_bounds_the_suboptimality(gap_tol: float) -> None:
    best = _certified(0.03, "complex", gap_tol=1e-7, max_iters=5000, check_every=20)
    half = 0.5 * _problem(1, (12, 15), items=2)[1].abs().square().sum(dim=(1, 2, 3))
    solution = _certified(0.03, "complex", gap_tol=gap_tol, max_iters=500, check_every=5)
    assert solution.converged.all()
    excess = (solution.history["objective"] + half) / (best.last("objective") + half) - 1
    assert bool((excess <= solution.history["relative_gap"] + 1e-12).all())


def test_a_search_does_not_depend_on_its_neighbours() -> None:
    size = (12, 15)
    operator, y = _problem(1, size, items=2)
    b, transform = operator.adjoint(y), StationaryWaveletTransform(2, size)
    lam = torch.tensor([0.3, 0.01])
    options: Any = {"projection": True, "tol": 0, "gap_tol": 1e-2, "max_iters": 500, "check_every": 1}
    together = admm(operator.gram, b, transform, lam, **options)
    assert len(set(together.iterations.tolist())) == 2
    for i in range(2):
        alone = admm(_problem(1, size)[0].gram, b[i : i + 1], transform, lam[i : i + 1], **options)
        assert int(alone.iterations) == int(together.iterations[i])
        torch.testing.assert_close(alone.last("relative_gap")[0], together.last("relative_gap")[i], rtol=1e-4, atol=0)


def test_exact_and_inner_solutions_agree() -> None:
    operator, y = _problem(1, (9, 14))
    b, transform, lam = operator.adjoint(y), StationaryWaveletTransform(2, (9, 14)), torch.tensor([0.02])
    solve = _exact_solve(_dense(operator.gram, (9, 14)), _dense(transform.forward, (9, 14)))
    exact = admm(operator.gram, b, transform, lam, solve=solve, tol=1e-7, max_iters=5000)
    inner = admm(operator.gram, b, transform, lam, tol=1e-7, max_iters=5000)
    assert exact.converged.all()
    assert inner.converged.all()
    torch.testing.assert_close(exact.x, inner.x, rtol=0, atol=1e-5)


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    operator, y = _problem(3, (9, 14), items=3)
    b, transform = operator.adjoint(y), StationaryWaveletTransform(2, (9, 14))
    lam = torch.tensor([0.3, 0.05, 0.01])
    together = admm(operator.gram, b, transform, lam, max_iters=400, tol=1e-3)
    assert len(set(together.iterations.tolist())) > 1
    for i in range(3):
        alone = admm(_problem(3, (9, 14))[0].gram, b[i : i + 1], transform, lam[i : i + 1], max_iters=400, tol=1e-3)
        torch.testing.assert_close(alone.x[0], together.x[i])
        assert int(alone.iterations) == int(together.iterations[i])
        assert float(alone.last("objective")) == pytest.approx(float(together.last("objective")[i]))
        assert float(alone.last("dual_residual")) == pytest.approx(float(together.last("dual_residual")[i]), rel=1e-6)


def test_units_types_and_history() -> None:
    operator, y = _problem(1, (9, 14))
    b, transform, lam = operator.adjoint(y), StationaryWaveletTransform(2, (9, 14)), torch.tensor([0.02])
    solve = _exact_solve(_dense(operator.gram, (9, 14)), _dense(transform.forward, (9, 14)))
    options: dict[str, Any] = {"solve": solve, "tol": 0, "max_iters": 25}
    one = admm(operator.gram, b, transform, lam, **options)
    large = admm(operator.gram, 2.0**20 * b, transform, 2.0**20 * lam, **options)
    torch.testing.assert_close(large.x, 2.0**20 * one.x)
    torch.testing.assert_close(large.last("objective"), 2.0**40 * one.last("objective"))
    assert one.history["iteration"].tolist() == [10, 20, 25]
    assert one.history["objective"].shape == (3, 1)
    assert one.iterations.tolist() == [25]
    assert not one.converged.any()
    single = admm(operator.gram, b.to(torch.complex64), transform, lam, **options)
    assert single.x.dtype == torch.complex64
    assert single.last("objective").dtype == torch.float64
    torch.testing.assert_close(single.x, one.x.to(torch.complex64), rtol=0, atol=1e-5)
    again = admm(operator.gram, b, transform, lam, start=one.x, **options)
    assert float(again.last("objective")) < float(one.last("objective"))


def test_real_images() -> None:
    x = phantom(9, 14).abs()[None]
    transform, lam = StationaryWaveletTransform(2, (9, 14)), torch.tensor([0.1])
    parts, modulus = (
        admm(lambda v: v, x, transform, lam, separate_parts=separate, tol=1e-6) for separate in (True, False)
    )
    assert parts.x.dtype == torch.float64
    torch.testing.assert_close(parts.x, modulus.x)


def test_nothing_is_nothing() -> None:
    transform = StationaryWaveletTransform(2, (9, 14))
    solution = admm(lambda x: x, torch.zeros(2, 9, 14), transform, torch.ones(2))
    assert not solution.x.any()
    assert solution.converged.all()


def test_errors_name_the_cure() -> None:
    b, transform, lam = complex_randn(2, 9, 14), StationaryWaveletTransform(2, (9, 14)), torch.ones(2)

    def call(**options: Any) -> Solution:
        arguments = {"normal": lambda x: x, "rhs": b, "transform": transform, "reg_weight": lam} | options
        return admm(**arguments)

    for options in ({"tol": -1.0}, {"gap_tol": -1.0}, {"max_iters": 0}, {"check_every": 0}):
        with pytest.raises(MethodError, match="expected tol, gap_tol and change_tol >= 0"):
            call(**options)
    with pytest.raises(MethodError, match="relaxation between 0 and 2, got 2"):
        call(relaxation=2.0)
    with pytest.raises(ShapeError, match=r"one image is rhs\[None\]"):
        call(rhs=b[0])
    with pytest.raises(ShapeError, match=r"reg_weight \(2,\), one an item"):
        call(reg_weight=torch.tensor(1.0))
    with pytest.raises(MethodError, match="reg_weight positive and finite"):
        call(reg_weight=torch.tensor([1.0, torch.nan]))
    with pytest.raises(ShapeError, match="like the right-hand side"):
        call(start=b[:1])
    with pytest.raises(ShapeError, match=r"expected weights \(7,\), got \(3,\): give one weight a band"):
        call(weights=torch.ones(3))
    with pytest.raises(MethodError, match="weights that are not negative"):
        call(weights=-torch.ones(7))


def test_preconditioned_inner_solves_reach_the_same_minimum_sooner() -> None:
    operator, y = _problem(3, (17, 22))
    b, transform, lam = operator.adjoint(y), StationaryWaveletTransform(3, (17, 22)), torch.tensor([0.02])
    best = admm(operator.gram, b, transform, lam, tol=1e-9, max_iters=20000)
    near = partial(circulant_inverse, operator)
    options: dict[str, Any] = {"tol": 0, "max_iters": 40}
    plain = admm(operator.gram, b, transform, lam, **options)
    conditioned = admm(operator.gram, b, transform, lam, precondition=near, **options)
    exact = float(best.last("objective"))
    assert -1e-9 <= float(conditioned.last("objective")) - exact < float(plain.last("objective")) - exact
    long = admm(operator.gram, b, transform, lam, precondition=near, tol=1e-8, max_iters=20000)
    torch.testing.assert_close(long.x, best.x, rtol=0, atol=1e-5)


def test_stops_once_an_iteration_changes_little() -> None:
    operator, y = _problem(3, (17, 22), items=2)
    b, transform = operator.adjoint(y), StationaryWaveletTransform(3, (17, 22))
    lam = torch.tensor([0.1, 0.005])
    found = admm(operator.gram, b, transform, lam, tol=0, change_tol=1e-3, check_every=1, max_iters=2000)
    change = found.history["change"]
    for item, iterations in enumerate(found.iterations.tolist()):
        assert bool((change[: iterations - 1, item] > 1e-3).all())
        assert float(change[iterations - 1, item]) <= 1e-3
    assert found.converged.all()


def test_a_cheaper_map_in_the_inner_steps_leaves_the_minimum_where_it_is() -> None:
    operator, y = _problem(3, (17, 22))
    b, transform, lam = operator.adjoint(y), StationaryWaveletTransform(3, (17, 22)), torch.tensor([0.2])
    best = admm(operator.gram, b, transform, lam, tol=1e-6, max_iters=5000)

    def cheaper(beta: Tensor) -> LinearMap:
        return lambda x: (1 - min(0.5, 0.4 * float(beta))) * operator.gram(x)

    found = admm(operator.gram, b, transform, lam, cheaper=cheaper, tol=1e-6, max_iters=3000)
    assert found.converged.all()
    torch.testing.assert_close(found.x, best.x, rtol=0, atol=1e-4)
    # Without the correction, between two checks, it is another minimum.
    other = admm(operator.gram, b, transform, lam, cheaper=cheaper, tol=0, max_iters=500, check_every=5000)
    assert float((other.x - best.x).abs().max()) > 1e-3


def test_the_threshold_sets_the_speed_and_not_the_minimum() -> None:
    operator, y = _problem(2, (9, 14), items=2)
    b, transform = operator.adjoint(y), StationaryWaveletTransform(2, (9, 14))
    lam, options = torch.tensor([0.02, 0.05]), {"tol": 1e-6, "max_iters": 5000}
    own = admm(operator.gram, b, transform, lam, **options)
    other = admm(operator.gram, b, transform, lam, threshold=torch.tensor([0.1, 0.03]), **options)
    assert own.iterations.tolist() != other.iterations.tolist()
    torch.testing.assert_close(own.x, other.x, rtol=0, atol=1e-4)

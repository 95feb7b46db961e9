from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError
from mri_recon.solvers.conjugate_gradient import conjugate_gradient
from mri_recon.solvers.fista import fista
from mri_recon.solvers.problem import Residual
from mri_recon.solvers.shrinkage import parts_modulus, soft_threshold
from tests.support.data_term import DataTerm
from tests.support.helpers import complex_randn


def _problem(
    batch: int, rows: int, columns: int, seed: int, dtype: torch.dtype = torch.complex128
) -> tuple[Tensor, Tensor]:
    """Random matrices of norm 1 and data, one problem an item."""
    matrix = complex_randn(batch, rows, columns, seed=seed, dtype=dtype)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None]
    return matrix, complex_randn(batch, rows, seed=seed + 1, dtype=dtype)


def _maps(matrix: Tensor):  # type: ignore[no-untyped-def]
    return (lambda x: torch.einsum("bij,bj->bi", matrix, x)), (lambda y: torch.einsum("bij,bi->bj", matrix.conj(), y))


def _term(matrix: Tensor, y: Tensor) -> DataTerm:
    return DataTerm(*_maps(matrix), y)


def _largest(matrix: Tensor, y: Tensor) -> Tensor:
    return _maps(matrix)[1](y).abs().amax(1).double()


def test_soft_threshold_shrinks_the_magnitude_and_keeps_the_phase() -> None:
    x = torch.tensor([3 + 4j, 0.3 + 0.4j, 0, -2j], dtype=torch.complex128)
    torch.testing.assert_close(soft_threshold(x, 1.0), torch.tensor([2.4 + 3.2j, 0, 0, -1j], dtype=torch.complex128))
    real = torch.tensor([-3.0, 0.5, 2.0])
    torch.testing.assert_close(soft_threshold(real, 1.0), torch.tensor([-2.0, 0.0, 1.0]))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), threshold=st.floats(0.01, 2))
def test_soft_threshold_is_the_proximal_map(seed: int, threshold: float) -> None:
    v = complex_randn(7, seed=seed)
    x = soft_threshold(v, threshold)

    def objective(z: Tensor) -> float:
        return float(0.5 * (z - v).abs().square().sum() + threshold * z.abs().sum())

    best = objective(x)
    for k in range(5):
        assert best <= objective(x + 0.1 * complex_randn(7, seed=seed + k + 1)) + 1e-12


def test_orthonormal_problem_has_a_closed_form() -> None:
    q = torch.linalg.qr(complex_randn(9, 9))[0][None]
    y, lam = complex_randn(1, 9, seed=1), torch.tensor([0.4])
    solution = fista(_term(q, y), lam, gap_tol=1e-12)
    torch.testing.assert_close(solution.x, soft_threshold(_maps(q)[1](y), 0.4))
    assert solution.converged.all()
    assert int(solution.iterations) <= 3


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 9999),
    relative=st.floats(1e-2, 0.9),
    rows=st.integers(2, 9),
    columns=st.integers(2, 12),
)
def test_gap_bounds_the_suboptimality_from_the_first_iteration(
    seed: int, relative: float, rows: int, columns: int
) -> None:
    matrix, y = _problem(2, rows, columns, seed)
    lam = relative * _largest(matrix, y)
    best = fista(_term(matrix, y), lam, gap_tol=1e-9, max_iters=20000)
    assert best.converged.all()
    solution = fista(_term(matrix, y), lam, gap_tol=1e-5, max_iters=500)
    objective, gap = solution.history["objective"], solution.history["relative_gap"]
    assert objective.shape == gap.shape
    # gap = (P - D) / D with D <= P*, so (P - P*) / P* <= gap.
    excess = objective / best.last("objective") - 1
    assert bool((excess <= gap + 1e-12).all())


def test_optimality_conditions_hold() -> None:
    matrix, y = _problem(1, 8, 12, 5)
    lam = 0.1 * _largest(matrix, y)
    solution = fista(_term(matrix, y), lam, gap_tol=1e-13, max_iters=50000)
    g = _term(matrix, y).gradient(solution.x)[0]
    x = solution.x[0]
    support = x.abs() > 1e-6
    assert 0 < int(support.sum()) < 12
    torch.testing.assert_close(g[support], lam * x[support] / x[support].abs(), rtol=1e-4, atol=1e-5)
    assert float(g.abs().max()) <= float(lam) * (1 + 1e-5)


def test_an_iteration_costs_one_gradient_and_a_check_takes_its_place() -> None:
    matrix, y = _problem(1, 8, 12, 5)
    calls = {"gradient": 0, "residual": 0}

    class Counted(DataTerm):
        def gradient(self, x: Tensor) -> Tensor:
            calls["gradient"] += 1
            return super().gradient(x)

        def residual(self, x: Tensor) -> Residual:
            calls["residual"] += 1
            return super().residual(x)

    lam = 0.1 * _largest(matrix, y)
    solution = fista(Counted(*_maps(matrix), y), lam, gap_tol=0, max_iters=17, check_every=5)
    assert int(solution.iterations) == 17
    assert calls == {"gradient": 13, "residual": 4}
    assert not solution.converged.any()
    assert solution.history["iteration"].flatten().tolist() == [0, 5, 10, 15, 17]
    every = fista(_term(matrix, y), lam, gap_tol=0, max_iters=17)
    torch.testing.assert_close(solution.x, every.x)
    torch.testing.assert_close(solution.history["objective"], every.history["objective"][[0, 5, 10, 15, 17]])


def test_complex_numbers_as_two_planes_have_the_same_solution() -> None:
    matrix, y = _problem(2, 8, 12, 3)
    forward, adjoint = _maps(matrix)

    def join(x: Tensor) -> Tensor:
        return torch.complex(x[:, 0], x[:, 1])

    def split(x: Tensor) -> Tensor:
        return torch.stack((x.real, x.imag), dim=1)

    lam = 0.05 * _largest(matrix, y)
    planes = fista(
        DataTerm(lambda x: split(forward(join(x))), lambda r: split(adjoint(join(r))), split(y)),
        lam,
        magnitude=parts_modulus,
        gap_tol=1e-6,
        max_iters=5000,
    )
    whole = fista(_term(matrix, y), lam, gap_tol=1e-6, max_iters=5000)
    torch.testing.assert_close(join(planes.x), whole.x)
    torch.testing.assert_close(planes.relative_gap, whole.relative_gap)
    # By parts it is another problem, and the gap bounds that one.
    parts = DataTerm(lambda x: split(forward(join(x))), lambda r: split(adjoint(join(r))), split(y))
    separate = fista(parts, lam, gap_tol=1e-6, max_iters=5000)
    assert separate.converged.all()
    assert not torch.allclose(join(separate.x), whole.x, atol=1e-4)
    gradient = parts.gradient(separate.x)
    assert bool((gradient.abs().flatten(1).amax(1) <= lam * (1 + 1e-4)).all())


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    matrix, y = _problem(3, 6, 10, 7)
    lam = torch.tensor([0.5, 0.05, 0.01]) * _largest(matrix, y)
    together = fista(_term(matrix, y), lam, gap_tol=1e-4, max_iters=5000)
    assert len(set(together.iterations.tolist())) == 3
    for b in range(3):
        alone = fista(_term(matrix[b : b + 1], y[b : b + 1]), lam[b : b + 1], gap_tol=1e-4, max_iters=5000)
        assert int(alone.iterations) == int(together.iterations[b])
        torch.testing.assert_close(alone.x[0], together.x[b])
        assert float(together.relative_gap[b]) == pytest.approx(float(alone.relative_gap[0]), rel=1e-6)


def test_a_weight_above_the_largest_gradient_gives_zero_at_once() -> None:
    matrix, y = _problem(1, 6, 10, 7)
    solution = fista(_term(matrix, y), 1.01 * _largest(matrix, y))
    assert not solution.x.any()
    assert int(solution.iterations) == 0
    assert float(solution.relative_gap) == pytest.approx(0, abs=1e-12)


def test_real_and_single_precision_data() -> None:
    matrix = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    matrix /= torch.linalg.matrix_norm(matrix, 2)[:, None, None]
    y = torch.randn(1, 5, generator=torch.Generator().manual_seed(1))
    solution = fista(_term(matrix, y), 0.05 * _largest(matrix, y), gap_tol=1e-4, max_iters=3000)
    assert solution.x.dtype == torch.float32
    assert solution.last("objective").dtype == torch.float64
    assert solution.converged.all()


def test_conjugate_gradient_solves_a_batch() -> None:
    a = complex_randn(3, 9, 9)
    h = a @ a.mH + 0.1 * torch.eye(9, dtype=torch.complex128)
    b = complex_randn(3, 9, seed=1)
    solution = conjugate_gradient(lambda x: torch.einsum("bij,bj->bi", h, x), b, tol=1e-10, max_iters=200)
    assert solution.converged.all()
    torch.testing.assert_close(solution.x, torch.linalg.solve(h, b), rtol=1e-6, atol=1e-8)
    assert solution.history["relative_residual"].shape[0] == int(solution.iterations.max()) + 1


def test_conjugate_gradient_freezes_solved_items() -> None:
    scale = torch.tensor([1.0, 1.0], dtype=torch.float64)[:, None]
    diagonal = torch.stack([torch.ones(6), torch.linspace(0.1, 5, 6)]).double()
    b = torch.stack([torch.ones(6), torch.arange(1.0, 7)]).double() * scale
    solution = conjugate_gradient(lambda x: diagonal * x, b, tol=1e-9)
    assert solution.iterations.tolist()[0] == 1
    assert solution.iterations.tolist()[1] > 1
    torch.testing.assert_close(solution.x, b / diagonal)


def test_conjugate_gradient_of_nothing_is_nothing() -> None:
    solution = conjugate_gradient(lambda x: x, torch.zeros(2, 5))
    assert not solution.x.any()
    assert solution.converged.all()
    limited = conjugate_gradient(lambda x: x * torch.linspace(1, 9, 5), torch.ones(1, 5), tol=0, max_iters=2)
    assert int(limited.iterations) == 2
    assert not limited.converged.any()


def test_errors_name_the_cure() -> None:
    matrix, y = _problem(2, 4, 5, 0)
    term = _term(matrix, y)
    for bad in (torch.zeros(2), torch.tensor([1.0, float("nan")]), torch.tensor([-1.0, 1.0])):
        with pytest.raises(MethodError, match="without a penalty use conjugate gradients"):
            fista(term, bad)
    with pytest.raises(ShapeError, match="expand it to that shape"):
        fista(term, torch.tensor(1.0))
    for options in ({"step": 0.0}, {"gap_tol": -1.0}, {"gap_tol": float("nan")}, {"max_iters": 0}, {"check_every": 0}):
        with pytest.raises(MethodError, match="expected step > 0"):
            fista(term, torch.ones(2), **options)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="expected tol >= 0"):
        conjugate_gradient(lambda x: x, y, max_iters=0)

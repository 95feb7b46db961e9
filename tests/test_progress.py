from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import Cancelled, MriReconError
from mri_recon.io.scan import make_scan
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods.table import get_method, method_options
from mri_recon.progress import Progress, ScanProgress
from mri_recon.reconstruction import reconstruct
from mri_recon.results.comparison import compare
from mri_recon.solvers.admm import admm
from mri_recon.solvers.conjugate_gradient import conjugate_gradient
from mri_recon.solvers.cycle_spinning import cycle_spinning
from mri_recon.solvers.fista import fista
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.fourier import fft2c
from mri_recon.transforms.wavelets import WaveletTransform
from tests.support.data_term import DataTerm
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.methods import BUILT_IN, add_method
from tests.support.networks import tiny_weights

SHAPES = [(1, 1, 21, 26), (3, 1, 16, 19), (2, 3, 24, 22)]
CS_PRIORS = ["stationary", "orthonormal", "stationary-synthesis", "cycle-spinning", "tv"]
METHODS = [("zero-filled", {}), ("cg-sense", {}), *(("cs-wavelet", {"prior": prior}) for prior in CS_PRIORS)]


def _masked(*shape: int) -> tuple[Tensor, ColumnMask]:
    slices, coils, h, w = shape
    maps = smooth_maps(coils, h, w) if coils > 1 else torch.ones(1, h, w)
    brightness = torch.linspace(1, 2, slices)[:, None, None, None]
    kspace = fft2c(brightness * maps * phantom(h, w)) + 0.01 * complex_randn(*shape)
    mask = random_mask(w, 2, num_low_frequencies=8, seed=1)
    return undersample(kspace.to(torch.complex64), mask), mask


class _Stop(Exception):
    """Somebody's own reason to stop."""


def _told(kspace: Tensor, mask: ColumnMask, method: str, **options: Any) -> tuple[list[Progress], Any]:
    seen: list[Progress] = []
    return seen, reconstruct(kspace, mask, method=method, on_progress=seen.append, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_progress_ends_where_info_says_and_changes_no_bit(
    method: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    kspace, mask = _masked(*shape)
    options = options | ({"max_iters": 25} if method == "cs-wavelet" else {})
    plain = reconstruct(kspace, mask, method=method, **options)
    seen, result = _told(kspace, mask, method, **options)
    assert torch.equal(result.image, plain.image)
    assert {k: v for k, v in result.info.items() if k != "seconds"} == {
        k: v for k, v in plain.info.items() if k != "seconds"
    }
    assert seen[0] == Progress(method, "prepare", 0, None)
    assert {one.method for one in seen} == {method}
    stages = ["prepare"] + (["maps"] if shape[1] > 1 else []) + ["iterate"]
    if method == "zero-filled":
        stages = ["prepare"]
    assert [stage for stage, _ in itertools.groupby(one.stage for one in seen)] == stages
    steps = [one for one in seen if one.stage == "iterate"]
    assert all(a.iteration <= b.iteration <= a.iteration + 1 for a, b in itertools.pairwise(steps))
    fractions = [one.iteration / one.total for one in steps if one.total]
    assert len(fractions) == len(steps)
    assert fractions == sorted(fractions)
    shares = [one.fraction for one in steps]
    assert shares == sorted(shares)
    if steps:
        assert shares[-1] == 1
        assert 0 < shares[0] <= 1
        per_slice = result.info.get("per_slice", {}).get("iterations", [result.info["iterations"]])
        assert steps[-1].iteration == steps[-1].total == sum(per_slice)
        assert steps[-1].objective == result.info.get("objective")
        assert steps[-1].relative_gap == result.info.get("relative_gap")


@pytest.mark.parametrize("prior", ["stationary", "orthonormal"])
def test_objective_while_it_works_is_that_of_the_problem(prior: str) -> None:
    """At iteration k it is what a run of k iterations ends with; between the checks the last known one stands."""
    kspace, mask = _masked(1, 1, 21, 26)
    options = {"prior": prior, "gap_tol": 0.0}
    seen, _ = _told(kspace, mask, "cs-wavelet", max_iters=30, **options)
    short = reconstruct(kspace, mask, method="cs-wavelet", max_iters=20, **options).info
    at = {one.iteration: one for one in seen if one.stage == "iterate"}
    first = next(k for k, one in at.items() if one.objective is not None)
    assert 1 < first <= 10
    assert at[first - 1].objective is None
    assert at[20].objective == pytest.approx(short["objective"], rel=1e-4)
    assert at[20].relative_gap == pytest.approx(short["relative_gap"], rel=1e-6)
    assert at[21].objective == at[20].objective


@pytest.mark.parametrize("architecture", ["unet", "unrolled"])
def test_networks_tell_of_every_slice(architecture: str, tmp_path: Any) -> None:
    model = tiny_weights(architecture, tmp_path)
    kspace, mask = _masked(3, 1, 16, 19)
    seen, result = _told(kspace, mask, architecture, model=model)
    assert torch.equal(result.image, reconstruct(kspace, mask, method=architecture, model=model).image)
    assert seen == [
        Progress(architecture, "prepare", 0, None),
        *(Progress(architecture, "network", n, 3) for n in range(4)),
    ]
    several, mask = _masked(2, 3, 24, 22)
    assert [(p.stage, p.iteration) for p in _told(several, mask, architecture, model=model)[0]][:3] == [
        ("prepare", 0),
        ("maps", 0),
        ("network", 0),
    ]


@pytest.mark.parametrize("error", [Cancelled("enough"), _Stop("enough"), KeyboardInterrupt()])
@pytest.mark.parametrize(("method", "options"), METHODS[1:])
def test_what_the_callback_raises_stops_within_one_iteration(
    method: str, options: dict[str, Any], error: BaseException
) -> None:
    kspace, mask = _masked(2, 3, 24, 22)
    seen: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        if progress.iteration == 4:
            raise error

    with pytest.raises(type(error)) as caught:
        reconstruct(kspace, mask, method=method, on_progress=on_progress, **options)
    assert caught.value is error
    assert [one.iteration for one in seen if one.stage == "iterate"] == [1, 2, 3, 4]


def test_a_network_stops_between_slices(tmp_path: Any) -> None:
    kspace, mask = _masked(3, 1, 16, 19)
    seen: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        if progress.iteration == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct(kspace, mask, method="unet", model=tiny_weights("unet", tmp_path), on_progress=on_progress)
    assert [one.iteration for one in seen] == [0, 0, 1]


def test_cancelled_is_of_the_family() -> None:
    assert issubclass(Cancelled, MriReconError)


def test_a_comparison_tells_of_every_method_in_turn() -> None:
    kspace, _ = _masked(1, 1, 21, 26)
    scan = make_scan(kspace.numpy(), name="k", meta={})
    mask = random_mask(26, 2, num_low_frequencies=8, seed=1)
    seen: list[Progress] = []
    names = ["zero-filled", "cs-wavelet", "cg-sense"]
    compare(scan, mask, names, options={"cs-wavelet": {"max_iters": 3}}, on_progress=seen.append)
    assert [name for name, _ in itertools.groupby(one.method for one in seen)] == names


def test_the_callback_is_no_option_of_a_method() -> None:
    for method in BUILT_IN:
        assert "on_progress" not in method_options(method)


@pytest.mark.parametrize(("takes", "expected"), [("kspace, mask, *, sens_maps", 1), ("kspace, mask, **options", 1)])
def test_a_method_without_the_keyword_works(takes: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def f({takes}):\n    return kspace[:, 0], {{'given': sorted(locals())}}", namespace)
    add_method(monkeypatch, "foreign", namespace["f"])
    kspace, mask = _masked(1, 1, 16, 19)
    seen, result = _told(kspace, mask, "foreign")
    assert seen == [Progress("foreign", "prepare", 0, None)]
    assert len(seen) == expected
    assert "on_progress" not in result.info["given"]


def test_methods_called_alone_take_it_too() -> None:
    kspace, mask = _masked(1, 1, 21, 26)
    seen: list[Progress] = []
    get_method("cs-wavelet")(kspace, mask, max_iters=3, on_progress=seen.append)
    assert [one.iteration for one in seen] == [1, 2, 3, 3]


def test_solvers_call_after_every_iteration() -> None:
    calls: list[tuple[int, bool, bool]] = []

    def note(iteration: int, objective: Tensor | None, gap: Tensor | None) -> None:
        calls.append((iteration, objective is not None, gap is not None))

    x = complex_randn(2, 8, 8)
    half = lambda u: 0.5 * u  # noqa: E731
    lam = torch.full((2,), 0.01)
    term = DataTerm(half, half, x)
    solved = fista(term, lam, gap_tol=0, max_iters=4, check_every=3, on_iteration=note)
    assert calls == [(1, False, False), (2, False, False), (3, True, True), (4, True, True)]
    plain = fista(term, lam, gap_tol=0, max_iters=4, check_every=3)
    assert torch.equal(solved.x, plain.x)
    calls.clear()
    found = conjugate_gradient(lambda u: u + half(u.roll(1, -1) + u.roll(-1, -1)), x, max_iters=3, on_iteration=note)
    assert calls == [(n, False, False) for n in range(1, int(found.iterations.max()) + 1)]
    calls.clear()
    gradient = PeriodicGradient((8, 8))
    admm(half, 0.5 * x, gradient, lam, coupled=True, tol=0, max_iters=3, check_every=2, on_iteration=note)
    assert calls == [(1, False, False), (2, True, False), (3, True, False)]
    calls.clear()
    cycle_spinning(half, x, WaveletTransform("haar", 2, (8, 8)), lam, max_iters=2, on_iteration=note)
    assert calls == [(1, False, False), (2, False, False)]


def test_scan_progress_adds_up_over_parts() -> None:
    seen: list[Progress] = []
    told = ScanProgress(seen.append, "m", num_parts=2, max_iters=10)
    number = lambda *values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    told.update(0, 1, None, None)
    told.update(0, 2, number(5.0), number(np.inf))
    told.update(0, None, number(4.0), number(0.2))
    told.update(1, 1, number(1.0), number(0.1))
    told.update(1, None, number(0.5), number(0.1))
    assert [(p.iteration, p.total, p.objective, p.relative_gap, p.fraction) for p in seen] == [
        (1, 20, None, None, pytest.approx(0.05)),
        (2, 20, 5.0, None, pytest.approx(0.1)),
        (2, 12, 4.0, 0.2, pytest.approx(0.5)),
        (3, 12, 5.0, 0.2, pytest.approx(0.55)),
        (3, 3, 4.5, 0.2, 1),
    ]

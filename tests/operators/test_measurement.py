from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.models import Measurement, concatenate, measure
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import KSPACE_SHAPES, assert_adjoint, column_lines, complex_randn


def _mask(kind: str, h: int, w: int, seed: int = 0) -> Tensor:
    if kind == "columns":
        return torch.from_numpy(column_lines(w, seed=seed))
    if kind == "columns of rank 4":
        return torch.from_numpy(column_lines(w, seed=seed))[None, None, None]
    return torch.from_numpy(np.random.default_rng(seed).random((h, w)) < 0.4)


def _problem(kind: str, shape: tuple[int, ...], seed: int = 0) -> tuple[SenseOperator, Measurement, Tensor]:
    """The library's operator, the measurement of its k-space of an image, and the k-space."""
    slices, _, h, w = shape
    maps = complex_randn(*shape, seed=seed + 1) * 0.5
    operator = SenseOperator(_mask(kind, h, w, seed), maps)
    kspace = operator.forward(complex_randn(slices, h, w, seed=seed))
    return operator, measure(kspace, _mask(kind, h, w, seed), maps), kspace


KINDS = ["columns", "columns of rank 4", "pattern"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", KSPACE_SHAPES)
def test_normal_and_adjoint_are_those_of_the_operator(kind: str, shape: tuple[int, ...]) -> None:
    operator, measurement, kspace = _problem(kind, shape)
    assert measurement.dims == ((-2, -1) if kind == "pattern" else (-1,))
    torch.testing.assert_close(measurement.adjoint(), operator.adjoint(kspace), rtol=1e-12, atol=1e-12)
    x = complex_randn(shape[0], *shape[2:], seed=7)
    torch.testing.assert_close(measurement.gram(x), operator.gram(x), rtol=1e-12, atol=1e-12)
    # The samples of an image are laid out as those of the k-space are.
    assert_adjoint(
        measurement.operator.sample, lambda y: replace(measurement, samples=y).adjoint(), x, measurement.samples
    )
    of_kspace = measure(operator.forward(x), _mask(kind, *shape[2:]), operator.sens_maps).samples
    torch.testing.assert_close(measurement.operator.sample(x), of_kspace, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
def test_a_band_of_rows_is_the_rows_of_the_whole(shape: tuple[int, ...]) -> None:
    _, measurement, _ = _problem("columns", shape)
    x = complex_randn(shape[0], *shape[2:], seed=7)
    for rows in (slice(0, 1), slice(3, 11), slice(0, shape[2])):
        band = measurement.rows(rows)
        torch.testing.assert_close(band.adjoint(), measurement.adjoint()[:, rows], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(band.gram(x[:, rows]), measurement.gram(x)[:, rows], rtol=1e-12, atol=1e-12)


def test_rows_of_a_pattern_are_coupled() -> None:
    _, measurement, _ = _problem("pattern", (1, 2, 9, 8))
    with pytest.raises(ShapeError, match="expected a mask of columns, got one that couples the rows: take the whole"):
        measurement.rows(slice(0, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_items_of_a_batch(kind: str) -> None:
    _, measurement, _ = _problem(kind, (3, 2, 7, 10))
    parts = measurement.split()
    x = complex_randn(3, 7, 10, seed=7)
    torch.testing.assert_close(torch.cat([part.adjoint() for part in parts]), measurement.adjoint())
    normal = torch.cat([part.gram(x[i : i + 1]) for i, part in enumerate(parts)])
    torch.testing.assert_close(normal, measurement.gram(x))


def test_items_with_masks_of_their_own() -> None:
    masks = torch.stack([_mask("columns", 7, 10, seed) for seed in (0, 1, 2)])[:, None, None]
    maps, x = complex_randn(3, 2, 7, 10, seed=1), complex_randn(3, 7, 10, seed=2)
    kspace = complex_randn(3, 2, 7, 10) * masks
    parts = measure(kspace, masks, maps).split()
    for i, part in enumerate(parts):
        alone = measure(kspace[i : i + 1], masks[i, 0, 0], maps[i : i + 1])
        torch.testing.assert_close(part.adjoint(), alone.adjoint())
        torch.testing.assert_close(part.gram(x[i : i + 1]), alone.gram(x[i : i + 1]))


def test_scaling_divides_the_samples_alone() -> None:
    _, measurement, _ = _problem("columns", (2, 3, 5, 8))
    scaled = measurement.scaled(torch.tensor([2.0, 4.0], dtype=torch.float64)[:, None, None])
    torch.testing.assert_close(scaled.adjoint() * torch.tensor([[[2.0]], [[4.0]]]), measurement.adjoint())
    x = complex_randn(2, 5, 8, seed=7)
    assert torch.equal(scaled.gram(x), measurement.gram(x))


def test_other_maps_see_the_same_samples() -> None:
    operator, measurement, kspace = _problem("pattern", (2, 3, 5, 8))
    maps = complex_randn(2, 3, 5, 8, seed=9)
    other = measurement.with_maps(maps)
    torch.testing.assert_close(other.adjoint(), operator.with_maps(maps).adjoint(kspace))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_precision_is_that_of_the_kspace(dtype: torch.dtype) -> None:
    kspace = complex_randn(1, 2, 5, 8, dtype=dtype)
    measurement = measure(kspace, torch.ones(8, dtype=torch.bool), complex_randn(1, 2, 5, 8, seed=1, dtype=dtype))
    assert measurement.samples.dtype == measurement.adjoint().dtype == dtype
    assert measurement.gram(kspace[:, 0]).dtype == dtype
    assert measurement.mask.dtype == kspace.real.dtype
    moved = measurement.to(torch.device("cpu"))
    assert torch.equal(moved.adjoint(), measurement.adjoint())
    assert moved.dims == measurement.dims


def test_maps_that_do_not_fit() -> None:
    kspace = complex_randn(1, 2, 5, 8)
    with pytest.raises(ShapeError, match=r"expected maps \(1, 2, 5, 8\) like the k-space, got \(2, 5, 8\)"):
        measure(kspace, torch.ones(8, dtype=torch.bool), kspace[0])


@pytest.mark.parametrize("kind", KINDS)
def test_measurements_together_are_each_by_itself(kind: str) -> None:
    parts = [_problem(kind, (n, 2, 9, 12), seed=n)[1] for n in (1, 2)]
    whole = concatenate(parts)
    assert whole.samples.shape[0] == 3
    x = complex_randn(3, 9, 12)
    torch.testing.assert_close(whole.gram(x), torch.cat([parts[0].gram(x[:1]), parts[1].gram(x[1:])]))
    again = concatenate(whole.split())
    torch.testing.assert_close(again.operator.sample(x), whole.operator.sample(x))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("columns", (1, 2, 9, 12)), ("pattern", (1, 2, 9, 12))),
        (("columns", (1, 2, 9, 12)), ("columns", (1, 3, 9, 12))),
    ],
)
def test_measurements_that_do_not_go_together(first: tuple[str, tuple[int, ...]], second: Any) -> None:
    with pytest.raises(ShapeError, match="expected measurements of one size with masks of one kind, got"):
        concatenate([_problem(*first)[1], _problem(*second)[1]])
    with pytest.raises(ShapeError, match="expected measurements of one size"):
        concatenate([])

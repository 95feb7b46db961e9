"""The certificate as a user meets it: over shapes, coils, priors and weights, from the first iteration on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mri_recon.errors import MethodError
from mri_recon.masks.draw import random_mask
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.methods.priors import PRIORS, choose_prior
from mri_recon.operators.sense import SenseOperator
from mri_recon.transforms.fourier import fft2c
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from mri_recon.transforms.wavelets import WaveletTransform
from tests.support.helpers import complex_randn, phantom, smooth_maps

SHAPES = [(1, 33, 40), (3, 31, 36), (8, 24, 27)]


def _case(coils: int, h: int, w: int) -> tuple[Tensor, Any, Tensor | None]:
    maps = smooth_maps(coils, h, w) if coils > 1 else torch.ones(1, h, w, dtype=torch.complex128)
    mask = random_mask(w, 2.5, num_low_frequencies=5, seed=2)
    kspace = (fft2c(maps * phantom(h, w)) + 0.02 * complex_randn(coils, h, w)) * mask.tensor()
    return kspace[None], mask, maps if coils > 1 else None


def _largest_weight(kspace: Tensor, mask: Any, maps: Tensor | None, prior: str) -> float:
    """lambda from which on the solution is 0, for the modulus: `max |W A^H y|`."""
    size = (kspace.shape[-2], kspace.shape[-1])
    chosen = choose_prior(prior, phase="none", wavelet=None, levels=None, size=size)
    operator = SenseOperator(mask.tensor(), torch.ones_like(kspace[0]) if maps is None else maps, chosen.size)
    image = operator.adjoint(kspace)
    if prior == "orthonormal":
        coefficients = WaveletTransform(str(chosen.wavelet), int(chosen.levels or 0), chosen.size).forward(image)
    else:
        coefficients = StationaryWaveletTransform(int(chosen.levels or 0), chosen.size).forward(image)
    return float(coefficients.abs().max())


@pytest.mark.parametrize("relative", [1e-3, 0.03, 0.5])
@pytest.mark.parametrize(
    ("prior", "phase", "shape"),
    [
        *(("orthonormal", "none", shape) for shape in SHAPES),
        ("orthonormal", "center", SHAPES[1]),
        *(("stationary-synthesis", "none", shape) for shape in SHAPES),
        ("stationary", "center", SHAPES[0]),  # several coils have no certificate in the analysis form
        ("stationary", "none", SHAPES[0]),
    ],
)
def test_the_gap_bounds_the_suboptimality_from_the_first_iteration_on(
    prior: str, phase: str, shape: tuple[int, int, int], relative: float
) -> None:
    kspace, mask, maps = _case(*shape)
    options: dict[str, Any] = {
        "prior": prior,
        "phase": phase,
        "reg_weight": relative,
        "sigma": _largest_weight(kspace, mask, maps, prior),
    }
    _, best = cs_wavelet(kspace, mask, maps, gap_tol=1e-3, max_iters=600, **options)
    assert best["relative_gap"] < 0.1
    gaps = []
    for count in (1, 2, 7, 40):
        _, info = cs_wavelet(kspace, mask, maps, gap_tol=0, max_iters=count, **options)
        assert info["iterations"] == count or prior == "stationary"  # ADMM also stops at small residuals
        excess = info["objective"] / best["objective"] - 1
        assert -best["relative_gap"] - 1e-9 <= excess <= info["relative_gap"] + best["relative_gap"] + 1e-9
        gaps.append(info["relative_gap"])
    assert gaps[-1] < gaps[0]


def test_automatic_weights_by_number_of_coils() -> None:
    for prior in PRIORS.values():
        assert 0 < prior.default_weight(1) < 10
        assert prior.default_weight(2) == prior.default_weight(32)


def test_the_choices_of_a_prior() -> None:
    prior = choose_prior("stationary", phase="auto", wavelet=None, levels=None, size=(9, 200))
    assert (prior.wavelet, prior.levels, prior.size) == ("haar", 3, (9, 200))
    assert prior.separate_parts
    assert prior.phase == "center"
    prior = choose_prior("orthonormal", phase="auto", wavelet="db2", levels=3, size=(15, 20))
    assert (prior.wavelet, prior.levels, prior.size) == ("db2", 3, (16, 24))
    assert not prior.separate_parts
    assert prior.phase == "none"
    with pytest.raises(MethodError, match="expected wavelet levels between 1 and 5"):
        choose_prior("orthonormal", phase="auto", wavelet=None, levels=6, size=(15, 20))

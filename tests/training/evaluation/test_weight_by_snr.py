"""The rule of the weight, its estimate of the SNR, and the rows it adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mri_recon.io import Scan
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.results.comparison import compare
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.simulation.kspace import coil_maps, complex_noise
from mri_recon_training.evaluation.averages import CLASSICAL
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.sources import Source
from mri_recon_training.evaluation.weight_by_snr import (
    RULES,
    WeightRule,
    options_by_snr,
    rows_by_snr,
    undersampled_snr,
)
from tests.support.evaluations import small_scan

SHAPE = (48, 62)


def _scan(snr: float, *, coils: int = 3) -> Scan:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    image = torch.from_numpy((y**2 + x**2 < 0.6).astype(np.float32))
    maps = torch.from_numpy(coil_maps(coils, SHAPE, rng))
    kspace = fft2c(maps * image + complex_noise((coils, *SHAPE), rng, sigma=1 / snr))[None]
    return replace(
        small_scan(0),
        samples=kspace.to(torch.complex64).numpy(),
        reference=image[None].numpy(),
        support=np.ones(SHAPE[1], dtype=bool),
        recon_size=SHAPE,
    )


def test_the_rule() -> None:
    rule = WeightRule("cg-sense", 0.03, -2.0, 0.5)
    assert rule(40, 4) == 0.03
    assert rule(80, 4) == pytest.approx(0.03 / 4)
    assert rule(40, 16) == pytest.approx(0.06)
    assert rule(1e9, 4) == 1e-4
    assert rule(1e-9, 4) == 1


def test_rules_are_classical_methods_under_names_of_their_own() -> None:
    assert set(RULES) < set(CLASSICAL)
    assert all(name == f"{rule.method} by SNR" for name, rule in RULES.items())
    assert all(rule.snr_power < 0 for rule in RULES.values()), "less noise asks for a smaller weight"


@pytest.mark.parametrize("snr", [10.0, 40.0])
def test_the_snr_of_an_undersampled_scan(snr: float) -> None:
    """Aliasing darkens the object: the estimate is of the right size, and in proportion."""
    scan, mask = _scan(snr), random_mask(SHAPE[1], 4, seed=2)
    found = undersampled_snr(undersample(scan.kspace, mask), mask)
    assert found == pytest.approx(snr, rel=0.4)
    scaled = undersampled_snr(undersample(1e6 * scan.kspace, mask), mask)
    assert scaled == pytest.approx(found, rel=1e-4)


def test_without_noise_or_with_one_coil_there_is_no_rule() -> None:
    mask = random_mask(SHAPE[1], 4)
    zeros = torch.zeros(1, 2, *SHAPE, dtype=torch.complex64)
    assert undersampled_snr(zeros, mask) is None
    assert options_by_snr(_scan(20, coils=1), mask, 4) == {}
    assert options_by_snr(replace(_scan(20), samples=zeros.numpy()), mask, 4) == {}


def test_rows_are_those_of_compare_with_that_weight() -> None:
    scan, mask = _scan(20), random_mask(SHAPE[1], 4, seed=2)
    snr = undersampled_snr(undersample(scan.kspace, mask), mask)
    assert snr is not None
    weight = RULES["cg-sense by SNR"](snr, 4)
    (row,) = rows_by_snr(scan, mask, 4, methods=["zero-filled", "cg-sense"], file="f")
    (expected,) = compare(scan, mask, ["cg-sense"], options={"cg-sense": {"reg_weight": weight}}).rows
    assert (row["method"], row["file"], row["psnr"]) == ("cg-sense by SNR", "f", expected["psnr"])
    assert row["info"]["reg_weight"] == weight
    assert rows_by_snr(scan, mask, 4, methods=["cg-sense"], options={"cg-sense": {"reg_weight": 0.1}}) == []


def test_an_evaluation_has_them_where_there_are_several_coils() -> None:
    sources = [Source(str(coils), "anna", lambda n=coils: _scan(20, coils=n)) for coils in (1, 3)]  # type: ignore[misc]
    evaluation = evaluate_scans(sources, Masks([4]), split="train", methods=["zero-filled", "cg-sense"])
    assert [(row["file"], row["method"]) for row in evaluation.rows] == [
        ("1", "zero-filled"), ("1", "cg-sense"), ("3", "zero-filled"), ("3", "cg-sense"), ("3", "cg-sense by SNR"),
    ]  # fmt: skip

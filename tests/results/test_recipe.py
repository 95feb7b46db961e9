"""Recipes: one description of a reconstruction gives the same image and provenance on every way to it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mri_recon as mr
from mri_recon.errors import FormatError, MaskError, MethodError, OutputError
from mri_recon.io import load_result
from mri_recon.results.comparison import compare_recipes
from mri_recon.results.provenance import Provenance, input_file
from mri_recon.results.recipe import (
    MaskChoice,
    Recipe,
    load_scan,
    reconstruct_file,
    run_batch,
    run_recipe,
    source_record,
)
from mri_recon.results.replay import recipe_of, replay
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.networks import tiny_weights

DRAWN = MaskChoice(acceleration=2, num_low_frequencies=6, seed=3)


def _kspace(scale: float = 1.0) -> Any:
    kspace = fft2c(scale * torch.tensor([1.0, 2.0])[:, None, None, None] * smooth_maps(3, 25, 30) * phantom(25, 30))
    return (kspace + 0.01 * complex_randn(2, 3, 25, 30)).to(torch.complex64).numpy()


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    np.save(tmp_path / "scan.npy", _kspace())
    return tmp_path / "scan.npy"


def test_a_recipe_is_the_steps_in_python(scan_file: Path) -> None:
    recipe = Recipe("cg-sense", {"reg_weight": 0.01}, DRAWN, num_virtual_coils=2, slices=1)
    scan = load_scan(scan_file, recipe)
    assert scan.meta["slices"] == [1]
    run = run_recipe(scan, recipe, source=source_record(scan_file, recipe, scan))
    mask = mr.random_mask(30, 2, num_low_frequencies=6, seed=3, support=scan.support)
    assert run.mask == mask
    expected = mr.reconstruct(
        mr.undersample(scan.kspace, mask), mask, method="cg-sense", num_virtual_coils=2, reg_weight=0.01
    )
    assert torch.equal(run.reconstruction.image, expected.image)
    assert run.provenance is not None
    assert (run.provenance.method, run.provenance.options) == ("cg-sense", {"reg_weight": 0.01})
    assert (run.provenance.num_virtual_coils, run.provenance.input.slices) == (2, (1, 2))


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe("unet").method = "unrolled"  # type: ignore[misc]


@pytest.mark.parametrize("whiten", ["edge", "file", "array", None])
def test_what_is_recorded_of_pre_whitening(whiten: str | None, scan_file: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(3, 50, 2)).astype(np.float32).view(np.complex64)[..., 0]
    noise_file = scan_file.with_name("noise.npy")
    np.save(noise_file, samples)
    prewhiten: Any = {"edge": "edge", "file": noise_file, "array": samples, None: None}[whiten]
    recipe = Recipe("zero-filled", mask=DRAWN, prewhiten=prewhiten)
    run = run_recipe(mr.load(scan_file), recipe, source=input_file(scan_file))
    assert run_recipe(mr.load(scan_file), recipe).provenance is None
    assert ("prewhiten" in run.reconstruction.info.get("preparation", {})) == (whiten is not None)
    if whiten == "array":  # no file to find it in again
        assert run.provenance is None
        return
    assert run.provenance is not None
    assert run.provenance.prewhiten == {"edge": "edge", "file": "samples", None: None}[whiten]
    assert (run.provenance.noise is not None) == (whiten == "file")


def test_a_file_is_reconstructed_and_its_provenance_is_the_recipe(scan_file: Path, tmp_path: Path) -> None:
    recipe = Recipe("cs-wavelet", {"max_iters": 3}, DRAWN, axes="slice coil readout phase", slices=(0, 2), device="cpu")
    run = reconstruct_file(scan_file, recipe, tmp_path / "out.h5")
    assert run.left_out == ""
    assert run.scan.num_slices == 2
    _, text = load_result(tmp_path / "out.h5")
    record = Provenance.model_validate_json(text or "")
    assert record == run.provenance
    assert recipe_of(record) == replace(recipe, mask=run.mask)
    assert replay(tmp_path / "out.h5", scan_file).identical
    assert "phase" in reconstruct_file(scan_file, recipe, tmp_path / "out.png").left_out


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "magic"}, MethodError, "got 'magic'"),
        ({"options": {"x": 1}}, MethodError, "got 'x'"),
        ({"mask": MaskChoice()}, MaskError, "got a fully sampled scan and neither"),
        ({"mask": mr.random_mask(31, 2)}, MaskError, "31"),
        ({"prewhiten": Path("no-noise.npy")}, FormatError, "no-noise.npy"),
        ({"prewhiten": "egde"}, MethodError, "egde"),
        ({"slices": 7}, FormatError, "7"),
        ({"axes": "coil phase"}, FormatError, "axes"),
    ],
)
def test_recipes_that_cannot_be(
    change: dict[str, Any], error: type[Exception], message: str, scan_file: Path, tmp_path: Path
) -> None:
    recipe = replace(Recipe("zero-filled", mask=DRAWN), **change)
    with pytest.raises(error, match=message):
        reconstruct_file(scan_file, recipe, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_an_output_that_cannot_hold_the_image_is_found_before_the_work(scan_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected"):
        reconstruct_file(scan_file, Recipe("zero-filled", mask=DRAWN), tmp_path / "out.txt")


def test_a_batch_is_what_each_recipe_gives_alone(tmp_path: Path) -> None:
    weights = str(tiny_weights("unet", tmp_path))
    scans, recipes, sources = [], [], []
    for seed in range(2):
        np.save(tmp_path / f"{seed}.npy", _kspace(1 + seed))
        recipes.append(Recipe("unet", {"model": weights}, replace(DRAWN, seed=seed)))
        scans.append(load_scan(tmp_path / f"{seed}.npy", recipes[-1]))
        sources.append(input_file(tmp_path / f"{seed}.npy"))
    assert run_batch([], []) == []
    assert [run.provenance for run in run_batch(scans, recipes)] == [None, None]
    for run, scan, recipe, source in zip(
        run_batch(scans, recipes, sources=sources), scans, recipes, sources, strict=True
    ):
        alone = run_recipe(scan, recipe).reconstruction.image
        assert (run.reconstruction.image - alone).abs().max() <= 1e-5 * alone.abs().max()
        assert run.provenance is not None
        assert run.provenance.batched
        assert run.provenance.input == source
        assert run.mask.receipt()["seed"] == run.provenance.seed == recipe.mask.seed  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "unrolled"}, "expected recipes of one method"),
        ({"options": {"data_consistency": "exact"}}, "expected recipes of one method"),
        ({"device": "cpu"}, "expected recipes of one method"),
        ({"num_virtual_coils": 2}, "expected recipes without pre-whitening"),
        ({"prewhiten": "edge"}, "expected recipes without pre-whitening"),
        ({"check": "holdout"}, "expected recipes without pre-whitening, compression and check"),
    ],
)
def test_recipes_that_make_no_batch(change: dict[str, Any], message: str, scan_file: Path) -> None:
    recipe = Recipe("unet", mask=DRAWN)
    with pytest.raises(MethodError, match=message):
        run_batch([mr.load(scan_file)] * 2, [recipe, replace(recipe, **change)])


def test_a_comparison_of_recipes_records_each_method(scan_file: Path) -> None:
    recipes = [Recipe("zero-filled", mask=DRAWN), Recipe("cg-sense", {"maps": "center"}, MaskChoice(acceleration=9))]
    scan = mr.load(scan_file)
    known = compare_recipes(scan, recipes, source=input_file(scan_file))
    assert {name: record.options for name, record in known.provenance.items()} == {
        "zero-filled": {},
        "cg-sense": {"maps": "center"},
    }
    document = known.document()
    assert set(document) == {"convention", "mask", "results", "provenance"}
    assert {record["mask"]["receipt"]["seed"] for record in document["provenance"].values()} == {3}, "one mask for all"
    assert set(compare_recipes(scan, recipes).document()) == {"convention", "mask", "results"}
    assert set(mr.compare(scan, known.mask, ["zero-filled"]).document()) == {"convention", "mask", "results"}

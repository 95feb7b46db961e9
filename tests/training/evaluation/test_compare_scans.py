from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mri_recon.errors import DataError, MethodError
from mri_recon.masks.draw import random_mask
from mri_recon.results.comparison import compare
from mri_recon.transforms.fourier import fft2c
from mri_recon_data import registry
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.results import results_document
from mri_recon_training.evaluation.sources import Source, attribution_of, labels_of, phantom_sources, raw_sources
from tests.support.evaluations import METHODS, small_evaluation, small_scan, small_sources


def test_a_row_for_every_scan_mask_and_method() -> None:
    evaluation = small_evaluation()
    assert len(evaluation.rows) == 3 * 2 * 2 * 2
    assert len(evaluation.receipts) == 3 * 2 * 2
    assert set(evaluation.rows[0]) == {
        "file",
        "acceleration",
        "seed",
        "method",
        "nmse",
        "psnr",
        "ssim",
        "seconds",
        "info",
    }
    assert evaluation.left_out == {"set/p": "prospectively undersampled: no truth, so no metrics"}
    assert {receipt["num_lines"] for receipt in evaluation.receipts} == {15, 8, 12, 6}
    assert evaluation.labels == {"set/a1": "anna T1", "set/a2": "anna T2", "set/b": "ben T1"}
    assert evaluation.shapes["set/a2"] == (2, 1, 21, 25)
    assert evaluation.accelerations == [2, 4]
    assert {row["acceleration"] for row in evaluation.at(4)} == {4}


def test_a_row_is_that_of_compare() -> None:
    expected = compare(small_scan(2), random_mask(30, 4, seed=5), ["cg-sense"]).rows[0]
    (row,) = (
        row
        for row in small_evaluation().rows
        if (row["file"], row["acceleration"], row["seed"], row["method"]) == ("set/b", 4, 5, "cg-sense")
    )
    assert {name: row[name] for name in ("nmse", "psnr", "ssim")} == {
        name: expected[name] for name in ("nmse", "psnr", "ssim")
    }


def test_the_centre_of_the_masks_can_be_given() -> None:
    evaluation = evaluate_scans(
        small_sources()[:1], Masks([4], num_low_frequencies=5), split="train", methods=["zero-filled"]
    )
    assert [receipt["num_low_frequencies"] for receipt in evaluation.receipts] == [5]


def test_fewer_masks_at_further_accelerations_and_on_parts_of_one_file() -> None:
    first, second = small_sources()[:2]
    masks = Masks([4], [0, 1, 2], curve=[2, 4], curve_seeds=[7], part_seeds=[5, 6])
    assert list(masks.cases(first)) == [(2, 7), (4, 0), (4, 1), (4, 2)]
    assert list(masks.cases(replace(second, is_part=True))) == [(2, 5), (2, 6), (4, 5), (4, 6)]
    assert list(Masks([4], [0]).cases(replace(second, is_part=True))) == [(4, 0)]
    evaluation = evaluate_scans([first, replace(second, is_part=True)], masks, split="train", methods=["zero-filled"])
    assert len(evaluation.rows) == 8
    assert evaluation.parts == ["set/a2"]


def test_the_snr_is_estimated_from_the_outermost_samples() -> None:
    """Noise of 0.1 in real and imaginary part, a bright object."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:60j]
    image = (np.exp(-4 * (y**2 + x**2))).astype(np.complex64)
    image = image + 0.02 * (rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape))
    kspace = fft2c(torch.from_numpy(image[None, None])).to(torch.complex64)
    scan = replace(
        small_scan(0, width=60),
        samples=kspace.numpy(),
        reference=np.abs(image[None]).astype(np.float32),
        support=np.ones(60, dtype=bool),
        recon_size=(64, 60),
    )
    source = Source("x", "y", lambda: scan)
    evaluation = evaluate_scans([source], Masks([4]), split="train", methods=["zero-filled"])
    assert evaluation.snrs["x"] == pytest.approx(50, rel=0.1)
    given = evaluate_scans(
        [source], Masks([4]), split="train", methods=["zero-filled"], kind="simulated", array=SimulatedArray(1, 7.0)
    )
    assert given.snrs["x"] == 7


def test_the_document() -> None:
    raw, simulated = small_evaluation(), small_evaluation(kind="simulated", array=SimulatedArray(8))
    document = json.loads(json.dumps(results_document(raw, [simulated]), allow_nan=False))
    assert list(document)[:3] == ["convention", "mask", "results"]
    assert document["results"] == raw.rows
    assert document["mask"]["receipts"][0]["file"] == "set/a1"
    assert document["persons"] == {"set/a1": "anna", "set/a2": "anna", "set/b": "ben"}
    assert document["phantoms"] is None
    assert [(one["kind"], one["num_coils"]) for one in document["simulated"]] == [("simulated", 8)]
    assert document["simulated"][0]["array"] == {"num_coils": 8, "snr": 40.0, "measured": False}
    assert document["worlds"] == {"set/a1": "near", "set/a2": "near", "set/b": "far"}
    assert list(document["snr_of_scans"]["scans"]) == ["set/a1", "set/a2", "set/b"]
    assert [mean["world"] for mean in document["means"]] == ["near"] * 4 + ["far"] * 4
    summary = document["mask_variability"]["scans"][0]
    both = [row["psnr"] for row in raw.rows[:4] if row["method"] == "zero-filled"]
    assert summary["psnr"] == {"mean": sum(both) / 2, "low": min(both), "high": max(both), "masks": 2}
    assert document["mask_variability"]["above_best_classical"] == []


@pytest.mark.parametrize(
    ("sources", "methods", "error", "message"),
    [
        (small_sources()[3:], METHODS, DataError, "scans with a truth in the split 'test', got none"),
        (small_sources(), ["magic"], MethodError, "got 'magic'"),
    ],
)
def test_an_evaluation_that_cannot_be(
    sources: list[Source], methods: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_scans(sources, Masks([4]), split="test", methods=methods)


def test_a_registered_scan_without_a_reference_is_an_error() -> None:
    source = Source("x", "y", lambda: replace(small_scan(0), reference=None, target_source="none"))
    with pytest.raises(DataError, match="x: expected a scan with a reference"):
        evaluate_scans([source], Masks([4]), split="test", methods=METHODS)


def test_scans_of_one_person_and_contrast_are_told_apart() -> None:
    first, second, *_ = registry.files(split="test", kind="image")
    same = replace(second, contrast=first.contrast)
    assert set(labels_of([first, second]).values()) == {"ulf-patient-7a FLAIR", "ulf-patient-7a T1w"}
    assert set(labels_of([first, same]).values()) == {
        "ulf-patient-7a FLAIR (Fig7A__3T_FLAIR)",
        "ulf-patient-7a FLAIR (Fig7A__3T_T1w)",
    }


def test_a_split_without_raw_scans_has_nothing_to_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "files", lambda **_: [])
    with pytest.raises(DataError, match="expected raw scans in the split 'sample', got none"):
        raw_sources("sample")


def test_every_raw_scan_of_the_registry_is_read(real_data: Path) -> None:
    sources = raw_sources("validation")
    assert [source.name for source in sources] == [file.name for file in registry.files(split="validation", kind="raw")]
    assert {source.world for source in sources} == {"training scanner, head"}
    evaluation = evaluate_scans(sources, Masks([4]), split="validation", methods=["zero-filled"])
    assert len(evaluation.rows) == len(sources)
    assert all(10 < row["psnr"] < 60 for row in evaluation.rows)


def test_phantoms_are_sources_of_their_own(real_data: Path) -> None:
    phantoms = phantom_sources("validation")
    assert {source.world for source in phantoms} == {"phantom"}
    assert len(phantoms) == 5
    assert not {source.name for source in phantoms} & {source.name for source in raw_sources("validation")}
    assert phantom_sources("test") == []


def test_the_test_split_reaches_beyond_the_training(real_data: Path) -> None:
    sources = raw_sources("test")
    assert list(dict.fromkeys(source.world for source in sources)) == [
        "training scanner, head", "other scanner, head", "several coils, head", "other anatomy, rodent head"
    ]  # fmt: skip
    rodent = [source for source in sources if source.is_part]
    assert [source.name for source in rodent] == [f"raw/rodent-head-9.4T/fid array={number}" for number in range(12)]
    assert rodent[7].label == "rodent-9.4t TI 380 ms"
    assert "Wereszczynska" in str(rodent[7].attribution)
    assert tuple(rodent[7].load().kspace.shape) == (2, 1, 128, 128)
    shapes = [tuple(source.load().kspace.shape) for source in sources if source.world == "several coils, head"]
    assert shapes == [(1, 2, 128, 128), (1, 16, 128, 128)]


def test_no_picture_of_a_face_has_an_attribution() -> None:
    hidden = [file for file in registry.files(kind="image") if file.no_pictures]
    assert {attribution_of(file) for file in hidden} == {None}


def test_the_prospective_scan_is_known_to_have_no_truth_and_no_picture(real_data: Path) -> None:
    sources = raw_sources("test")
    assert [source.name for source in sources if not source.has_truth] == [
        "raw/brain-8ch-undersampled/cartesian_ksp.npy"
    ]
    named = {source.label: source.attribution for source in sources}
    assert named["brain-8ch"] is None
    assert "Larson" in str(named["head-sagittal T1w"])
    assert "MIT. Copyright (c) 2021 Peder Larson." in str(named["head-sagittal T1w"])
    assert "CC0-1.0" in str(named["ulf-patient-7a GRE"])

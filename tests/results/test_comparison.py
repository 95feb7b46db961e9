from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mri_recon._arrays import center_crop
from mri_recon._system.jsonable import jsonable, write_json
from mri_recon.errors import MaskError, MethodError, MriReconError, OutputError
from mri_recon.io import Scan
from mri_recon.io.masks import choose_mask
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import equispaced_mask, random_mask
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.metrics import evaluate
from mri_recon.reconstruction import reconstruct
from mri_recon.results import comparison as comparing
from mri_recon.results.comparison import (
    CONVENTION,
    Comparison,
    compare,
    convention,
    mask_caption,
    preparation_caption,
    results_document,
)
from mri_recon.results.summary import estimate_noise, summarize
from mri_recon.transforms.fourier import fft2c, ifft2c

METHODS = ["zero-filled", "cs-wavelet"]
QUICK = {"cs-wavelet": {"max_iters": 5}}


def make_scan(
    *shape: int, target: tuple[int, int] | None = None, sigma: float = 0.01, seed: int = 0, dead: tuple[int, ...] = ()
) -> Scan:
    """A scan of discs; `target` is the size of its reference, `dead` are columns that were not acquired."""
    slices, coils, h, w = shape
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    disc = (y**2 + x**2 < 0.7) * np.exp(1j * (x + 0.5 * y)) + (np.abs(x) + np.abs(y) < 0.4)
    maps = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2) for a, b in rng.uniform(-1, 1, (coils, 2))])
    images = disc * maps * np.linspace(1, 2, slices)[:, None, None, None]
    kspace = fft2c(torch.from_numpy(images)).numpy()
    kspace = kspace + sigma * (rng.normal(size=kspace.shape) + 1j * rng.normal(size=kspace.shape))
    support = np.ones(w, dtype=bool)
    support[list(dead)] = False
    full = torch.from_numpy(kspace * support).to(torch.complex64)
    size = (h, w) if target is None else target
    reference = center_crop(ifft2c(full).abs().square().sum(1).sqrt(), size)
    return Scan(
        samples=full.numpy(),
        reference=reference.numpy(),
        target_source="rss of the full k-space",
        mask=None,
        support=support,
        recon_size=size,
        meta={"file": "discs.npy", "format": "array", "axes": "slice coil readout phase", "axes_assumed": True},
    )


def _undersampled(scan: Scan, mask: ColumnMask) -> Scan:
    samples = undersample(scan.kspace, mask).numpy()
    return replace(without_target(scan), samples=samples, mask=mask, support=mask.lines.copy())


def without_target(scan: Scan) -> Scan:
    return replace(scan, reference=None, target_source="none")


SHAPES: list[dict[str, Any]] = [
    {"shape": (1, 1, 17, 22)},
    {"shape": (3, 1, 20, 15)},
    {"shape": (2, 3, 25, 18), "target": (15, 18)},
    {"shape": (1, 4, 30, 23), "target": (17, 17)},
]


def test_every_method_gets_the_same_prepared_data() -> None:
    scan = make_scan(2, 3, 25, 18)
    mask = random_mask(scan.width, 2, num_low_frequencies=5, seed=3)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 80, 2))).to(torch.float32)
    prepared: dict[str, Any] = {"prewhiten": torch.view_as_complex(noise), "num_virtual_coils": 2}
    comparison = compare(scan, mask, METHODS, options=QUICK, **prepared)
    for name in METHODS:
        options: dict[str, Any] = QUICK.get(name, {})
        alone = reconstruct(undersample(scan.kspace, mask), mask, method=name, **prepared, **options)
        assert torch.equal(comparison.reconstructions[name].image, alone.image)
    first, second = (row["info"]["preparation"] for row in comparison.rows)
    assert first == second
    assert torch.equal(comparison.target, scan.target)  # type: ignore[arg-type]
    json.dumps(comparison.rows, allow_nan=False)


def test_what_was_done_to_the_data_in_one_line() -> None:
    assert preparation_caption({}) == ""
    whitened = {"prewhiten": "edge", "noise_samples": 70}
    compressed = {"num_coils": 8, "num_virtual_coils": 4, "energy_kept": 0.98765}
    assert preparation_caption({"preparation": whitened}) == (
        "Pre-whitened by 70 noise samples of the edge of k-space."
    )
    assert preparation_caption({"preparation": whitened | compressed | {"prewhiten": "samples"}}) == (
        "Pre-whitened by 70 given noise samples; 8 coils compressed to 4, 98.8 % of the energy."
    )
    assert preparation_caption({"preparation": compressed}) == "8 coils compressed to 4, 98.8 % of the energy."


@pytest.mark.parametrize("case", SHAPES)
def test_rows_are_those_of_the_design(case: dict[str, Any]) -> None:
    scan = make_scan(*case["shape"], target=case.get("target"))
    mask = random_mask(scan.width, 2, num_low_frequencies=4, seed=3)
    comparison = compare(scan, mask, METHODS, options=QUICK)
    assert [row["method"] for row in comparison.rows] == METHODS
    for row in comparison.rows:
        assert list(row) == ["file", "acceleration", "seed", "method", "nmse", "psnr", "ssim", "seconds", "info"]
        assert (row["file"], row["acceleration"], row["seed"]) == ("discs.npy", 2, 3)
        assert row["seconds"] > 0
        assert "seconds" not in row["info"]
        assert comparison.magnitude(row["method"]).shape == scan.target.shape  # type: ignore[union-attr]
    json.dumps(comparison.rows, allow_nan=False)


def test_a_row_is_what_the_python_calls_give() -> None:
    scan = make_scan(2, 3, 25, 18, target=(15, 17))
    mask = random_mask(scan.width, 2, num_low_frequencies=4)
    comparison = compare(scan, mask, METHODS, options=QUICK)
    for name in METHODS:
        result = reconstruct(undersample(scan.kspace, mask), mask, method=name, **QUICK.get(name, {}))
        assert torch.equal(comparison.reconstructions[name].image, result.image)
        assert scan.target is not None
        expected = evaluate(result.image, scan.target).as_dict()
        assert comparison.rows[METHODS.index(name)].items() >= expected.items()


@pytest.mark.parametrize("kind", ["array", "tensor", "file", "text"])
def test_kspace_in_memory_and_a_file_are_compared_as_the_scan_is(kind: str, tmp_path: Path) -> None:
    scan = make_scan(2, 3, 32, 38)
    mask = random_mask(38, 3, seed=0)
    path = tmp_path / "scan.npy"
    np.save(path, scan.samples)
    given: Any = {"array": scan.samples, "tensor": scan.kspace, "file": path, "text": str(path)}[kind]
    found = compare(given, mask, METHODS, options=QUICK)
    wanted = compare(scan, mask, METHODS, options=QUICK)
    assert found.file == ("scan.npy" if kind in ("file", "text") else "array")
    assert found.target_source == "rss of the full k-space"
    for row, other in zip(found.rows, wanted.rows, strict=True):
        assert row["method"] == other["method"]
        assert (row["psnr"], row["ssim"]) == pytest.approx((other["psnr"], other["ssim"]), rel=1e-6)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_a_mask_in_memory_is_the_one_that_reconstruct_takes(kind: str) -> None:
    scan, mask = make_scan(1, 3, 32, 38), random_mask(38, 3, seed=0)
    given: Any = np.asarray(mask.lines) if kind == "array" else mask.tensor()
    found = compare(scan, given, ["cg-sense"]).reconstructions["cg-sense"]
    wanted = reconstruct(undersample(scan.kspace, mask), given, method="cg-sense")
    assert torch.equal(found.image, wanted.image)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((2, 32, 38), dtype=np.complex64), r"expected k-space \(slice, coil, readout, phase\), got 3 axes"),
        ([[1j]], "expected k-space as a tensor or a NumPy array, got list: convert it"),
        (np.ones((1, 1, 32, 38)), "expected complex k-space, got torch.float64"),
        (np.zeros((1, 1, 32, 38), dtype=np.complex64), "expected k-space with a signal, got only zeros"),
    ],
)
def test_kspace_in_memory_that_cannot_be_compared(given: Any, message: str) -> None:
    with pytest.raises(MriReconError, match=message):
        compare(given, random_mask(38, 3, seed=0), METHODS)


def test_undersampled_kspace_in_memory_has_no_reference() -> None:
    scan, mask = make_scan(1, 2, 32, 38), random_mask(38, 3, seed=0)
    found = compare(undersample(scan.kspace, mask), mask, ["zero-filled"])
    assert found.target is None
    assert found.rows[0]["psnr"] is None


def test_another_scan_gives_other_numbers() -> None:
    mask = random_mask(20, 2, num_low_frequencies=4)
    first, second = (compare(make_scan(1, 1, 21, 20, seed=s), mask, ["zero-filled"]).rows[0]["psnr"] for s in (0, 1))
    assert first != second


def test_every_sampled_line_is_counted_on_the_support() -> None:
    scan = make_scan(1, 1, 21, 20, dead=(0, 1, 19))
    mask = choose_mask(scan, acceleration=2, num_low_frequencies=3)
    receipt = compare(scan, mask, ["zero-filled"]).receipt
    assert receipt["support_width"] == 17
    assert receipt["num_lines"] == round(17 / 2)
    assert not {0, 1, 19} & set(receipt["lines"])


def test_no_reference_no_metrics() -> None:
    scan = without_target(make_scan(1, 3, 17, 22, target=(11, 13)))
    comparison = compare(scan, random_mask(22, 2, num_low_frequencies=4), ["zero-filled"])
    row = comparison.rows[0]
    assert (row["nmse"], row["psnr"], row["ssim"]) == (None, None, None)
    assert comparison.image_size == (11, 13)
    assert "foreground" not in row


def test_simulated_numbers_say_so(tmp_path: Path) -> None:
    scan = make_scan(1, 1, 17, 22)
    simulated = replace(scan, meta={**scan.meta, "simulated": True})
    mask = random_mask(22, 2, num_low_frequencies=4)
    assert "SIMULATED k-space" in compare(simulated, mask, ["zero-filled"]).document()["convention"]
    assert "SIMULATED" not in compare(scan, mask, ["zero-filled"]).document()["convention"]
    assert "SIMULATED k-space" in dict(summarize(simulated))["reference"]


def test_foreground_is_a_second_column() -> None:
    scan = make_scan(2, 1, 21, 20)
    row = compare(scan, random_mask(20, 2, num_low_frequencies=4), ["zero-filled"], foreground=True).rows[0]
    assert set(row["foreground"]) == {"nmse", "psnr", "ssim"}
    assert row["foreground"]["nmse"] < row["nmse"]


def test_a_perfect_image_has_no_finite_psnr_and_the_file_is_still_json(tmp_path: Path) -> None:
    scan = make_scan(1, 2, 16, 12)
    everything = np.ones(12, dtype=bool)
    image = reconstruct(scan.kspace, everything, method="zero-filled").magnitude
    comparison = compare(replace(scan, reference=image.numpy()), everything, ["zero-filled"])
    comparison.write_json(tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (row["nmse"], row["psnr"]) == (0, None)


def test_the_file_holds_convention_mask_and_results(tmp_path: Path) -> None:
    scan = make_scan(1, 1, 17, 22)
    mask = random_mask(22, 2, num_low_frequencies=4, seed=7)
    comparison = compare(scan, mask, METHODS, options=QUICK, file="a.npy")
    path = tmp_path / "out.json"
    path.write_text("old")
    comparison.write_json(path)
    document = json.loads(path.read_text())
    assert list(document) == ["convention", "mask", "results"]
    assert document["convention"].startswith(CONVENTION)
    assert "rss of the full k-space" in document["convention"]
    assert document["mask"] == json.loads(json.dumps(mask.receipt()))
    assert document["results"] == comparison.rows
    assert {row["file"] for row in document["results"]} == {"a.npy"}
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"], "a temporary file was left behind"


def test_requested_acceleration_and_seed_can_be_said() -> None:
    scan = make_scan(1, 1, 12, 14)
    pattern = PatternMask(np.random.default_rng(0).random((12, 14)) < 0.9)
    row = compare(scan, pattern, ["zero-filled"]).rows[0]
    assert (row["acceleration"], row["seed"]) == (None, None)
    row = compare(scan, pattern, ["zero-filled"], acceleration=1.1, seed=4).rows[0]
    assert (row["acceleration"], row["seed"]) == (1.1, 4)


def test_a_method_named_twice_runs_once() -> None:
    scan = make_scan(1, 1, 12, 14)
    assert len(compare(scan, random_mask(14, 2, num_low_frequencies=2), ["zero-filled"] * 2).rows) == 1


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ([], {}, "at least one method"),
        (["zero-filled", "magic"], {}, "got 'magic'"),
        (["zero-filled"], {"zero-filled": {"reg_weight": 1}}, "got 'reg_weight'"),
        (["zero-filled"], {"unet": {}}, "options for one of the compared methods zero-filled, got some for 'unet'"),
    ],
)
def test_mistakes_are_found_before_the_first_reconstruction(
    methods: list[str], options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "reconstruct", lambda *_, **__: pytest.fail("work was done"), raising=False)
    scan = make_scan(1, 1, 12, 14)
    with pytest.raises(MethodError, match=message):
        compare(scan, random_mask(14, 2, num_low_frequencies=2), methods, options=options)


def test_writing_to_nowhere(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose a folder that exists"):
        write_json(tmp_path / "absent" / "out.json", {})


def test_jsonable() -> None:
    given = {
        "a": torch.tensor([1.0, float("inf")]),
        2: np.float32(0.5),
        "b": (np.bool_(True), None, Path("x")),
        "c": np.arange(2),
        "d": {"e": float("nan")},
    }
    assert jsonable(given) == {"a": [1.0, None], "2": 0.5, "b": [True, None, "x"], "c": [0, 1], "d": {"e": None}}
    assert results_document({}, [])["convention"] == convention()


def test_captions_say_what_was_requested_and_what_was_achieved() -> None:
    assert mask_caption(random_mask(126, 4, seed=2).receipt()) == (
        "random columns, 32 of 126 (10 in the centre), R = 4 requested, 3.94 achieved, seed 2"
    )
    assert mask_caption(equispaced_mask(20, 2, num_low_frequencies=3).receipt()).startswith(
        "equispaced columns, 10 of 20"
    )
    pattern = PatternMask(np.eye(6, 4, dtype=bool))
    assert mask_caption(pattern.receipt()) == "2-D pattern, 4 samples, R = 6.00"


def test_center_crop() -> None:
    images = torch.arange(2 * 5 * 4).reshape(2, 5, 4)
    assert torch.equal(center_crop(images, (3, 2)), images[:, 1:4, 1:3])
    assert torch.equal(center_crop(images, (9, 9)), images)


# Which mask


def test_a_drawn_mask_is_the_designs() -> None:
    scan = make_scan(1, 1, 12, 40)
    assert choose_mask(scan, acceleration=4, seed=5) == random_mask(40, 4, seed=5)
    assert choose_mask(scan, acceleration=4, center_fraction=0.1) == random_mask(40, 4, center_fraction=0.1)
    assert choose_mask(scan, acceleration=4, num_low_frequencies=2) == random_mask(40, 4, num_low_frequencies=2)
    assert choose_mask(scan, acceleration=4, kind="equispaced") == equispaced_mask(40, 4)


def test_the_scans_own_mask_is_used_where_nothing_is_given() -> None:
    scan = make_scan(1, 1, 12, 40)
    own = random_mask(40, 3, seed=1)
    assert choose_mask(_undersampled(scan, own)) == own


def test_a_mask_file(tmp_path: Path) -> None:
    scan = make_scan(1, 1, 12, 40)
    lines = random_mask(40, 3, seed=1).lines
    np.save(tmp_path / "mask.npy", lines)
    assert np.array_equal(choose_mask(scan, mask_file=tmp_path / "mask.npy").tensor().numpy(), lines)
    np.save(tmp_path / "short.npy", lines[:-1])
    with pytest.raises(MaskError):
        choose_mask(scan, mask_file=tmp_path / "short.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a fully sampled scan and neither: give --acceleration 4, or --mask FILE"),
        ({"mask_file": Path("m.npy"), "acceleration": 4.0}, "one mask, got the file m.npy and an acceleration of 4"),
        ({"center_fraction": 0.1}, "got the centre alone"),
        ({"num_low_frequencies": 4}, "got the centre alone"),
        ({"acceleration": 4.0, "kind": "spiral"}, "among random, equispaced, got 'spiral'"),
    ],
)
def test_masks_that_cannot_be_chosen(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskError, match=re.escape(message)):
        choose_mask(make_scan(1, 1, 12, 40), **arguments)


def test_an_undersampled_scan_is_not_undersampled_again() -> None:
    scan = make_scan(1, 1, 12, 40)
    own = random_mask(40, 3, seed=1)
    with pytest.raises(MaskError, match="leave the acceleration out to use the scan's own mask"):
        choose_mask(_undersampled(scan, own), acceleration=4)


# What is in a scan


@pytest.mark.parametrize("sigma", [0.3, 20.0])
def test_noise_is_found(sigma: float) -> None:
    scan = make_scan(2, 3, 90, 80, sigma=sigma, dead=(0, 1, 2, 79))
    noise = estimate_noise(scan)
    assert noise is not None
    assert noise.num_samples == 2 * 3 * (90 * 76 // 10)
    # Of a complex sample; the scan's sigma is that of each of its two parts.
    assert noise.sigma == pytest.approx(sigma * 2**0.5, rel=0.25)


def test_residue_of_a_transform_is_not_noise() -> None:
    scan = make_scan(1, 1, 60, 50, sigma=0.5)
    scan.kspace[..., :6] *= 1e-14
    noise = estimate_noise(scan)
    assert noise is not None
    assert noise.sigma == pytest.approx(0.5 * 2**0.5, rel=0.5)


def test_a_summary_says_what_the_issue_asks() -> None:
    lines = dict(summarize(make_scan(3, 2, 40, 30, target=(20, 20), dead=(0, 14))))
    assert lines["k-space"] == "3 slices x 2 coils x 40 readout x 30 phase, complex64"
    assert lines["acquired support"] == "28 of 30 columns (1 to 29, 1 dead within)"
    assert lines["reconstruction size"] == "20 x 20"
    assert lines["sampling"] == "fully sampled"
    assert lines["realised acceleration"] == "1.00"
    assert "assumed" in lines["axes"]
    assert lines["noise"].startswith("sigma ")
    assert lines["reference"] == "rss of the full k-space"


def test_a_summary_of_an_undersampled_scan() -> None:
    scan = make_scan(1, 1, 40, 30)
    own = random_mask(30, 3, num_low_frequencies=4)
    undersampled = _undersampled(scan, own)
    lines = dict(summarize(undersampled))
    assert lines["sampling"] == "10 of 30 columns, by the file's own mask"
    assert lines["realised acceleration"] == "3.00"
    assert isinstance(compare(undersampled, own, ["zero-filled"]), Comparison)

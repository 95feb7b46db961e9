from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from mri_recon.cli import build_app
from mri_recon.compare import compare
from mri_recon.data import registry
from mri_recon.errors import DataError, MethodError
from mri_recon.fourier import fft2c
from mri_recon.io import Scan
from mri_recon.masks import random_mask
from mri_recon.training.evaluate import (
    Evaluation,
    Source,
    average,
    evaluate_scans,
    find_repository,
    log_test_run,
    losses,
    markdown_page,
    raw_sources,
    results_document,
)
from mri_recon.training.simulated import simulated_sources

METHODS = ["zero-filled", "cg-sense"]


def _scan(seed: int, *, width: int = 30, slices: int = 1) -> Scan:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:21j, -1 : 1 : width * 1j]
    images = (y**2 + x**2 < 0.7) * np.linspace(1, 2, slices)[:, None, None, None] + 0.1 * rng.normal(
        size=(slices, 1, 21, width)
    )
    return Scan(
        kspace=fft2c(torch.from_numpy(images)).to(torch.complex64),
        target=torch.from_numpy(np.abs(images[:, 0])).float(),
        target_source="rss of the full k-space",
        mask=None,
        support=np.ones(width, dtype=bool),
        recon_size=(21, width),
        meta={"file": f"{seed}.npy"},
    )


def _sources() -> list[Source]:
    return [
        Source("set/a1", "anna", lambda: _scan(0)),
        Source("set/a2", "anna", lambda: _scan(1, width=25, slices=2)),
        Source("set/b", "ben", lambda: _scan(2)),
        Source("set/p", "carl", lambda: pytest.fail("a scan without a truth was read"), has_truth=False),
    ]


def _evaluation() -> Evaluation:
    return evaluate_scans(_sources(), split="validation", accelerations=[2, 4], seeds=[0, 5], methods=METHODS)


def _row(
    file: str, method: str, psnr: float | None, *, seed: int = 0, acceleration: float = 4, ssim: float = 0.5
) -> Any:
    return {
        "file": file, "acceleration": acceleration, "seed": seed, "method": method,
        "nmse": 0.1, "psnr": psnr, "ssim": ssim, "seconds": 1.0, "info": {},
    }  # fmt: skip


def test_a_row_for_every_scan_mask_and_method() -> None:
    evaluation = _evaluation()
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


def test_a_row_is_that_of_compare() -> None:
    expected = compare(_scan(2), random_mask(30, 4, seed=5), ["cg-sense"]).rows[0]
    (row,) = (
        row
        for row in _evaluation().rows
        if (row["file"], row["acceleration"], row["seed"], row["method"]) == ("set/b", 4, 5, "cg-sense")
    )
    assert {name: row[name] for name in ("nmse", "psnr", "ssim")} == {
        name: expected[name] for name in ("nmse", "psnr", "ssim")
    }


def test_means_go_over_masks_then_scans_then_persons() -> None:
    """Two scans of one person with unequal numbers of masks, one of another: no scan and no mask counts twice."""
    rows = [
        _row("a1", "m", 10.0, seed=0),
        _row("a1", "m", 20.0, seed=1),
        _row("a2", "m", 30.0),
        _row("b", "m", 50.0),
    ]
    (mean,) = average(rows, {"a1": "anna", "a2": "anna", "b": "ben"})
    assert mean["psnr"] == ((10 + 20) / 2 + 30) / 2 / 2 + 50 / 2
    assert (mean["persons"], mean["scans"], mean["acceleration"], mean["method"]) == (2, 3, 4, "m")


def test_an_infinite_psnr_has_no_mean() -> None:
    (mean,) = average([_row("a", "m", None), _row("b", "m", 3.0)], {"a": "x", "b": "y"})
    assert mean["psnr"] is None
    assert mean["ssim"] == 0.5


def test_means_keep_the_order_of_methods() -> None:
    means = _evaluation().means()
    assert [(mean["acceleration"], mean["method"]) for mean in means] == [
        (2, "zero-filled"), (2, "cg-sense"), (4, "zero-filled"), (4, "cg-sense"),
    ]  # fmt: skip


def test_where_a_method_loses_is_said() -> None:
    rows = [
        _row("a", "zero-filled", 20.0),
        _row("a", "cs-wavelet", 22.0, ssim=0.4),
        _row("a", "unet", 21.0, ssim=0.6),
        _row("b", "zero-filled", 20.0),
        _row("b", "cs-wavelet", 22.0),
        _row("b", "unet", 23.0),
    ]
    assert losses(rows, ["zero-filled", "cs-wavelet", "unet"]) == [
        "a, R = 4, seed 0: cs-wavelet loses to zero-filled (SSIM 0.4000 against 0.5000)",
        "a, R = 4, seed 0: unet loses to cs-wavelet (PSNR 21.00 against 22.00)",
    ]
    assert losses(rows[3:], ["zero-filled", "cs-wavelet", "unet"]) == []


def test_the_document(tmp_path: Path) -> None:
    raw, simulated = _evaluation(), _evaluation()
    simulated.kind = "simulated"
    document = json.loads(json.dumps(results_document([raw, simulated]), allow_nan=False))
    assert list(document)[:3] == ["convention", "mask", "results"]
    assert document["results"] == raw.rows
    assert document["mask"]["receipts"][0]["file"] == "set/a1"
    assert document["persons"] == {"set/a1": "anna", "set/a2": "anna", "set/b": "ben"}
    assert document["simulated"]["kind"] == "simulated"


def test_the_page_holds_every_number_and_every_loss() -> None:
    evaluation = _evaluation()
    page = markdown_page([evaluation], command="mri-recon evaluate --split validation", methods=METHODS)
    assert "mri-recon evaluate --split validation" in page
    assert "Data range: maximum of the reference volume" in page
    assert "Research only" in page
    assert "Not measured: `set/p`" in page
    for row in [*evaluation.rows, *evaluation.means()]:
        assert f"{row['nmse']:.4f} | {row['psnr']:.2f} | {row['ssim']:.4f}" in page
    for sentence in losses(evaluation.rows, METHODS):
        assert f"- {sentence}" in page
    assert "15 of 30 (2.00x)" in page
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| `set/")}
    assert widths == {9}


def test_a_page_without_losses_says_so() -> None:
    evaluation = Evaluation("test", rows=[_row("a", "m", 1.0)], persons={"a": "x"})
    evaluation.receipts = [{"file": "a", **random_mask(30, 4).receipt()}]
    page = markdown_page([evaluation], command="c", methods=["m"])
    assert "Nowhere: in the order m" in page


def test_simulated_numbers_say_so() -> None:
    evaluation = _evaluation()
    evaluation.kind = "simulated"
    assert "**simulated** multi-coil k-space" in markdown_page([evaluation], command="c", methods=METHODS)


@pytest.mark.parametrize(
    ("sources", "methods", "error", "message"),
    [
        (_sources()[3:], METHODS, DataError, "scans with a truth in the split 'test', got none"),
        (_sources(), ["magic"], MethodError, "got 'magic'"),
    ],
)
def test_an_evaluation_that_cannot_be(
    sources: list[Source], methods: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_scans(sources, split="test", accelerations=[4], methods=methods)


def test_a_registered_scan_without_a_reference_is_an_error() -> None:
    from dataclasses import replace

    source = Source("x", "y", lambda: replace(_scan(0), target=None, target_source="none"))
    with pytest.raises(DataError, match="x: expected a scan with a reference"):
        evaluate_scans([source], split="test", accelerations=[4], methods=METHODS)


def test_the_log_gets_a_line_a_run(tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    log_test_run(log, "mri-recon evaluate --split test")
    log_test_run(log, "second")
    first, second = log.read_text().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\w{12}(\+changes)?|unknown) mri-recon evaluate --split test", first
    )
    assert second.endswith(" second")


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    log_test_run(tmp_path / "runs.log", "c")
    assert (tmp_path / "runs.log").read_text().split()[1] == "unknown"


def test_the_checkout_is_found_from_inside(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert find_repository(inside) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    assert find_repository(inside) == tmp_path
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert find_repository(inside) is None


# The verb


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["evaluate", *(str(argument) for argument in arguments)])


@pytest.fixture
def small_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon.training.evaluate.raw_sources", lambda split: _sources())


@pytest.mark.usefixtures("small_registry")
def test_the_verb(tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["--acceleration", "2,4", "--seeds", "0,5", "--methods", "zero-filled,cg-sense"]
    result = run("--split", "validation", *arguments, "--json", out, "--markdown", page)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    expected = _evaluation()
    numbers = [(row["file"], row["psnr"]) for row in document["results"]]
    assert numbers == [(row["file"], row["psnr"]) for row in expected.rows]
    assert "Means: split validation" in result.stdout
    assert "Not measured: set/p" in result.stdout
    assert document["convention"] in result.stdout
    assert page.read_text().startswith("# Results\n")
    assert {file.name for file in tmp_path.iterdir()} == {"out.json", "out.md"}


@pytest.mark.usefixtures("small_registry")
def test_only_test_runs_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    monkeypatch.chdir(tmp_path)
    arguments = ["--acceleration", "4", "--methods", "zero-filled"]
    assert run("--split", "validation", *arguments).exit_code == 0
    assert not (tmp_path / "docs").exists()
    assert run("--split", "test", *arguments).exit_code == 0
    assert len((tmp_path / "docs" / "test-runs.log").read_text().splitlines()) == 1
    assert run("--split", "test", *arguments, "--log", tmp_path / "my.log").exit_code == 0
    assert len((tmp_path / "my.log").read_text().splitlines()) == 1


@pytest.mark.usefixtures("small_registry")
def test_a_test_run_elsewhere_warns_that_it_is_not_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--split", "test", "--acceleration", "4", "--methods", "zero-filled")
    assert "this test run is not logged" in result.stderr


@pytest.mark.usefixtures("small_registry")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--acceleration", "four"], "--acceleration as numbers separated by commas, got 'four'"),
        (["--seeds", "0.5"], "--seeds as whole numbers"),
        (["--methods", "magic"], "got 'magic'"),
        (["--option", "unet.x=1"], "got 'x'"),
        (["--json", "absent/out.json"], "folder that exists"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    result = run("--split", "validation", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_split_and_missing_data_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected one of train, validation, test" in run("--split", "everything").stderr
    monkeypatch.setenv("MRI_RECON_DATA", str(tmp_path))
    result = run("--split", "validation", "--methods", "zero-filled")
    assert result.exit_code == 2
    assert result.stderr.startswith("mri-recon: error: ")


def test_every_raw_scan_of_the_registry_is_read(real_data: Path) -> None:
    sources = raw_sources("validation")
    assert [source.name for source in sources] == [file.name for file in registry.files(split="validation", kind="raw")]
    evaluation = evaluate_scans(sources, split="validation", accelerations=[4], methods=["zero-filled"])
    assert len(evaluation.rows) == len(sources)
    assert all(10 < row["psnr"] < 60 for row in evaluation.rows)


def test_the_prospective_scan_is_known_to_have_no_truth(real_data: Path) -> None:
    left_out = [source.name for source in raw_sources("test") if not source.has_truth]
    assert left_out == ["raw/brain-8ch-undersampled/cartesian_ksp.npy"]


def test_simulated_scans_are_of_the_splits_persons(real_data: Path) -> None:
    sources = simulated_sources("test")
    assert {source.person for source in sources} == {file.person for file in registry.files(split="test", kind="image")}
    scan = sources[0].load()
    assert scan.num_coils == 8
    assert scan.fully_sampled
    assert scan.target is not None
    assert torch.equal(scan.kspace, sources[0].load().kspace), "the same file gives the same scan"
    assert not torch.equal(scan.kspace[0], sources[1].load().kspace[0])
    evaluation = evaluate_scans(sources[:1], split="test", kind="simulated", accelerations=[4], methods=["zero-filled"])
    assert evaluation.rows[0]["file"].startswith("simulated 8 coils: images/")
    assert "SIMULATED" in evaluation.convention


def test_a_split_without_images_has_nothing_to_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "files", lambda **_: [])
    with pytest.raises(DataError, match="leave --simulated out"):
        simulated_sources("test")

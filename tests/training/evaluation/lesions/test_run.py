"""The whole test on small images: pairs, summary, page, resumption, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError, DataError
from mri_recon_data.registry import RegisteredFile
from mri_recon_training.evaluation.lesions.config import LesionConfig
from mri_recon_training.evaluation.lesions.run import (
    FULL,
    LesionRun,
    Subject,
    mask_of,
    reconstructed,
    run_lesions,
    subjects_of,
)
from mri_recon_training.evaluation.lesions.summary import against_reference, cells, document, invented
from mri_recon_training.evaluation.resume import FinishedComparisons

CONFIG = LesionConfig(
    "validation", ("zero-filled", "cg-sense"), accelerations=(2.0,), seeds=(0, 1), contrasts=(0.3, -0.2), num_places=4
)


def registered(name: str, person: str) -> RegisteredFile:
    return RegisteredFile(f"set/{name}", "set", "image", person, "validation", "", None)


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[-1:1:90j, -1:1:101j]
    image = torch.from_numpy((0.5 * (y**2 + x**2 < 0.8)).astype(np.float32))
    files = [registered("a1", "anna"), registered("a2", "anna"), registered("b", "ben")]
    module = "mri_recon_training.evaluation.lesions.run"
    monkeypatch.setattr(f"{module}.registry.files", lambda **given: files)
    monkeypatch.setattr(RegisteredFile, "path", lambda self: Path(self.name))
    monkeypatch.setattr(f"{module}.attribution_of", lambda file: None if file.person == "ben" else "Anna; MIT.")
    monkeypatch.setattr(f"{module}.middle_slices", lambda *files: image[None])


@pytest.fixture
def small_run(small_images: None) -> LesionRun:
    return run_lesions(CONFIG)


@pytest.mark.usefixtures("small_images")
def test_a_pair_differs_by_the_lesions_alone() -> None:
    subject = subjects_of(CONFIG)[0]
    difference = subject.kspace(0.3, 1) - subject.kspace(0.0, 1)
    expected = torch.linalg.vector_norm(torch.from_numpy(subject.magnitudes(0.3) - subject.image))
    assert float(torch.linalg.vector_norm(difference)) == pytest.approx(float(expected), rel=1e-4)
    noise = subject.kspace(0.0, 1) - subject.kspace(0.0, 0)
    assert float(noise.abs().square().mean()) == pytest.approx(4 / CONFIG.array.snr**2, rel=0.05)
    assert not np.array_equal(mask_of(subject, 2, 0).lines, mask_of(subject, 2, 1).lines)
    full = reconstructed(subject, FULL, 0.3, 2, 0)
    assert np.abs(full - subject.magnitudes(0.3)).mean() < 0.05


@pytest.mark.usefixtures("small_images")
def test_one_image_of_each_subject() -> None:
    assert [one.name for one in subjects_of(CONFIG)] == ["set/a1", "set/b"]
    alone = LesionConfig(**{**vars(CONFIG), "person": "ben"})
    assert [one.person for one in subjects_of(alone)] == ["ben"]
    with pytest.raises(DataError, match="of 'carl' in this split, got those of anna, ben"):
        subjects_of(LesionConfig(**{**vars(CONFIG), "person": "carl"}))


def test_rows_and_summary(small_run: LesionRun) -> None:
    assert len(small_run.rows) == 2 * 2 * 3
    found = cells(small_run, [FULL, "zero-filled"])
    assert len(found) == 2 * 2 * 2
    for cell in found:
        assert cell.difference[1] <= cell.difference[0] <= cell.difference[2]
        if cell.method == FULL:
            assert cell.recovered == pytest.approx(1, abs=0.1)
            assert cell.lost == (0, 0, 0)
            assert cell.difference[0] > 0.95
            assert invented(small_run, 2, FULL, cell.contrast, cell.width) == 0
        else:
            assert cell.recovered < 0.95
    content = json.loads(json.dumps(document(small_run, [FULL, "zero-filled"])))
    assert len(content["results"]) == 12
    assert content["simulated"] is True
    assert against_reference(small_run, ["zero-filled"]) == [], "compressed sensing was not run"


def scored(share: float, seed: int, method: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    absent = 0.01 * rng.standard_normal(6)
    return {
        "file": "set/a1", "acceleration": 4.0, "seed": seed, "method": method, "absent": absent.tolist(),
        "present": [(absent + share * 0.2).tolist()], "invented": [[seed]],
    }  # fmt: skip


@pytest.mark.usefixtures("small_images")
def test_lesions_lost_by_a_network_and_kept_by_compressed_sensing_are_counted() -> None:
    config = LesionConfig(
        "validation", ("cs-wavelet", "unet"), accelerations=(4.0,), contrasts=(0.2,), widths=(3.0,), num_places=6
    )
    subjects = [Subject("set/a1", "anna", None, (), config)]
    rows = [scored(0.8, seed, "cs-wavelet") for seed in config.seeds]
    rows += [scored(0.1 if seed else 0.7, seed, "unet") for seed in config.seeds]
    run = LesionRun(config, subjects, rows, FinishedComparisons(None, {}))
    (found,) = against_reference(run, config.methods)
    assert (found.method, found.lost, found.kept, found.total) == ("unet", 12, 0, 18)
    assert found.difference[0.2, 3.0][0] < 0
    (one, other) = cells(run, config.methods)
    assert one.lost == (0, 0, 0)
    assert other.lost == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert invented(run, 4.0, "unet", 0.2, 3.0) == 1


@pytest.mark.usefixtures("small_images")
def test_settings_that_cannot_be_compared_are_refused() -> None:
    for changed, message in (
        ({"seeds": (0,)}, "at least two seeds, got 1"),
        ({"contrasts": (0.0,)}, "contrasts that are not 0"),
        ({"num_places": 3}, "at least two places for each of 2 widths, got 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_lesions(LesionConfig(**{**vars(CONFIG), **changed}))
    with pytest.raises(DataError, match="expected room for 99 lesions"):
        run_lesions(LesionConfig(**{**vars(CONFIG), "num_places": 99}))


def verb(*arguments: object) -> Result:
    given = ["evaluate", "--split", "validation", "--lesions", "--acceleration", "2", "--coil-seeds", "0,1"]
    return CliRunner().invoke(build_app(), [*given, *(str(argument) for argument in arguments)])


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for four lesions."""
    monkeypatch.setattr(LesionConfig.__init__, "__defaults__", (*LesionConfig.__init__.__defaults__[:-3], 4, "", None))


@pytest.mark.usefixtures("small_images", "few_places")
def test_the_verb_writes_json_page_and_pictures_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon_training.evaluation.lesions.run.code_state", lambda: "abc")
    monkeypatch.setattr("sys.argv", ["mri-recon", "evaluate", "--lesions"])
    out, page = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ("--methods", "zero-filled,cs-wavelet,unet", "--json", out, "--markdown", page)
    arguments += ("--option", "cs-wavelet.max_iters=3", "--coils", "2@30")
    from mri_recon_training.evaluation.lesions import run as module

    whole, calls = module._row, []

    def stopped(*given: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(module, "_row", stopped)
    assert verb(*arguments).exit_code != 0
    assert (tmp_path / "out.json.partial").exists()
    result = verb(*arguments)
    assert result.exit_code == 0, result.output
    assert "resuming with 1 finished scans" in result.stderr
    assert len(calls) == 6 + 3 * 4
    assert "lesions it lost" in result.stdout
    content = json.loads(out.read_text())
    assert content["array"] == {"num_coils": 2, "snr": 30, "measured": False}
    assert {row["method"] for row in content["results"]} == {FULL, "zero-filled", "cs-wavelet", "unet"}
    text = page.read_text()
    assert text.startswith("# Lesions kept, lost and invented\n")
    assert "mri-recon evaluate --lesions" in text
    assert "(images/out-lost.png)" in text
    assert (tmp_path / "images" / "out-lost.png").stat().st_size < 300_000
    assert not (tmp_path / "out.json.partial").exists()


def test_one_array_at_a_time() -> None:
    result = verb("--coils", "2,8")
    assert result.exit_code == 2
    assert "expected one array of coils with --lesions, got 2" in result.stderr

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import mri_recon as mr
from mri_recon._system.hashes import file_sha256
from mri_recon.cli import build_app
from mri_recon.errors import CheckpointError, FormatError, MaskError, MethodError
from mri_recon.io import load_result
from mri_recon.masks.convert import column_mask_from_lines
from mri_recon.masks.types import ColumnMask, Mask, PatternMask
from mri_recon.reconstruction import reconstruct_batch
from mri_recon.results import recipe
from mri_recon.results.machine import device_name
from mri_recon.results.provenance import MaskRecord, Provenance, describe, input_file, mask_of, mask_record
from mri_recon.results.replay import replay
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.networks import tiny_weights

METHODS = [
    ("zero-filled", ["combination=adaptive"]),
    ("cg-sense", []),
    *(("cs-wavelet", [f"prior={prior}", "max_iters=12"]) for prior in ("stationary", "orthonormal", "cycle-spinning")),
    ("unet", []),
    ("unrolled", ["data_consistency=exact"]),
    ("auto", ["candidates=cg-sense,cs-wavelet:max_iters=12,unet"]),
]
DRAWN = ["--acceleration", "2", "--num-low-frequencies", "8", "--seed", "3"]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    """Two slices of three coils, 25 x 30, in a folder of their own."""
    kspace = fft2c(torch.tensor([1.0, 2.0])[:, None, None, None] * smooth_maps(3, 25, 30) * phantom(25, 30))
    path = tmp_path / "in" / "coils.npy"
    path.parent.mkdir()
    np.save(path, (kspace + 0.01 * complex_randn(2, 3, 25, 30)).to(torch.complex64).numpy())
    return path


def _result(scan_file: Path, *arguments: object, method: str = "zero-filled", mask: Any = DRAWN) -> Path:
    out = scan_file.parent.parent / "out" / "result.h5"
    out.parent.mkdir(exist_ok=True)
    done = _run("reconstruct", scan_file, "--method", method, *mask, *arguments, "-o", out)
    assert done.exit_code == 0, done.output
    return out


def _change(path: Path, **values: Any) -> None:
    """Write other values into the provenance of a result."""
    with h5py.File(path, "r+") as file:
        file.attrs["provenance"] = json.dumps(json.loads(file.attrs["provenance"]) | values)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_every_method_is_replayed_bit_for_bit(method: str, options: list[str], scan_file: Path, tmp_path: Path) -> None:
    if method in ("unet", "unrolled"):
        options = [*options, f"model={tiny_weights(method, tmp_path)}"]
    out = _result(scan_file, *(part for option in options for part in ("--option", option)), method=method)
    done = _run("replay", out, "--input", scan_file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{out}: {method}: bit-identical\n"


def test_an_adaptation_is_replayed(scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon.methods.adaptation._LEAST_GAIN", -1.0)  # any weights will do
    monkeypatch.setattr("mri_recon.methods.adaptation._LEARNING_RATE", 1e-3)
    options = (f"model={tiny_weights('cascade', tmp_path)}", "adapt=3", "adapt_seed=7")
    out = _result(scan_file, *(part for option in options for part in ("--option", option)), method="unrolled")
    done = replay(out, scan_file)
    assert done.identical
    assert (done.provenance.options["adapt"], done.provenance.options["adapt_seed"]) == (3, 7)


def test_what_is_recorded(scan_file: Path) -> None:
    out = _result(scan_file, "--option", "max_iters=3", "--slice", 1, method="cs-wavelet")
    image, text = load_result(out)
    record = Provenance.model_validate_json(text or "")
    content = scan_file.read_bytes()
    assert record.input.model_dump() == {
        "name": "coils.npy",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "axes": None,
        "variable": None,
        "slices": (1, 2),
    }
    assert (record.method, record.options, record.seed, record.stop) == ("cs-wavelet", {"max_iters": 3}, 3, "max_iters")
    assert (
        record.mask.receipt["lines"]
        == np.flatnonzero(mr.random_mask(30, 2, num_low_frequencies=8, seed=3).lines).tolist()
    )
    assert record.versions["torch"] == version("torch")
    assert set(record.versions) >= {"python", "mri-recon", "numpy", "numba"}
    assert (record.device, record.threads, record.batched) == ("cpu", torch.get_num_threads(), False)
    assert record.image.sha256 == hashlib.sha256(image.tobytes()).hexdigest()
    assert (record.image.shape, record.image.dtype) == ((1, 25, 30), "complex64")
    assert "not for diagnosis" in record.research_only
    assert str(scan_file.parent) not in (text or "")
    assert replay(out, scan_file).identical


@pytest.mark.parametrize("where", ["beside", "here"])
def test_the_input_is_found_by_its_content(where: str, scan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = _result(scan_file)
    folder = out.parent if where == "beside" else scan_file.parent
    if where == "beside":
        scan_file.rename(folder / "renamed.npy")
    monkeypatch.chdir(folder)
    (folder / "decoy.npy").write_bytes(
        bytes((folder / "renamed.npy" if where == "beside" else scan_file).stat().st_size)
    )
    assert _run("replay", out).exit_code == 0


def test_the_input_is_not_found_or_another(scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = _result(scan_file)
    monkeypatch.chdir(out.parent)
    missing = _run("replay", out)
    assert missing.exit_code == 2
    assert "found no such file: name it with --input FILE" in missing.stderr
    with pytest.raises(FormatError, match="expected a file, got .*nothing.npy .No such file"):
        replay(out, tmp_path / "nothing.npy")
    other = tmp_path / "other.npy"
    content = bytearray(scan_file.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    with pytest.raises(FormatError, match="expected coils.npy with SHA-256 .*: it is another file, or was changed"):
        replay(out, other)
    other.write_bytes(bytes(content) + b"x")
    with pytest.raises(FormatError, match=f"of {len(content)} bytes, got .* of {len(content) + 1}: it is another file"):
        replay(out, other)


def test_preparation_and_noise_are_replayed(scan_file: Path, tmp_path: Path) -> None:
    noise = scan_file.parent / "noise.npy"
    np.save(noise, (0.01 * complex_randn(3, 200)).to(torch.complex64).numpy())
    out = _result(
        scan_file, "--prewhiten", noise, "--num-virtual-coils", 2, "--option", "max_iters=4", method="cs-wavelet"
    )
    record = replay(out, scan_file, noise=noise).provenance
    assert record.noise is not None
    assert (record.prewhiten, record.noise.name, record.num_virtual_coils) == ("samples", "noise.npy", 2)
    with pytest.raises(FormatError, match="expected noise.npy .*: name it with --noise FILE"):
        replay(out, scan_file)
    assert _run("replay", out, "--input", scan_file, "--noise", noise).exit_code == 0
    edge = _result(scan_file, "--prewhiten", "edge", method="cg-sense")
    assert replay(edge, scan_file).identical
    assert replay(edge, scan_file).provenance.prewhiten == "edge"


@pytest.mark.parametrize("kind", ["columns", "pattern", "from-zeros", "own"])
def test_masks_from_files_are_replayed_without_them(kind: str, scan_file: Path) -> None:
    pattern = np.random.default_rng(0).random((25, 30)) < 0.5
    pattern[8:17, 10:20] = True
    lines = mr.random_mask(30, 2, num_low_frequencies=8, seed=3).lines
    mask_file = scan_file.parent / "mask.npy"
    np.save(mask_file, pattern if kind == "pattern" else lines)
    given: list[Any] = ["--mask", mask_file]
    if kind in ("from-zeros", "own"):
        kspace = np.load(scan_file) * lines
        scan_file.unlink()
        scan_file = scan_file.with_suffix(".npz")
        np.savez(scan_file, kspace=kspace, **({"mask": lines} if kind == "own" else {}))
        given = ["--mask", "from-zeros"] if kind == "from-zeros" else []
    out = _result(scan_file, "--option", "max_iters=3", "--option", "maps=center", method="cs-wavelet", mask=given)
    mask_file.unlink()
    done = replay(out, scan_file)
    assert done.identical
    assert done.exact
    assert (done.provenance.mask.pattern is not None) == (kind == "pattern")


@pytest.mark.parametrize(
    "mask",
    [
        mr.random_mask(31, 3, num_low_frequencies=5, seed=2),
        column_mask_from_lines(np.arange(31) % 2 == 1, kind="from-zeros", support=np.arange(31) < 30),
        mr.fastmri_random_mask(40, center_fraction=0.1, acceleration=3, seed="file1.h5"),
        PatternMask(np.random.default_rng(0).random((640, 372)) < 0.3, source="a poisson disc"),
    ],
)
def test_a_mask_comes_back_from_its_record(mask: Mask) -> None:
    again = mask_of(MaskRecord.model_validate_json(mask_record(mask).model_dump_json()))
    assert again == mask
    assert type(again) is type(mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"receipt": {"width": 5}}, "expected the record of a mask"),
        ({"pattern": "!"}, "expected the record of a mask"),
        ({"receipt": ColumnMask(np.ones(4, dtype=bool)).receipt() | {"num_lines": 3}}, "another mask than the receipt"),
    ],
)
def test_damaged_masks(changes: dict[str, Any], message: str) -> None:
    record = mask_record(ColumnMask(np.ones(4, dtype=bool))).model_copy(update=changes)
    with pytest.raises(MaskError, match=message):
        mask_of(record)


def test_a_large_pattern_fits_the_file(scan_file: Path, tmp_path: Path) -> None:
    out = _result(scan_file)
    mask = PatternMask(np.random.default_rng(0).random((1024, 1024)) < 0.5)
    text = Provenance.model_validate_json(load_result(out)[1] or "").model_copy(update={"mask": mask_record(mask)})
    result = mr.Reconstruction(torch.ones(1, 4, 5), "zero-filled")
    mr.save(tmp_path / "large.h5", result, provenance=text)
    kept = load_result(tmp_path / "large.h5")[1]
    assert kept is not None
    assert len(kept) > 1 << 17
    assert mask_of(Provenance.model_validate_json(kept).mask) == mask


def test_results_without_provenance_or_with_a_damaged_one(scan_file: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.h5"
    mr.save(plain, mr.Reconstruction(torch.ones(1, 4, 5), "zero-filled"))
    done = _run("replay", plain)
    assert done.exit_code == 2
    assert "plain.h5 has none" in done.stderr
    with pytest.raises(FormatError, match=r"found nothing at .*absent.h5"):
        replay(tmp_path / "absent.h5")
    with pytest.raises(FormatError, match="expected"):
        replay(scan_file)
    out = _result(scan_file)
    _change(out, format=2)
    with pytest.raises(FormatError, match="of format 1 in result.h5, got one with a wrong format"):
        replay(out, scan_file)
    with h5py.File(out, "r+") as file:
        file.attrs["provenance"] = 7
    with pytest.raises(FormatError, match="expected the provenance of result.h5 as one text"):
        replay(out, scan_file)


def test_a_changed_image_is_found_out(scan_file: Path) -> None:
    out = _result(scan_file)
    with h5py.File(out, "r+") as file:
        file["reconstruction"][0, 3, 4] *= 1.01
    with pytest.raises(FormatError, match="expected the image that result.h5 was written with"):
        replay(out, scan_file)


def test_other_versions_are_a_warning(scan_file: Path) -> None:
    out = _result(scan_file)
    versions = Provenance.model_validate_json(load_result(out)[1] or "").versions
    _change(out, versions=versions | {"torch": "1.0"}, device_name="an abacus")
    done = _run("replay", out, "--input", scan_file)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        f"mri-recon: warning: torch was 1.0, is {version('torch')}",
        f"mri-recon: warning: it was computed by an abacus, this is {device_name(torch.device('cpu'))}",
    ]
    assert not replay(out, scan_file).exact


def test_a_device_that_is_not_here(scan_file: Path) -> None:
    out = _result(scan_file)
    _change(out, device="xpu:77")
    done = replay(out, scan_file)
    assert done.differences[0] == "it was computed on xpu:77, which this machine does not have"
    assert done.kept
    assert not done.exact


@pytest.mark.parametrize("threads", [1, 3])
def test_it_runs_with_the_recorded_threads_and_gives_them_back(
    threads: int, scan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = _result(scan_file)
    _change(out, threads=threads)
    seen: list[int] = []
    run = recipe.reconstruct

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return run(*args, **kwargs)

    monkeypatch.setattr(recipe, "reconstruct", noted)
    before = torch.get_num_threads()
    replay(out, scan_file)
    assert seen == [threads]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("factor", "batched", "status", "outcome"),
    [
        (1 + 1e-6, False, 1, "promised: bit-identity"),
        (1 + 1e-6, True, 0, "promised: 0.005"),
        (1 + 1e-2, True, 1, "promised: 0.005"),
    ],
)
def test_another_image_fails_unless_it_is_within_the_promise(
    factor: float, batched: bool, status: int, outcome: str, scan_file: Path
) -> None:
    """The saved image, and its SHA-256, are changed by a factor."""
    out = _result(scan_file)
    image = (load_result(out)[0] * np.float32(factor)).astype(np.float32)
    with h5py.File(out, "r+") as file:
        file["reconstruction"][...] = image
        record = json.loads(file.attrs["provenance"])
    _change(out, batched=batched, image=record["image"] | {"sha256": hashlib.sha256(image.tobytes()).hexdigest()})
    done = _run("replay", out, "--input", scan_file)
    assert done.exit_code == status
    assert outcome in done.stdout
    assert ("computed in a batch" in done.stdout) == batched
    assert replay(out, scan_file).relative_difference == pytest.approx(factor - 1, rel=0.2)


def test_a_result_of_a_batch_is_replayed_within_the_promise(scan_file: Path, tmp_path: Path) -> None:
    scan, weights = mr.load(scan_file), tiny_weights("unrolled", tmp_path)
    masks = [mr.random_mask(30, 2, num_low_frequencies=8, seed=seed) for seed in (0, 1)]
    problems = [(mr.undersample(scan.kspace, mask), mask) for mask in masks]
    result = reconstruct_batch(problems, method="unrolled", model=weights)[1]
    record = describe(result, input_file(scan_file), masks[1], options={"model": weights}, batched=True)
    mr.save(tmp_path / "batched.h5", result, scan, masks[1], provenance=record)
    done = replay(tmp_path / "batched.h5", scan_file)
    assert done.kept
    assert not done.exact


def test_weights_are_found_by_their_content(scan_file: Path, tmp_path: Path) -> None:
    weights = Path(tiny_weights("unet", tmp_path))
    out = _result(scan_file, "--option", f"model={weights}", method="unet")
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (weights, weights.with_suffix(".json")):
        file.rename(moved / file.name)
    lost = _run("replay", out, "--input", scan_file)
    assert lost.exit_code == 2
    assert "expected the weights 'tiny' with SHA-256" in lost.stderr
    assert "name their file with --model FILE" in lost.stderr
    assert _run("replay", out, "--input", scan_file, "--model", moved / weights.name).exit_code == 0
    with pytest.raises(CheckpointError, match="found none among unrolled"):
        replay(out, scan_file, model="unrolled")


def test_every_network_of_auto_is_recorded_and_found_by_its_content(scan_file: Path, tmp_path: Path) -> None:
    weights = [Path(tiny_weights(name, tmp_path)) for name in ("unet", "unrolled")]
    texts = [f"{name}:model={path}" for name, path in zip(("unet", "unrolled"), weights, strict=True)]
    out = _result(scan_file, "--option", f"candidates=cg-sense,{','.join(texts)}", method="auto")
    record = Provenance.model_validate_json(load_result(out)[1] or "")
    assert record.model is None
    assert [one.candidate for one in record.models] == texts
    assert [one.sha256 for one in record.models] == [file_sha256(path) for path in weights]
    assert replay(out, scan_file).identical
    moved = tmp_path / "moved.safetensors"
    weights[1].with_suffix(".json").rename(moved.with_suffix(".json"))
    weights[1].rename(moved)
    assert replay(out, scan_file, model=moved).identical  # the other is where it was
    with pytest.raises(CheckpointError, match=record.models[1].sha256):
        replay(out, scan_file)
    weights[0].write_bytes(moved.read_bytes())
    with pytest.raises(CheckpointError, match=record.models[0].sha256):
        replay(out, scan_file, model=moved)


def test_a_method_that_is_gone(scan_file: Path) -> None:
    out = _result(scan_file)
    _change(out, method="dream")
    with pytest.raises(MethodError, match="expected one of the methods"):
        replay(out, scan_file)


def test_a_comparison_records_every_method(scan_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    arguments = ["--methods", "zero-filled,cg-sense", "--option", "cg-sense.max_iters=3", "--json", path]
    assert _run("compare", scan_file, *DRAWN, *arguments).exit_code == 0
    records = json.loads(path.read_text())["provenance"]
    assert list(records) == ["zero-filled", "cg-sense"]
    alone = load_result(_result(scan_file, "--option", "max_iters=3", method="cg-sense"))[1]
    again = Provenance.model_validate_json(alone or "")
    compared = Provenance.model_validate(records["cg-sense"])
    assert compared.model_copy(update={"created": again.created}) == again


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_input_that_may_not_be_read(scan_file: Path) -> None:
    out = _result(scan_file)
    scan_file.chmod(0)
    with pytest.raises(FormatError, match="cannot read .*coils.npy"):
        replay(out, scan_file)

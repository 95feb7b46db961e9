"""The verbs on several files: tables, resuming after a kill, the same bits by every kind of worker."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import mri_recon as mr
from mri_recon.cli import build_app
from mri_recon.results.averages import MEANS_CONVENTION
from mri_recon.transforms.fourier import fft2c
from tests.support.patience import PATIENCE

BROKEN = "expected an array in NumPy's format in broken.npy, got something else: it is damaged"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def write_scan(path: Path, seed: int) -> None:
    """Write a scan of one coil: two slices, sides that differ from scan to scan."""
    rng = np.random.default_rng(seed)
    h, w = 21 + seed, 34 - seed
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    images = (y**2 + x**2 < 0.7) * np.exp(1j * x) * np.linspace(1, 2, 2)[:, None, None]
    images = images + 0.02 * rng.normal(size=images.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, fft2c(torch.from_numpy(images)).numpy().astype(np.complex64))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three scans, one of them in a folder of its own, and a broken file."""
    folder = tmp_path / "scans"
    for number, name in enumerate(("a.npy", "b.npy", "more/a.npy")):
        write_scan(folder / name, number)
    (folder / "broken.npy").write_bytes(b"\x93NUMPY and no more")
    (folder / "notes.txt").touch()
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def image(path: Path) -> np.ndarray[Any, Any]:
    with h5py.File(path) as file:
        return np.asarray(file["reconstruction_complex"])


def test_reconstruct_a_folder(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("reconstruct", scans, "--method", "cg-sense", "--acceleration", 3, "-o", out, "--workers", 2)
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert "3 of 4 files done, 1 failed" in result.stdout
    assert f"mri-recon: failed: broken.npy: {BROKEN}" in result.stderr
    assert "1 files in the folders are no k-space by their names" in result.stderr
    rows = rows_of(out / "results.csv")
    assert [(row["file"], row["status"]) for row in rows] == [
        ("a.npy", "done"), ("b.npy", "done"), ("broken.npy", "failed"), ("more/a.npy", "done"),
    ]  # fmt: skip
    assert rows[2]["error"] == BROKEN
    assert rows[3]["output"] == str(out / "more" / "a.h5")
    assert [rows[0][key] for key in ("slices", "height", "width", "acceleration")] == ["2", "21", "34", "3.0"]
    document = json.loads((out / "results.json").read_text())
    assert document["failed"] == {"broken.npy": BROKEN}
    assert [one["file"] for one in document["results"]] == ["a.npy", "b.npy", "more/a.npy"]
    scan = mr.load(scans / "more" / "a.npy")
    mask = mr.random_mask(scan.width, 3, seed=0, support=scan.support)
    alone = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cg-sense")
    np.testing.assert_allclose(image(out / "more" / "a.h5"), alone.image.numpy(), rtol=1e-4, atol=1e-6)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    again = run(*arguments)
    assert again.exit_code == 1
    assert "3 of 4 files are done and unchanged; 1 to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")} == before
    assert rows_of(out / "results.csv") == rows
    kept = run(*arguments, "--no-retry-failed")
    assert kept.exit_code == 1
    assert "4 of 4 files are done and unchanged (1 failed and left aside by --no-retry-failed); 0 to do" in kept.stderr
    assert f"mri-recon: failed: broken.npy: {BROKEN}" in kept.stderr
    assert rows_of(out / "results.csv") == rows


def test_results_in_the_folder_of_the_scans_are_no_scans(scans: Path) -> None:
    arguments = ("reconstruct", scans, "--method", "zero-filled", "--acceleration", 3, "-o", scans / "out")
    assert run(*arguments, "--workers", 1).exit_code == 1
    second = run(*arguments, "--workers", 1)
    assert "3 of 4 files done" in second.stdout


def test_a_result_never_replaces_a_scan(scans: Path) -> None:
    arguments = ("reconstruct", scans / "a.npy", scans / "b.npy", "--method", "zero-filled", "--acceleration", 3)
    before = (scans / "a.npy").read_bytes()
    result = run(*arguments, "-o", scans, "--suffix", ".npy")
    assert result.exit_code == 2
    assert "the result of a.npy would replace the input" in result.stderr
    assert (scans / "a.npy").read_bytes() == before
    assert not (scans / "results.csv").exists()
    mask = scans / "kept.npy"
    np.save(mask, np.ones(34, dtype=bool))
    rest = ("-o", scans, "--suffix", ".npy", "--mask", mask)
    np.savez(scans / "kept.npz", kspace=np.load(scans / "a.npy"))
    result = run("reconstruct", scans / "kept.npz", scans / "more" / "a.npy", "--method", "zero-filled", *rest)
    assert result.exit_code == 2
    assert "the result of kept.npz would replace the file of --mask" in result.stderr


def test_results_of_one_name_keep_the_suffix_of_their_scan(scans: Path, tmp_path: Path) -> None:
    np.savez(scans / "a.npz", kspace=np.load(scans / "a.npy"))
    np.save(scans / "results.npy", np.load(scans / "a.npy"))
    found = run(
        "reconstruct", scans / "*a.np?", scans / "results.npy", "--method", "zero-filled", "--acceleration", 3,
        "-o", tmp_path / "out", "--suffix", "nii.gz", "--workers", 1,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".gz"}
    # A NIfTI has a .json beside it, and results.json is the list of all results.
    assert names == {"a.npy.nii.gz", "a.npz.nii.gz", "results.npy.nii.gz"}


def test_one_file_that_fails_is_nothing_done(scans: Path, tmp_path: Path) -> None:
    result = run("reconstruct", scans / "brok*", "--method", "zero-filled", "--acceleration", 3, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "0 of 1 files done, 1 failed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none*",), "expected files of k-space in .*none\\*, found none that end in"),
        ((".", "--suffix", ".jpg"), "--suffix: expected a name that ends in"),
        ((".", "--workers", "some"), "--workers: expected a number from 1 to 256, or ray"),
        ((".", "-o", "a.npy"), "-o: expected a folder, got .*a.npy, which is a file"),
        ((".", "--option", "nonsense=1"), "expected no option|expected one of its options"),
    ],
)
def test_impossible_arguments_are_one_line_before_any_work(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(scans)
    given = ["-o", str(tmp_path / "out")] if "-o" not in arguments else []
    result = run("reconstruct", *arguments, *given, "--method", "zero-filled", "--acceleration", 3)
    assert result.exit_code == 2
    (line,) = [one for one in result.stderr.splitlines() if "error:" in one]
    assert re.search(message, line), line
    assert not list((tmp_path / "out").glob("*.h5"))


def test_compare_and_evaluate_a_folder(scans: Path, tmp_path: Path) -> None:
    """Means go over the masks of a scan, then over the scans of a person: two folders are two persons."""
    table, document = tmp_path / "out.csv", tmp_path / "out.json"
    common = ("--methods", "zero-filled,cg-sense", "--csv", table, "--json", document, "--persons", "folder")
    more = ("--foreground", "--workers", 1)
    result = run("compare", scans, "--acceleration", 3, *common, *more, "--figure", tmp_path / "pictures")
    assert result.exit_code == 1, result.output
    assert MEANS_CONVENTION in result.stdout
    assert "3 files, 2 persons" in result.stdout
    assert {path.relative_to(tmp_path / "pictures").as_posix() for path in (tmp_path / "pictures").rglob("*.png")} == {
        "a.npy.png", "b.npy.png", "more/a.npy.png",
    }  # fmt: skip
    found = json.loads(document.read_text())
    assert found["persons"] == {"a.npy": "scans", "b.npy": "scans", "more/a.npy": "more"}
    assert found["failed"] == {"broken.npy": BROKEN}
    psnr = {row["file"]: row["psnr"] for row in found["results"] if row["method"] == "cg-sense"}
    mean = next(one for one in found["means"]["rows"] if one["method"] == "cg-sense")
    assert mean["psnr"] == pytest.approx(((psnr["a.npy"] + psnr["b.npy"]) / 2 + psnr["more/a.npy"]) / 2)
    rows = rows_of(table)
    assert [row["error"] for row in rows if row["file"] == "broken.npy"] == [BROKEN]
    assert [float(row["psnr"]) for row in rows if row["method"] == "cg-sense"] == list(psnr.values())
    assert all(row["foreground_ssim"] for row in rows if row["status"] == "done")

    result = run("evaluate", scans, "--acceleration", "2,3", "--seeds", "0,4", *common, "--workers", 1)
    assert result.exit_code == 1, result.output
    assert "are done and unchanged" not in result.stderr, "other settings"
    assert "3 files were done with other settings" in result.stderr
    found = json.loads(document.read_text())
    assert len(found["results"]) == 3 * 2 * 2 * 2
    psnrs = [
        row["psnr"]
        for row in found["results"]
        if (row["file"], row["method"], row["acceleration"]) == ("a.npy", "cg-sense", 3)
    ]
    assert psnrs[0] == psnr["a.npy"]
    assert len(psnrs) == 2
    rows = rows_of(table)
    again = run("evaluate", scans, "--acceleration", "2,3", "--seeds", "0,4", *common, "--workers", 1)
    assert "3 of 4 files are done and unchanged" in again.stderr
    assert rows_of(table) == rows


def test_the_persons_of_a_table(scans: Path, tmp_path: Path) -> None:
    who = tmp_path / "who.csv"
    arguments = ("compare", scans / "a.npy", scans / "b.npy", "--methods", "zero-filled", "--acceleration", 2)
    for content, message in (
        ("file,person\na.npy,anna\n", "expected a row for every file in .*who.csv, got none for b.npy"),
        ("name,person\na.npy,anna\n", "expected the columns file and person in .*who.csv, got name, person"),
        ("", "got no rows"),
    ):
        who.write_text(content)
        result = run(*arguments, "--persons", who)
        assert result.exit_code == 2
        assert re.search(message, result.stderr), result.stderr
    who.write_text("person,file\nanna,a.npy\nanna,b.npy\n")
    result = run(*arguments, "--persons", who, "--workers", 1, "--json", "-")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["persons"].values()) == {"anna"}
    assert "2 files, 1 person" in result.stderr


def test_evaluate_takes_files_or_a_split(scans: Path) -> None:
    for arguments, message in (
        ((), "expected FILEs, or --split validation or test"),
        ((scans, "--split", "test"), "one of the two"),
        ((scans, "--curve", "2", "--lesions"), "expected --curve and --lesions with --split"),
        (("--split", "test", "--persons", "folder"), "expected --persons with FILEs"),
    ):
        result = run("evaluate", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_table_of_one_scan(scans: Path, tmp_path: Path) -> None:
    result = run(
        "compare", scans / "a.npy", "--methods", "zero-filled", "--acceleration", 2, "--csv", tmp_path / "one.csv"
    )
    assert result.exit_code == 0, result.output
    (row,) = rows_of(tmp_path / "one.csv")
    assert (row["file"], row["method"], row["status"]) == ("a.npy", "zero-filled", "done")
    assert not (tmp_path / "one.csv.journal").exists()


def test_every_number_of_workers_gives_the_same_bits(scans: Path, tmp_path: Path) -> None:
    images = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        run(
            "reconstruct", scans / "?.npy", "--method", "cs-wavelet", "--option", "max_iters=20",
            "--acceleration", 3, "-o", out, "--workers", workers,
        )  # fmt: skip
        images[workers] = [image(out / name) for name in ("a.h5", "b.h5")]
    assert all(np.array_equal(one, two) for one, two in zip(*images.values(), strict=True))


@pytest.mark.slow  # two processes and Ray
@pytest.mark.ray
def test_ray_gives_the_same_bits(scans: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    images = {}
    for workers in ("1", "ray"):
        out = tmp_path / workers
        command = [
            sys.executable, "-m", "mri_recon.cli", "reconstruct", str(scans), "--method", "cs-wavelet", "--option",
            "max_iters=20", "--acceleration", "3", "-o", str(out), "--workers", workers,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1, done.stderr
        assert f"failed: broken.npy: {BROKEN}" in done.stderr
        images[workers] = [image(out / name) for name in ("a.h5", "b.h5", "more/a.h5")]
    assert all(np.array_equal(one, two) for one, two in zip(*images.values(), strict=True))


def _records(journal: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not record["error"]:
            found[record["name"]] = record
    return found


def _children(number: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


@pytest.mark.slow  # two whole runs in processes of their own
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the processes are read from /proc")
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """A folder with broken files, killed in the middle and resumed: the right table, and nothing done twice."""
    scans, out = tmp_path / "scans", tmp_path / "out"
    for number in range(8):
        write_scan(scans / f"{number}.npy", number)
    for name in ("broken.npy", "short.h5", "empty.mat"):
        (scans / name).write_bytes(b"" if name == "empty.mat" else b"\x93NUMPY nothing")
    command = [
        sys.executable, "-m", "mri_recon.cli", "reconstruct", str(scans), "--method", "cs-wavelet", "--acceleration",
        "3", "--option", "max_iters=300", "--option", "gap_tol=0", "-o", str(out), "--workers", "2",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(_records(out / "results.journal")) < 3:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = _children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children):  # they end with their parent
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = _records(out / "results.journal")
    assert 3 <= len(before) < 8
    times = {name: Path(record["result"]["output"]).stat().st_mtime_ns for name, record in before.items()}
    with (out / "results.journal").open("ab") as file:
        file.write(b'{"format": 1, "na')  # it was killed while it wrote

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    assert f"{len(before)} of 11 files are done and unchanged; {11 - len(before)} to do" in done.stderr
    assert "8 of 11 files done, 3 failed" in done.stdout
    rows = {row["file"]: row for row in rows_of(out / "results.csv")}
    assert [name for name, row in rows.items() if row["status"] == "failed"] == ["broken.npy", "empty.mat", "short.h5"]
    assert rows["broken.npy"]["error"] == BROKEN
    lines = [json.loads(line) for line in (out / "results.journal").read_bytes().splitlines() if line.endswith(b"}")]
    done_lines = sorted(line["name"] for line in lines if not line["error"])
    assert done_lines == [f"{number}.npy" for number in range(8)], "each once"
    after = _records(out / "results.journal")
    assert {name: after[name] for name in before} == before
    assert {name: Path(record["result"]["output"]).stat().st_mtime_ns for name, record in before.items()} == times
    assert not list(out.glob(".*")), "no half-written file is left"


def test_an_interrupt_says_how_to_go_on(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(6):
        write_scan(scans / f"more-{number}.npy", number)
    command = [
        sys.executable, "-m", "mri_recon.cli", "reconstruct", str(scans), "--method", "cs-wavelet", "--acceleration",
        "3", "--option", "max_iters=300", "--option", "gap_tol=0", "-o", str(out), "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not _records(out / "results.journal"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("mri-recon: interrupted: ")
    assert "of 10 files are done; the same command goes on with the rest" in errors.splitlines()[-1]

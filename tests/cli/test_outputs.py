"""What the command writes: nothing that it reads, nothing twice, and files that are what their names say."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

import mri_recon as mr
from mri_recon._system.jsonable import jsonable
from mri_recon.cli import build_app

LINKS = ("same", "symlink", "hard link")
ONE = ["--method", "zero-filled", "--acceleration", "2"]
MANY = ["--methods", "zero-filled", "--acceleration", "2"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def kspace(slices: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((slices, 2, 32, 24)) + 1j * rng.standard_normal((slices, 2, 32, 24))).astype("c8")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Every kind of input under the suffix of each output: scans, masks, noise and weights."""
    with tempfile.TemporaryDirectory() as name:
        for suffix in ("npy", "h5", "json", "png", "svg"):
            for what, array in (
                ("scan", kspace()),
                ("mask", np.arange(24) % 2 == 0),
                ("noise", kspace()[0].reshape(2, -1)),
            ):
                with Path(name, f"{what}.{suffix}").open("wb") as file:
                    np.save(file, array)
        yield Path(name)


@given(data=st.data())
def test_no_output_replaces_an_input(folder: Path, data: st.DataObject) -> None:
    """Each output option against each option that reads, under each kind of link."""
    option, suffix = data.draw(st.sampled_from([("-o", "h5"), ("-o", "npy"), ("--json", "json"), ("--figure", "svg")]))
    what = data.draw(st.sampled_from(["scan", "mask", "noise", "model"]))
    kind = data.draw(st.sampled_from(LINKS))
    target = folder / f"{'scan' if what == 'model' else what}.{suffix}"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    output = target
    if kind != "same":
        output = folder / f"alias.{suffix}"
        output.symlink_to(target) if kind == "symlink" else output.hardlink_to(target)
    try:
        scan = target if what == "scan" else folder / "scan.npy"
        one = option == "-o"
        arguments = ["reconstruct" if one else "compare", scan, *(ONE if one else MANY), option, output]
        arguments += {"mask": ["--mask", target], "noise": ["--prewhiten", target]}.get(what, [])
        if what == "model":
            arguments[3] = "unet"
            arguments += ["--option", f"{'' if one else 'unet.'}model={target}"]
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert f"expected {option} to name a file of its own, got {output}, which is the" in done.stderr
        assert done.stdout == ""
    finally:
        if kind != "same":
            output.unlink()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("model", ["beside", "shipped"])
def test_no_output_replaces_the_card_of_weights(model: str, kind: str, folder: Path, tmp_path: Path) -> None:
    """Weights are two files, and a command names one of them, or none."""
    shipped = Path(mr.__file__).parent / "weights" / "unet.json"
    card = shipped if model == "shipped" else tmp_path / "mine.json"
    if model == "beside":
        card.write_bytes(shipped.read_bytes())
        card.with_suffix(".safetensors").write_bytes(b"weights")
    if kind == "hard link" and model == "shipped":
        pytest.skip("the package may lie on another file system")
    output = card if kind == "same" else tmp_path / "alias.json"
    if kind != "same":
        output.symlink_to(card) if kind == "symlink" else output.hardlink_to(card)
    before = card.read_bytes()
    option = [] if model == "shipped" else ["--option", f"unet.model={card.with_suffix('.safetensors')}"]
    done = run("compare", folder / "scan.npy", *MANY[2:], "--methods", "unet", *option, "--json", output)
    assert done.exit_code == 2, done.output
    expected = "a file of the shipped weights" if model == "shipped" else "the model card of the option model"
    assert f"which is {expected}" in done.stderr
    assert card.read_bytes() == before


@pytest.mark.parametrize("exists", [True, False])
def test_outputs_of_one_command(exists: bool, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if exists:
        target.touch()
    for name in ("a.json", "a.png"):
        (tmp_path / name).symlink_to("target")
    done = run("compare", folder / "scan.npy", *MANY, "--json", tmp_path / "a.json", "--figure", tmp_path / "a.png")
    assert done.exit_code == 2
    assert "expected --figure to name a file of its own" in done.stderr
    assert "which is --json" in done.stderr
    assert target.exists() is exists


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["reconstruct", *ONE, "-o", "out.tif"],
            "-o: expected a name that ends in .h5, .hdf5, .npy, .npz, .mat,",
        ),
        (["reconstruct", *ONE, "-o", "out"], "which says the format, got out"),
        (["reconstruct", *ONE, "-o", "-"], "expected the name of a file, got -: name one"),
        (["reconstruct", *ONE, "-o", "/dev/null"], "it is a device"),
        (["reconstruct", *ONE, "-o", "/proc/out.h5"], "can be written to"),
        (["compare", *MANY, "--json", "out.txt"], "--json: expected a name that ends in .json"),
        (["compare", *MANY, "--figure", "out.jpg"], "--figure: expected a name that ends in .png, .pdf or .svg"),
        (["compare", *MANY, "--figure", "-"], "--figure: expected the name of a file, got -"),
    ],
)
def test_refused_before_the_work(
    arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mri_recon.io.load", lambda *_, **__: pytest.fail("work was done"))
    done = run(arguments[0], folder / "scan.npy", *arguments[1:])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_json_on_standard_output(folder: Path, tmp_path: Path) -> None:
    """Standard output has the document alone; the table is on standard error."""
    done = run("compare", folder / "scan.npy", *MANY, "--json", "-", "--figure", tmp_path / "a.pdf")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["results"][0]["method"] == "zero-filled"
    assert "PSNR / dB" in done.stderr
    assert f"picture: {tmp_path / 'a.pdf'}" in done.stderr


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("PDF", b"%PDF-"), ("svg", b"<?xml")])
def test_pictures_are_what_their_names_say(suffix: str, start: bytes, folder: Path, tmp_path: Path) -> None:
    done = run("compare", folder / "scan.npy", *MANY, "--figure", tmp_path / f"a.{suffix}")
    assert done.exit_code == 0, done.output
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)


def test_what_a_format_leaves_out_is_said(folder: Path, tmp_path: Path) -> None:
    for suffix, words in (
        ("h5", ""),
        ("npy", ".npy holds the float32 magnitudes alone, no mask, no map of trust and no provenance"),
        ("npz", "replay reads .h5 only"),
        ("mat", "replay reads .h5 only"),
        ("png", ".png holds magnitudes from 0 (black) to "),
    ):
        done = run("reconstruct", folder / "scan.npy", *ONE, "-o", tmp_path / f"a.{suffix}")
        assert done.exit_code == 0, done.output
        assert words in done.stdout
        assert len(done.stdout.splitlines()) == (2 if words else 1)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "I;16"


def test_a_hard_link_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    (tmp_path / "b.h5").hardlink_to(tmp_path / "a.h5")
    done = run("reconstruct", folder / "scan.npy", *ONE, "-o", tmp_path / "a.h5")
    assert done.exit_code == 0
    assert "warning:" in done.stderr
    assert "has 2 names (hard links)" in done.stderr
    assert (tmp_path / "b.h5").stat().st_size == 0


NAMES = [
    "scan [copy].npy",
    "[bold]x[red] :smile:.npy",
    os.fsdecode(b"k\xff\xfex.npy"),
    "sp\u00e4t \u8133.npy",
    "two\nlines.npy",
    "esc\x1b[2J\x1b]0;title\x07.npy",
    "c1\x9b31m\u202egnp.npy",
    "-dash.npy",
    "--json",
    "$\\frac{1}{$ $x$.npy",
    "quo'te\"\\.npy",
    "x" * 251 + ".npy",
    " two  blanks .npy",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name(name: str, tmp_path: Path) -> None:
    """As input, and with a suffix as output: in tables, JSON, HDF5, provenance and pictures."""
    scan = tmp_path / name
    with scan.open("wb") as file:
        np.save(file, kspace())
    stem = os.fsdecode(os.fsencode(name)[:240])
    outputs = [tmp_path / f"{stem}{suffix}" for suffix in (".h5", ".json", ".png")]
    done = run("reconstruct", scan, *ONE, "-o", outputs[0])
    assert done.exit_code == 0, done.output
    compared = run("compare", scan, *MANY, "--json", outputs[1], "--figure", outputs[2])
    assert compared.exit_code == 0, compared.output
    told = run("info", scan)
    assert told.exit_code == 0, told.output
    for result in (done, compared, told):
        for one in result.stdout + result.stderr:
            assert one.isprintable() or one == "\n"
    plain = name.isprintable()
    if plain and len(name) < 100:
        assert name in compared.stdout
        assert name in told.stdout
    row = json.loads(outputs[1].read_text())["results"][0]
    assert row["file"] == jsonable(name)
    _, text = mr.io.load_result(outputs[0])
    assert json.loads(text or "")["input"]["name"] == jsonable(name)
    replayed = run("replay", outputs[0], "--input", scan)
    assert replayed.exit_code == 0, replayed.output
    assert len(list(tmp_path.iterdir())) == 4
    missing = run("info", tmp_path / "absent" / name)
    assert missing.exit_code == 2
    assert len(missing.stderr.splitlines()) == 1


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 47} & set(name)))
def test_any_bytes(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        scan = Path(place, os.fsdecode(name) + ".npy")
        with scan.open("wb") as file:
            np.save(file, kspace())
        out = Path(place, os.fsdecode(name) + ".h5")
        done = run("reconstruct", scan, *ONE, "-o", out)
        assert done.exit_code == 0, done.output
        assert "\x1b" not in done.stdout
        assert len(done.stdout.splitlines()) == 1
        assert sorted(Path(place).iterdir()) == sorted([scan, out])


def test_a_table_on_a_terminal_of_ascii(folder: Path, tmp_path: Path) -> None:
    """In a real process: every character that the stream lacks is escaped."""
    scan = tmp_path / "sp\u00e4t \u8133.npy"
    scan.write_bytes((folder / "scan.npy").read_bytes())
    done = start("compare", scan, *MANY, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"sp\\xe4t \\u8133.npy" in done.stdout
    assert done.stdout.isascii()


def start(*arguments: object, limit: int | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = Path(sys.executable).with_name("mri-recon")

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        preexec_fn=restrict,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
        timeout=240,
    )


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """In place of a full disk, a limit on the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """In a real process, which the HDF5 library would end by a signal at its exit."""
    scan, out = tmp_path / "scan.npy", tmp_path / "out.h5"
    with scan.open("wb") as file:
        np.save(file, kspace(8))
    done = start("reconstruct", scan, *ONE, "-o", out, limit=5000)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    line = done.stderr.decode().splitlines()[-1]  # above it may be lines on the progress of the work
    assert line.startswith(f"mri-recon: error: cannot write {out} (File too large): free some space")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npy"]


@pytest.mark.parametrize("suffix", ["h5", "npy", "npz", "mat", "png", "json", "pdf"])
def test_a_full_disk_keeps_the_old_result(suffix: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    out.write_bytes(b"old")
    option = {"json": "--json", "pdf": "--figure"}.get(suffix, "-o")
    with small_disk(700):
        verb = ["reconstruct", folder / "scan.npy", *ONE] if option == "-o" else ["compare", folder / "scan.npy", *MANY]
        done = run(*verb, option, out)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert "free some space" in done.stderr.splitlines()[-1]
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_new_files_follow_the_umask(folder: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert run("reconstruct", folder / "scan.npy", *ONE, "-o", tmp_path / "a.h5").exit_code == 0
        arguments = ["--json", tmp_path / "a.json", "--figure", tmp_path / "a.png"]
        assert run("compare", folder / "scan.npy", *MANY, *arguments).exit_code == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_attributes_of_a_scan_cannot_control_the_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `info` shows may come from anywhere."""
    monkeypatch.setattr("mri_recon.results.summary.summarize", lambda scan: [("note", "[red]\x1b[2J\udcff")])
    assert "[red]\\x1b[2J\\xff" in run("info", folder / "scan.npy").stdout

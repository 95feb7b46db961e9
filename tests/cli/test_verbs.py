from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from typer.testing import CliRunner, Result

import mri_recon as mr
from mri_recon.cli import COMMAND_GROUP, build_app, options_by_method, parse_option
from mri_recon.cli.plug_ins import help_of
from mri_recon.embedded_sample import sample_path
from mri_recon.errors import ConfigError, MethodError
from mri_recon.methods.checks import num_runs
from mri_recon.transforms.fourier import fft2c
from tests.support.methods import BUILT_IN
from tests.support.patience import PATIENCE


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def fails(*arguments: object) -> str:
    """Run, expect the exit status of an expected error, and give its one line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("mri-recon: error: ")
    assert result.stdout == ""
    return line


def fails_last(*arguments: object) -> str:
    """As `fails`, where warnings may stand before the line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("mri-recon: error: ")
    return result.stderr.splitlines()[-1]


def _kspace(*shape: int) -> np.ndarray[Any, Any]:
    slices, coils, h, w = shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    disc = (y**2 + x**2 < 0.7) * np.exp(1j * x)
    maps = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2) for a, b in rng.uniform(-1, 1, (coils, 2))])
    images = disc * maps * np.linspace(1, 2, slices)[:, None, None, None]
    images = images + 0.02 * rng.normal(size=images.shape)
    return fft2c(torch.from_numpy(images)).numpy().astype(np.complex64)


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    """Fully sampled: 3 slices, 1 coil, 21 x 34."""
    path = tmp_path / "scan.npy"
    np.save(path, _kspace(3, 1, 21, 34)[:, 0])
    return path


@pytest.fixture
def coils_file(tmp_path: Path) -> Path:
    path = tmp_path / "coils.npy"
    np.save(path, _kspace(2, 3, 25, 30))
    return path


@pytest.fixture
def undersampled_file(tmp_path: Path) -> Path:
    """A fastMRI test file: masked k-space and its mask, no reference."""
    mask = mr.random_mask(30, 3, num_low_frequencies=6, seed=4)
    path = tmp_path / "test.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = _kspace(2, 3, 25, 30) * mask.lines
        file["mask"] = mask.lines
    return path


def test_info(scan_file: Path) -> None:
    result = run("info", scan_file)
    assert result.exit_code == 0, result.output
    output = " ".join(result.stdout.split())
    assert "3 slices x 1 coils x 21 readout x 34 phase" in output
    assert "34 of 34 columns" in output
    assert "realised acceleration 1.00" in output
    assert re.search(r"noise sigma [0-9.]+ from \d+ samples", output)
    assert "median of |sample| / sqrt(ln 2)" in output
    assert "assumed" in output


def test_info_of_an_undersampled_scan(undersampled_file: Path) -> None:
    output = " ".join(run("info", undersampled_file).stdout.split())
    assert "10 of 30 columns, by the file's own mask" in output
    assert "realised acceleration 3.00" in output


def test_axes_can_be_given(scan_file: Path) -> None:
    output = " ".join(run("info", scan_file, "--axes", "coil readout phase").stdout.split())
    assert "1 slices x 3 coils x 21 readout x 34 phase" in output
    assert "assumed" not in output


@pytest.mark.parametrize("method", ["zero-filled", "cs-wavelet"])
def test_the_command_writes_the_array_of_the_python_call(method: str, coils_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    options = {"max_iters": 7} if method == "cs-wavelet" else {}
    extra = [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
    arguments = ["--method", method, "--acceleration", 2, "--num-low-frequencies", 6, "--seed", 3, *extra]
    result = run("reconstruct", coils_file, *arguments, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: {method}, 2 x 25 x 30 (slice x h x w), ")
    scan = mr.load(coils_file)
    mask = mr.random_mask(scan.width, 2, num_low_frequencies=6, seed=3)
    expected = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method=method, **options)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["reconstruction"][()], expected.magnitude.numpy())


def test_the_holdout_check_is_said(coils_file: Path, tmp_path: Path) -> None:
    arguments = ["--method", "cg-sense", "--acceleration", 2, "--num-low-frequencies", 8, "-o", tmp_path / "out.npy"]
    found = run("reconstruct", coils_file, *arguments, "--check", "holdout")
    assert found.exit_code == 0, found.output
    said = "dB on 4 lines that the method was not shown (0 dB: predicts nothing; lower is better; noise alone"
    assert said in found.stdout
    assert "Hold-out check" not in run("reconstruct", coils_file, *arguments).stdout
    assert f"runs {num_runs('holdout')} times" in " ".join(run("reconstruct", "--help").stdout.replace("│", "").split())


def test_another_seed_gives_another_image(scan_file: Path, tmp_path: Path) -> None:
    images = []
    for seed in (0, 1):
        out = tmp_path / f"{seed}.h5"
        arguments = ["--method", "zero-filled", "--acceleration", 4, "--seed", seed, "-o", out]
        assert run("reconstruct", scan_file, *arguments).exit_code == 0
        with h5py.File(out) as file:
            images.append(file["reconstruction"][()])
    assert not np.allclose(images[0], images[1])


def test_one_slice_is_that_of_the_whole(scan_file: Path, tmp_path: Path) -> None:
    arguments = ["--method", "zero-filled", "--acceleration", 4]
    run("reconstruct", scan_file, *arguments, "-o", tmp_path / "all.h5")
    assert run("reconstruct", scan_file, *arguments, "--slice", 1, "-o", tmp_path / "one.h5").exit_code == 0
    with h5py.File(tmp_path / "all.h5") as whole, h5py.File(tmp_path / "one.h5") as one:
        assert one["reconstruction"].shape == (1, 21, 34)
        np.testing.assert_allclose(one["reconstruction"][0], whole["reconstruction"][1], rtol=1e-5)


def test_the_files_own_mask_is_used(undersampled_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    result = run("reconstruct", undersampled_file, "--method", "zero-filled", "-o", out)
    assert result.exit_code == 0, result.output
    with h5py.File(out) as file:
        assert file["reconstruction"].shape[0] == 2


def test_a_mask_file_and_a_kind(scan_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.arange(34) % 2 == 1)
    result = run("compare", scan_file, "--mask", tmp_path / "mask.npy", "--methods", "zero-filled")
    assert result.exit_code == 0, result.output
    assert "17 of 34" in result.stdout
    result = run("compare", scan_file, "--acceleration", 4, "--mask-kind", "equispaced", "--methods", "zero-filled")
    assert "equispaced columns" in result.stdout


def test_compare(coils_file: Path, tmp_path: Path) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "out.png"
    methods = "zero-filled, cs-wavelet"
    option = ["--option", "cs-wavelet.max_iters=5", "--option", "cs-wavelet.reg_weight=0.02"]
    arguments = ["--acceleration", 2, "--center-fraction", 0.2, "--methods", methods, *option, "--slice", 0]
    result = run("compare", coils_file, *arguments, "--json", out, "--figure", figure)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert list(document) == ["convention", "mask", "results", "provenance"]
    assert document["mask"]["num_low_frequencies"] == 6
    assert [row["method"] for row in document["results"]] == ["zero-filled", "cs-wavelet"]
    assert document["results"][1]["info"]["reg_weight"] == 0.02
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "R = 2 requested, 2.00 achieved" in result.stdout
    for row in document["results"]:
        assert re.search(rf"{row['method']} +. +{row['nmse']:.4f} +. +{row['psnr']:.2f}", result.stdout), result.stdout
        assert row["file"] == "coils.npy"
    assert document["convention"] in result.stdout


def test_compare_is_the_python_call(coils_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    run("compare", coils_file, "--acceleration", 2, "--center-fraction", 0.2, "--methods", "cg-sense", "--json", out)
    scan = mr.load(coils_file)
    mask = mr.random_mask(scan.width, 2, center_fraction=0.2, seed=0)
    expected = mr.compare(scan, mask, ["cg-sense"]).rows[0]
    (row,) = json.loads(out.read_text())["results"]
    assert {key: row[key] for key in ("nmse", "psnr", "ssim")} == {
        key: expected[key] for key in ("nmse", "psnr", "ssim")
    }


def test_compare_without_a_reference(undersampled_file: Path, tmp_path: Path) -> None:
    arguments = ["--methods", "zero-filled", "--json", tmp_path / "o.json", "--figure", tmp_path / "o.png"]
    result = run("compare", undersampled_file, *arguments)
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "o.json").read_text())["results"]
    assert row["psnr"] is None


def test_the_foreground_is_a_second_set_of_columns(scan_file: Path) -> None:
    result = run("compare", scan_file, "--acceleration", 4, "--methods", "zero-filled", "--foreground")
    assert "PSNR fg" in result.stdout
    assert "Foreground only" in result.stdout


@pytest.fixture
def noise_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "noise.npy"
    np.save(path, np.array([[1], [2], [3]]) * (rng.normal(size=(3, 90)) + 1j * rng.normal(size=(3, 90))))
    return path


@pytest.mark.parametrize("edge", [False, True])
def test_the_data_are_prepared_as_in_python(edge: bool, coils_file: Path, noise_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    prepared = ["--prewhiten", "edge" if edge else noise_file, "--num-virtual-coils", 2]
    arguments = ["--method", "cg-sense", "--acceleration", 2, "--num-low-frequencies", 6, *prepared]
    result = run("reconstruct", coils_file, *arguments, "-o", out)
    assert result.exit_code == 0, result.output
    noise = r"\d+ noise samples of the edge of k-space" if edge else "90 given noise samples"
    told = rf"Pre-whitened by {noise}; 3 coils compressed to 2, [0-9.]+ % of the energy\."
    assert re.search(told, result.stdout), result.stdout
    scan = mr.load(coils_file)
    mask = mr.random_mask(scan.width, 2, num_low_frequencies=6, seed=0)
    prewhiten = "edge" if edge else torch.from_numpy(np.load(noise_file)).to(torch.complex64)
    expected = mr.reconstruct(
        mr.undersample(scan.kspace, mask), mask, method="cg-sense", prewhiten=prewhiten, num_virtual_coils=2
    )
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["reconstruction"][()], expected.magnitude.numpy())
        info = json.loads(file.attrs["info"])
    assert info["preparation"] == expected.info["preparation"]
    assert info["maps"] == "espirit"


def test_compare_prepares_the_data_once_for_all(coils_file: Path, noise_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--acceleration", 2, "--num-low-frequencies", 6, "--methods", "zero-filled,cg-sense", "--json", out]
    result = run("compare", coils_file, *arguments, "--prewhiten", noise_file, "--option", "cg-sense.maps=center")
    assert result.exit_code == 0, result.output
    assert "Pre-whitened by 90 given noise samples." in result.stdout
    rows = json.loads(out.read_text())["results"]
    assert rows[0]["info"]["preparation"] == rows[1]["info"]["preparation"]
    assert rows[0]["info"]["preparation"]["noise_samples"] == 90
    assert rows[1]["info"]["maps"] == "center"
    result = run("compare", coils_file, *arguments)
    assert "whitened" not in result.stdout
    assert "preparation" not in json.loads(out.read_text())["results"][0]["info"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "zero-filled", "--acceleration", 4, "--prewhiten", "none.npy"], "found nothing at none.npy"),
        (["--method", "zero-filled", "--acceleration", 4, "--num-virtual-coils", 2], "between 1 and 1 virtual coils"),
        (["--method", "cg-sense", "--acceleration", 4, "--option", "maps=bart"], "one of espirit, center, got 'bart'"),
        (["--method", "magic", "--acceleration", 4], f"one of the methods {', '.join(BUILT_IN)}"),
        (["--method", "cs-wavelet", "--acceleration", 4, "--option", "lamda=1"], "got 'lamda'"),
        (["--method", "zero-filled"], "give --acceleration 4, or --mask FILE"),
        (["--method", "zero-filled", "--acceleration", 0.5], "acceleration"),
        (["--method", "zero-filled", "--acceleration", 4, "--option", "x"], "an option as KEY=VALUE, got 'x'"),
        (["--method", "zero-filled", "--acceleration", 4, "--slice", 3], "scan.npy, which has 0 to 2, got 3: choose"),
        (["--method", "zero-filled", "--acceleration", 4, "--mask", "m.npy"], "one mask"),
        (["--method", "zero-filled", "--acceleration", 4, "--device", "abacus"], "got 'abacus'"),
        (["--method", "zero-filled", "--mask", "absent.npy"], "absent.npy"),
        (["--method", "zero-filled", "--acceleration", 4, "--check", "x"], "expected check to be one of holdout"),
        (["--method", "zero-filled", "--acceleration", 8, "--check", "holdout"], "at least 6 sampled lines outside"),
        (
            ["--method", "zero-filled", "--acceleration", 4, "--center-fraction", 0.1, "--num-low-frequencies", 2],
            "both",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: list[object], message: str, scan_file: Path, tmp_path: Path) -> None:
    assert message in fails("reconstruct", scan_file, *arguments, "-o", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_files_that_are_not_there(scan_file: Path, tmp_path: Path) -> None:
    assert "absent.h5" in fails("info", tmp_path / "absent.h5")
    arguments = ["--method", "zero-filled", "--acceleration", 4]
    assert "folder that exists" in fails("reconstruct", scan_file, *arguments, "-o", tmp_path / "absent" / "out.h5")
    assert "got the folder" in fails("reconstruct", scan_file, *arguments, "-o", tmp_path)
    assert "folder that exists" in fails(
        "compare", scan_file, "--acceleration", 4, "--json", tmp_path / "absent" / "o.json"
    )
    garbage = tmp_path / "garbage.h5"
    garbage.write_bytes(b"garbage")
    assert "garbage.h5" in fails("info", garbage)


def test_compare_finds_mistakes_before_it_works(scan_file: Path) -> None:
    base = ["compare", scan_file, "--acceleration", 4]
    assert "at least one method" in fails(*base, "--methods", ",")
    assert "METHOD.KEY=VALUE" in fails(*base, "--option", "reg_weight=1")
    assert "add it to --methods" in fails(*base, "--methods", "zero-filled", "--option", "cs-wavelet.reg_weight=1")
    assert "a slice between 0 and 2, got 9" in fails(*base, "--methods", "zero-filled", "--slice", 9)


def test_help_has_examples() -> None:
    for verb in ("info", "methods", "reconstruct", "compare", "train", "evaluate"):
        result = run(verb, "--help")
        assert result.exit_code == 0
        assert f"mri-recon {verb}" in result.stdout


HELP = ["", "info", "convert", "reconstruct", "compare", "replay", "methods", "send", "evaluate", "train", "study"]
HELP += ["serve", "stream", "key", "key add", "key list", "key remove", "data", "data list", "data fetch"]
HELP += ["data sample", "data simulate", "demo"]


@pytest.mark.parametrize("verb", HELP)
def test_help_fits_80_columns_with_nothing_cut(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run(*verb.split(), "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout


def test_tables_fit_80_columns(coils_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    common = ["--acceleration", 2, "--center-fraction", 0.2, "--methods", "zero-filled,cg-sense"]
    for arguments in (
        ["info", coils_file],
        ["data", "list"],
        ["compare", coils_file, *common],
        ["compare", coils_file, *common, "--foreground"],
        ["compare", coils_file, *common, "--foreground", "--workers", 1],
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        # Sentences and addresses are left to the terminal, which breaks them.
        rows = [line for line in result.stdout.splitlines() if line[:1] in "┏┃┡│└─" or "  " in line.strip()]
        assert rows, arguments
        assert max(map(len, rows)) <= 80, arguments
        assert "…" not in result.stdout


def test_a_value_is_read_as_what_it_looks_like() -> None:
    assert parse_option("reg_weight=1e-3") == ("reg_weight", 0.001)
    assert parse_option("reg-weight=auto") == ("reg_weight", "auto")
    assert parse_option("levels=3") == ("levels", 3)
    assert parse_option("x=None") == ("x", None)
    assert parse_option("path=a=b") == ("path", "a=b")
    assert options_by_method(["unet.x=1", "unet.y=2.5", "cg-sense.maps=q.r"], ["unet", "cg-sense"]) == {
        "unet": {"x": 1, "y": 2.5},
        "cg-sense": {"maps": "q.r"},
    }
    for wrong in ("x", "=1"):
        with pytest.raises(ConfigError, match="KEY=VALUE"):
            parse_option(wrong)
    with pytest.raises(MethodError, match="got one of 'c'"):
        options_by_method(["c.x=1"], ["a", "b"])


PLUG_IN = """
import typer
from mri_recon.errors import DataError

app = typer.Typer(help="Greet people.")

@app.command()
def hello(name: str) -> None:
    typer.echo(f"hello {name}")

@app.command()
def bye() -> None:
    typer.echo("bye")

def fail() -> None:
    \"\"\"Fail in a known way.\"\"\"
    raise DataError("expected more,\\n got less: do something")

def full() -> None:
    raise OSError(28, "No space left on device", "out.h5")

number = 7
"""


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fake_verbs.py").write_text(PLUG_IN)
    (tmp_path / "broken_verbs.py").write_text("raise RuntimeError('out of order')")
    information = tmp_path / "fake_verbs-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-verbs\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        f"[{COMMAND_GROUP}]\ngreet = fake_verbs:app\nfail = fake_verbs:fail\nfull = fake_verbs:full\n"
        "broken = broken_verbs:x\ninfo = fake_verbs:fail\nseven = fake_verbs:number\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("fake_verbs", "broken_verbs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("plug_in")
def test_verbs_of_another_package(scan_file: Path) -> None:
    assert run("greet", "hello", "you").stdout == "hello you\n"
    result = run("fail")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "mri-recon: error: expected more, got less: do something"
    result = run("full")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "mri-recon: error: No space left on device: out.h5"
    assert "warning: verb 'info' of fake_verbs:fail is ignored: the name is taken" in run("greet", "bye").stderr
    assert "readout x 34 phase" in " ".join(run("info", scan_file).stdout.split())


@pytest.mark.usefixtures("plug_in")
def test_a_verb_that_cannot_be_loaded_stops_no_other() -> None:
    """It is imported when it is asked for: then it says what is wrong, in one line."""
    assert "verb 'broken' of broken_verbs:x cannot be loaded (RuntimeError: out of order)" in fails_last("broken")
    assert "verb 'seven' of fake_verbs:number: expected a function or a typer.Typer, got int" in fails_last("seven")
    assert "No such command 'gret'. Did you mean 'greet'?" in " ".join(run("gret").stderr.split())


@pytest.mark.usefixtures("plug_in")
def test_help_lists_the_verbs_of_other_packages_without_importing_them() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert re.search(r"greet +Greet people\.", result.stdout), result.stdout
    assert re.search(r"fail +Fail in a known way\.", result.stdout)
    assert "broken" in result.stdout
    assert "fake_verbs" not in sys.modules
    assert "broken_verbs" not in sys.modules
    assert "hello" in run("greet", "--help").stdout


def test_help_of_a_verb_is_read_from_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a package that fails on import; nothing where there is nothing to read."""
    package = tmp_path / "fake_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "verbs.py").write_text('def f():\n    """Do f.\n\n    More.\n    """\n\nx = g(help="Do x.")\ny = 3\n')
    (package / "wrong.py").write_text("def f(:\n")
    (package / "bytes.py").write_bytes(b"\xff\xfe\x00")
    monkeypatch.syspath_prepend(tmp_path)

    def line(value: str) -> str:
        return help_of(EntryPoint("name", value, COMMAND_GROUP)).split("\n")[0]

    assert line("fake_package.verbs:f") == "Do f."
    assert line("fake_package.verbs:x") == "Do x."
    for nothing in ("verbs:y", "verbs:z", "wrong:f", "bytes:f", "absent:f"):
        assert line(f"fake_package.{nothing}") == ""
    assert line("absent_package.verbs:f") == ""
    assert line("math:sqrt") == ""
    assert line("mri_recon_training.cli:train").startswith("Train a network")


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"mri-recon {version('mri-recon')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, plug_in: None) -> None:
    """The names of verbs, those of plug-ins too, which are not imported for it, and the options of a verb."""

    def complete(words: str, incomplete: str) -> str:
        line = f"mri-recon {words}{incomplete}"
        environment = {
            "_MRI_RECON_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        return CliRunner().invoke(build_app(), [], env=environment, prog_name="mri-recon").stdout

    assert "reconstruct" in complete("", "rec")
    assert "greet" in complete("", "gr")
    assert "broken_verbs" not in sys.modules
    assert "fake_verbs" not in sys.modules
    assert "--acceleration" in complete("compare ", "--acc")
    assert complete("broken ", "--x").strip() == ""


def test_a_real_process(scan_file: Path, tmp_path: Path) -> None:
    """The installed program: an error has no traceback, and a result is the one of the process that runs the tests."""
    program = Path(sys.executable).with_name("mri-recon")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)

    wrong = start("info", tmp_path / "absent.npy")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr.splitlines()[-1].startswith("mri-recon: error: ")
    assert "Traceback" not in wrong.stderr
    right = start("reconstruct", scan_file, "--method", "zero-filled", "--acceleration", 4, "-o", tmp_path / "out.h5")
    assert right.returncode == 0, right.stderr
    scan = mr.load(scan_file)
    mask = mr.random_mask(scan.width, 4)
    expected = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="zero-filled").magnitude
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_allclose(file["reconstruction"][()], expected.numpy(), rtol=1e-5, atol=1e-6)


def modules_after(statement: str) -> set[str]:
    """Modules that are loaded after a statement in a fresh process."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_is_light() -> None:
    """The library's names load neither the picture room, the service's framework nor the command line."""
    loaded = modules_after("import mri_recon; [getattr(mri_recon, name) for name in mri_recon.__all__]")
    assert "torch" in loaded
    assert not loaded & {
        *["matplotlib", "fastapi", "uvicorn", "typer", "rich", "pooch", "nibabel", "pydantic", "safetensors"]
    }


def test_methods_are_described_with_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("methods").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line in BUILT_IN] == list(BUILT_IN)
    output = " ".join(" ".join(lines).split())
    assert "Tikhonov" in output
    assert "data_consistency weighted the step after the network." in output
    document = json.loads(run("methods", "--json").stdout)
    assert [one["name"] for one in document["methods"]] == list(BUILT_IN)
    (alone,) = json.loads(run("methods", "cg-sense", "--json").stdout)["methods"]
    assert alone["options"][3] == {
        "name": "max_iters",
        "default": 50,
        "allowed": "a whole number >= 1 and <= 1e+09",
        "meaning": "maximum number of iterations.",
    }
    assert "expected one of the methods zero-filled, " in fails("methods", "zero-filled", "none-such")


@pytest.mark.parametrize(
    "statement",
    [
        "import mri_recon",
        "import mri_recon; mri_recon.Progress, mri_recon.MriReconError, dir(mri_recon)",
        "import mri_recon.cli; mri_recon.cli.main",
        "import mri_recon.cli; mri_recon.cli.build_app()",
        "import mri_recon.cli; mri_recon.cli.build_app()(['--help'], standalone_mode=False)",
        "import mri_recon.cli; mri_recon.cli.build_app()(['data', '--help'], standalone_mode=False)",
        "import mri_recon.cli; mri_recon.cli.build_app()(['train', '--help'], standalone_mode=False)",
        "import mri_recon.cli; mri_recon.cli.build_app()(['evaluate', '--help'], standalone_mode=False)",
        "import mri_recon.cli; mri_recon.cli.build_app()(['key', 'add', '--help'], standalone_mode=False)",
        "import mri_recon.cli; mri_recon.cli.build_app()(['--version'], standalone_mode=False)",
    ],
)
def test_the_command_starts_without_torch(statement: str) -> None:
    """What takes seconds to import waits until a verb needs it: `--help` answers at once."""
    loaded = modules_after(statement)
    assert "mri_recon" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "h5py", "numba", "fastapi", "matplotlib"}


def test_assumed_axes_are_said_by_every_verb(scan_file: Path, tmp_path: Path) -> None:
    """And with the results: in the file, the JSON and the figure."""
    said = "The axes are assumed to be slice readout phase (the file names none): give axes if they differ."
    arguments = [scan_file, "--acceleration", 2]
    out, table = tmp_path / "o.h5", tmp_path / "o.json"
    done = run("reconstruct", *arguments, "--method", "zero-filled", "-o", out)
    assert said in done.output
    with h5py.File(out) as file:
        assert said in json.loads(file.attrs["info"])["warnings"]
    done = run("compare", *arguments, "--methods", "zero-filled,cg-sense", "--json", table)
    assert done.output.count(said) == 1, "once for all methods"
    assert all(said in row["info"]["warnings"] for row in json.loads(table.read_text())["results"])
    for verb in (["reconstruct", "--method", "zero-filled", "-o", out], ["compare", "--methods", "zero-filled"]):
        done = run(verb[0], *arguments, *verb[1:], "--axes", "slice readout phase")
        assert done.exit_code == 0
        assert "axes are assumed" not in done.output


def test_an_empty_slice_is_said_and_comes_out_as_zeros(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 2, 24, 20)) + 1j * rng.standard_normal((3, 2, 24, 20))).astype(np.complex64)
    kspace[1] = 0
    scan, out = tmp_path / "scan.npy", tmp_path / "o.h5"
    np.save(scan, kspace)
    assert "1 of 3: 1" in " ".join(run("info", scan).stdout.split())
    done = run("reconstruct", scan, "--method", "cg-sense", "--acceleration", 2, "-o", out)
    assert done.exit_code == 0, done.output
    assert "1 of 3 slices hold no data" in done.output
    with h5py.File(out) as file:
        image = file["reconstruction"][()]
    assert (image.reshape(3, -1).max(axis=1) > 0).tolist() == [True, False, True]
    done = run("compare", scan, "--methods", "zero-filled,cg-sense", "--acceleration", 2)
    assert done.exit_code == 0, done.output
    assert done.output.count("1 of 3 slices hold no data") == 1
    assert "zeros only in the slices [1]: choose others" in fails(
        "reconstruct", scan, "--method", "zero-filled", "--acceleration", 2, "--slice", 1, "-o", out
    )


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
@pytest.mark.parametrize("number", [1, -2])
def test_one_slice_is_read_alone_and_made_again(suffix: str, number: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 24, 20)) + 1j * rng.standard_normal((3, 24, 20))).astype(np.complex64)
    scan, out = tmp_path / f"scan{suffix}", tmp_path / "o.h5"
    match suffix:
        case ".npy":
            np.save(scan, kspace)
        case ".npz":
            np.savez(scan, kspace=kspace)
        case ".mat":
            scipy.io.savemat(scan, {"kspace": kspace.transpose(1, 2, 0)})
        case _:
            with h5py.File(scan, "w") as file:
                file["kspace"] = kspace
    done = run("reconstruct", scan, "--method", "zero-filled", "--acceleration", 2, "--slice", number, "-o", out)
    assert done.exit_code == 0, done.output
    assert "Slice 1 (from 0) of 3 alone: support, noise and a drawn mask are found in it." in done.stdout
    with h5py.File(out) as file:
        assert json.loads(file.attrs["provenance"])["input"]["slices"] == [1, 2]
    done = run("replay", out)
    assert done.exit_code == 0, done.output
    assert "bit-identical" in done.output


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".dcm", ".dcm.zip"])
def test_info_describes_a_result(suffix: str, tmp_path: Path) -> None:
    if "dcm" in suffix:
        pytest.importorskip("pydicom")
    out = tmp_path / f"out{suffix}"
    made = run("reconstruct", sample_path(), "--method", "zero-filled", "--acceleration", 4, "-o", out)
    assert made.exit_code == 0, made.output
    told = run("info", out)
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    for said in ("a result of mri-recon", "zero-filled", "4 slices x 151 x 127", "R = 4 requested", "SIMULATED"):
        assert said in words
    assert "Noise" not in words


def test_info_says_that_an_archive_holds_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "no array")
    assert "found none: give the k-space itself" in fails("info", tmp_path / "photos.zip")


def test_the_word_file_is_the_scans_own_mask(tmp_path: Path) -> None:
    """The README's command for a folder of undersampled scans."""
    scan = mr.sample()
    mask = mr.random_mask(scan.width, 4, seed=0)
    np.savez(tmp_path / "own.npz", kspace=mr.undersample(scan.kspace, mask).numpy()[:1], mask=mask.lines)
    np.save(tmp_path / "full.npy", scan.kspace.numpy()[:1])
    out = tmp_path / "out.h5"
    done = run("reconstruct", tmp_path / "own.npz", "--method", "zero-filled", "--mask", "file", "-o", out)
    assert done.exit_code == 0, done.output
    with h5py.File(out) as file:
        assert json.loads(file.attrs["mask"])["lines"] == np.flatnonzero(mask.lines).tolist()
    told = fails("reconstruct", tmp_path / "full.npy", "--method", "zero-filled", "--mask", "file", "-o", out)
    assert "expected a scan with a mask of its own, got one without" in told
    assert "one mask, got the file file and an acceleration of 4" in fails(
        "reconstruct", tmp_path / "own.npz", "--method", "zero-filled", "--mask", "file", "--acceleration", 4, "-o", out
    )

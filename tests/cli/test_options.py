"""No value of any option of a verb is a fault of the program: usage errors and refusals say what was expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app

NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e-300", "1e39", "1e400", "9" * 400, "-" + "9" * 30, "1e3", "0.5", "x", ""]
WORDS = ["", " ", "x", "2026-11-28", "a\u202eb", "\x1b[2J", "/", "..", "x" * 5000, "[/red]", "$x_1$", "nan", "-"]
OPTIONS = {
    "--acceleration": NUMBERS,
    "--center-fraction": NUMBERS,
    "--num-low-frequencies": NUMBERS,
    "--seed": NUMBERS,
    "--slice": NUMBERS,
    "--num-virtual-coils": NUMBERS,
    "--mask-kind": WORDS,
    "--mask": WORDS,
    "--prewhiten": WORDS,
    "--axes": WORDS,
    "--variable": WORDS,
    "--device": [*WORDS, "cuda:99999999999999999999", "meta", "cpu:-1"],
    "--option": [*WORDS, "=", "=1", "x=", "combination=", "combination=nan", "a.b=c", "zero-filled.combination=x"],
    "--method": WORDS,
    "--methods": [*WORDS, ",,,", "zero-filled," * 50],
}


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scan") / "k.npy"
    np.save(path, (rng.normal(size=(2, 2, 16, 18)) + 1j * rng.normal(size=(2, 2, 16, 18))).astype(np.complex64))
    return path


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("verb", ["reconstruct", "compare"])
def test_any_value_of_an_option(verb: str, option: str, scan_file: Path, tmp_path: Path) -> None:
    if option == ("--methods" if verb == "reconstruct" else "--method"):
        pytest.skip("an option of the other verb")
    app = build_app()
    for value in OPTIONS[option]:
        given = {"--acceleration": "2", "--num-low-frequencies": "6"}
        if option in ("--center-fraction", "--mask"):
            given = {"--acceleration": "2"} if option == "--center-fraction" else {}
        given |= {"--method": "zero-filled"} if verb == "reconstruct" else {"--methods": "zero-filled"}
        given |= {"-o": str(tmp_path / "o.h5")} if verb == "reconstruct" else {"--json": str(tmp_path / "o.json")}
        given[option] = value
        arguments = [part for name, text in given.items() for part in (name, text)]
        result = CliRunner().invoke(app, [verb, str(scan_file), *arguments])
        assert result.exit_code in (0, 2), (value, result.exception)
        assert "unexpected" not in result.stderr, (value, result.stderr)
        assert "Traceback" not in result.output
        if result.exit_code == 2:
            assert result.stderr, value
            assert not list(tmp_path.iterdir()), value
        for path in tmp_path.iterdir():
            path.unlink()

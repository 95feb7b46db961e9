from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mri_recon.cli import build_app
from mri_recon.errors import OutputError
from mri_recon_training.evaluation.sources import Source
from tests.support.evaluations import small_evaluation, small_sources
from tests.support.fastmri_files import write_fastmri


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["evaluate", *(str(argument) for argument in arguments)])


@pytest.fixture
def small_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon_training.evaluation.run.raw_sources", lambda split: small_sources())
    phantoms = [replace(source, name="phantom", world="phantom") for source in small_sources()[2:3]]
    monkeypatch.setattr("mri_recon_training.evaluation.run.phantom_sources", lambda split: phantoms)
    monkeypatch.setattr(
        "mri_recon_training.evaluation.run.simulated_sources",
        lambda split, array, num_slices: [
            replace(source, name=f"{array.text}: {source.name}") for source in small_sources()[:2]
        ],
    )


@pytest.mark.usefixtures("small_registry")
def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.md"
    monkeypatch.setattr("sys.argv", ["mri-recon", "evaluate", "--json", str(out)])
    arguments = ["--acceleration", "4", "--curve", "2", "--seeds", "0,5", "--methods", "zero-filled,cg-sense"]
    arguments += ["--curve-seeds", "0,5"]
    coils = ["--coils", "2,8", "--measured-coils", "16@10", "--coil-seeds", "3"]
    result = run("--split", "validation", *arguments, *coils, "--json", out, "--markdown", page)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    expected = small_evaluation()
    numbers = [(row["file"], row["psnr"]) for row in document["results"]]
    assert numbers == [(row["file"], row["psnr"]) for row in expected.rows]
    assert [one["num_coils"] for one in document["simulated"]] == [2, 8, 16]
    assert document["simulated"][2]["array"] == {"num_coils": 16, "snr": 10, "measured": True}
    assert document["simulated"][2]["results"][0]["file"] == "16 measured coils, SNR 10: set/a1"
    assert {row["file"] for row in document["phantoms"]["results"]} == {"phantom"}
    assert {(row["acceleration"], row["seed"]) for row in document["simulated"][0]["results"]} == {(4, 3)}
    assert "Means: split validation" in result.stdout
    assert "Not measured: set/p" in result.stdout
    assert document["convention"] in result.stdout
    text = page.read_text()
    assert text.startswith("# Results\n")
    assert "mri-recon evaluate --json out.json" in text
    assert "### SSIM of each scan at R = 4" in text
    assert "each scan at R = 2" not in text, "the further accelerations are for the plot"
    assert {file.name for file in tmp_path.iterdir()} == {"out.json", "out.md", "images"}
    assert {file.name for file in (tmp_path / "images").iterdir()} == {"out-acceleration.png", "out-coils.png"}


@pytest.mark.usefixtures("small_registry")
def test_five_masks_are_the_default(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("--split", "validation", "--methods", "zero-filled", "--acceleration", "4", "--json", out).exit_code == 0
    assert {row["seed"] for row in json.loads(out.read_text())["results"]} == {0, 1, 2, 3, 4}


@pytest.mark.usefixtures("small_registry")
def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mri_recon_training.evaluation import compare_scans as evaluate

    monkeypatch.setattr("mri_recon_training.evaluation.run.code_state", lambda: "abc")
    out = tmp_path / "out.json"
    arguments = ["--split", "validation", "--methods", "zero-filled", "--seeds", "0", "--json", out]
    whole, calls = evaluate.compare, []

    def stopped(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "compare", stopped)
    assert run(*arguments).exit_code != 0
    assert not out.exists()
    again = run(*arguments)
    assert again.exit_code == 0, again.output
    assert "resuming with 2 finished comparisons" in again.stderr
    assert len(calls) == 3 + 6
    assert len(json.loads(out.read_text())["results"]) == 6
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.usefixtures("small_registry")
def test_comparisons_are_kept_until_every_output_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mri_recon_training.evaluation import compare_scans

    monkeypatch.setattr("mri_recon_training.evaluation.run.code_state", lambda: "abc")
    out, page = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["--split", "validation", "--methods", "zero-filled", "--seeds", "0", "--json", out, "--markdown", page]

    def full(page: object) -> str:
        raise OutputError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("mri_recon_training.evaluation.run.markdown_page", full)
        assert run(*arguments).exit_code == 2
    assert (tmp_path / "out.json.partial").exists()
    monkeypatch.setattr(compare_scans, "compare", None)  # nothing is computed again
    again = run(*arguments)
    assert again.exit_code == 0, again.output
    assert "resuming with 8 finished comparisons" in again.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["images", "out.json", "out.md"]


@pytest.mark.usefixtures("small_registry")
def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    (tmp_path / "out.json.partial").write_text('{"settings": {"split": "test"}, "comparisons": {}}')
    result = run("--split", "validation", "--methods", "zero-filled", "--json", tmp_path / "out.json")
    assert result.exit_code == 2
    assert "got another split (test there, validation now)" in result.stderr


@pytest.mark.usefixtures("small_registry")
def test_only_test_runs_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mri-recon", "evaluate", "--json", "/somewhere/else/out.json"])
    arguments = ["--acceleration", "4", "--seeds", "0", "--methods", "zero-filled"]
    assert run("--split", "validation", *arguments).exit_code == 0
    assert not (tmp_path / "docs").exists()
    assert run("--split", "test", *arguments).exit_code == 0
    (line,) = (tmp_path / "docs" / "results" / "test-runs.log").read_text().splitlines()
    assert line.endswith(" mri-recon evaluate --json out.json")
    assert run("--split", "test", *arguments, "--log", tmp_path / "my.log").exit_code == 0
    assert len((tmp_path / "my.log").read_text().splitlines()) == 1


@pytest.mark.usefixtures("small_registry")
def test_a_test_run_elsewhere_warns_that_it_is_not_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--split", "test", "--acceleration", "4", "--seeds", "0", "--methods", "zero-filled")
    assert "this test run is not logged" in result.stderr


@pytest.mark.usefixtures("small_registry")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--acceleration", "four"], "--acceleration as numbers separated by commas, got 'four'"),
        (["--curve", "2,x"], "--curve as numbers separated by commas, got '2,x'"),
        (["--seeds", "0.5"], "--seeds as whole numbers"),
        (["--seeds", "inf"], "--seeds as numbers separated by commas, got 'inf'"),
        (["--coils", "2.5"], "--coils as whole numbers, some with @ and an SNR, got '2.5'"),
        (["--coils", "8@x"], "got '8@x': write e.g. 8,8@10"),
        (["--measured-coils", "@"], "--measured-coils as whole numbers"),
        (["--curve-seeds", "0.5"], "--curve-seeds as whole numbers"),
        (["--part-seeds", "x"], "--part-seeds as numbers separated by commas"),
        (["--methods", "magic"], "got 'magic'"),
        (["--methods", "unet", "--option", "unet.x=1"], "got 'x'"),
        (["--methods", "unet", "--option", "unet.model=absent"], "unknown model 'absent'"),
        (["--json", "absent/out.json"], "folder that exists"),
    ],
)
def test_mistakes_are_one_line_and_come_before_any_work(arguments: list[str], message: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = run("--split", "test", "--log", log, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not log.exists(), "a run that did not start is not a run"


@pytest.mark.usefixtures("small_registry")
def test_one_person_alone(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--split", "validation", "--methods", "zero-filled", "--acceleration", "4", "--seeds", "0"]
    assert run(*arguments, "--coils", "2", "--coil-seeds", "1", "--person", "anna", "--json", out).exit_code == 0
    document = json.loads(out.read_text())
    assert set(document["persons"].values()) == {"anna"}
    assert set(document["simulated"][0]["persons"].values()) == {"anna"}
    result = run(*arguments, "--person", "eve")
    assert result.exit_code == 2
    assert (
        "expected raw scans of 'eve' in this split, got those of anna, ben, carl: choose one of them" in result.stderr
    )


@pytest.mark.usefixtures("small_registry")
def test_networks_are_not_measured_on_whom_they_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sources(split: str) -> list[Source]:
        return [replace(source, person="ulf-patient-6a") for source in small_sources()]

    monkeypatch.setattr("mri_recon_training.evaluation.run.raw_sources", sources)
    result = run("--split", "train", "--methods", "zero-filled,unet", "--log", tmp_path / "log")
    assert result.exit_code == 2
    assert "unet, which knows ulf-patient-6a" in result.stderr


def test_an_unknown_split_and_missing_data_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected one of train, validation, test" in run("--split", "everything").stderr
    monkeypatch.setenv("MRI_RECON_DATA", str(tmp_path))
    result = run("--split", "validation", "--methods", "zero-filled")
    assert result.exit_code == 2
    assert result.stderr.startswith("mri-recon: error: ")


def test_files_of_a_person_that_a_network_was_trained_on_are_no_test_of_it(tmp_path: Path) -> None:
    for number, patient in enumerate(("ulf-patient-6a", "nobody")):
        write_fastmri(tmp_path / f"{number}.h5", shape=(1, 1, 64, 60), recon=(60, 60), patient=patient, seed=number)
    arguments = ("--methods", "zero-filled,unrolled", "--acceleration", "4", "--seeds", "0", "--workers", "1")
    result = run(tmp_path / "1.h5", *arguments)
    assert result.exit_code == 0, result.output
    assert "was trained on" not in result.stderr
    result = run(tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    assert "warning: numbers of persons that a network was trained on are no test of it: " in result.stderr
    assert "which knows ulf-patient-6a" in result.stderr

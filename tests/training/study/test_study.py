from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_training.losses import batch_loss
from mri_recon_training.study import study as study_module
from mri_recon_training.study.config import StudyConfig, candidates, load_study, optimizer_config
from mri_recon_training.study.examples import StudyData, _draw, read_study_data, stacked, take
from mri_recon_training.study.page import answers, markdown_section, relative_gap, results_table
from mri_recon_training.study.study import Study, run_study
from tests.support.fastmri_files import write_fastmri

CONFIGS = Path(__file__).parents[3] / "training" / "mri_recon_training" / "configs" / "study"

TINY = [
    "study.steps=6",
    "study.batch_sizes=[2]",
    "study.full_batch=4",
    "study.grid=[0.3, 1.0, 3.0]",
    "study.seeds=[1, 2]",
    "study.examples=6",
    "study.validation_examples=3",
    "study.points=3",
    "model.chans=4",
    "model.num_pool_layers=1",
    "data.rows=16",
    "data.full_probability=0.0",
    "data.sampling.acceleration=[3, 3]",
    "data.simulation.min_size=36",
    "data.simulation.resolution=[0.1, 0.1]",
    "data.simulation.air=0.0",
    "data.simulation.multi_coil=0.0",
]


def _config(folder: Path, *overrides: str) -> StudyConfig:
    path = folder / "config.toml"
    path.write_text("")
    return load_study(path, [*TINY, *overrides])


def _slices(seed: int) -> RegistrySlices:
    y, x = np.mgrid[-1:1:44j, -1:1:40j]
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(3):
        a, b = rng.uniform(-0.2, 0.2, 2)
        disc = ((y - a) ** 2 / 0.5 + (x - b) ** 2 / 0.4 < 1).astype(np.float16)
        images.append(ImageSlice(disc * rng.uniform(0.5, 1), "images/brain-ms"))
    return RegistrySlices((), tuple(images))


def _data(config: StudyConfig) -> StudyData:
    training = _draw(_slices(0), config, seed=0, count=config.study.examples)
    validation = _draw(_slices(1), config, seed=1, count=config.study.validation_examples)
    return StudyData(training, validation, (), "synthetic discs")


@pytest.fixture(scope="module")
def optimizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("optimizers")
    return run_study("optimizers", _config(folder), folder / "study", read=_data), folder


def test_every_optimiser_gets_the_same_trials_and_budget(optimizers: tuple[Study, Path]) -> None:
    study, folder = optimizers
    names = ["gradient-descent", "sgd", "momentum", "nesterov", "rmsprop", "adam", "amsgrad", "adamw", "lbfgs"]
    assert [row.candidate.name for row in study.rows] == names
    for row in study.rows:
        assert len(row.trials) == 3
        assert {trial["seed"] for trial in row.trials} == {0}
        assert [run["seed"] for run in row.runs] == [1, 2]
        best = min(row.trials, key=lambda trial: trial["validation_loss"])
        assert row.lr == best["lr"] == row.runs[0]["lr"]
        middle = row.trials[1]["lr"]
        assert [trial["lr"] / middle for trial in row.trials] == pytest.approx([0.3, 1, 3])
        assert row.at_edge is (best["lr"] != middle)
        for run in (*row.trials, *row.runs):
            # Six steps of two; three of four for a full batch; a line search may go on for the rest of its step.
            assert run["gradients"] == 12 or (row.candidate.name == "lbfgs" and 8 < run["gradients"] < 12 + 4 * 40)
            assert run["step"] == {"gradient-descent": 3, "lbfgs": run["step"]}.get(row.candidate.name, 6)
        gradients = [point["gradients"] for point in row.runs[0]["curve"]]
        assert gradients == ([0, 4, 8, 12] if row.candidate.name != "lbfgs" else gradients)
    written = json.loads((folder / "study" / "study.json").read_text())
    assert [row["candidate"] for row in written["rows"]] == names
    assert written["rows"][1]["runs"] == list(study.rows[1].runs)
    assert written["config"]["study"]["steps"] == 6


def test_runs_are_those_of_the_textbook_loop(optimizers: tuple[Study, Path]) -> None:
    study, _ = optimizers
    row = next(row for row in study.rows if row.candidate.name == "sgd")
    data, config = _data(study.config), study.config
    torch.manual_seed(1)
    network = study_module.Unet(config.model)
    order = np.random.default_rng([1, 1]).permutation(6)
    assert row.lr is not None
    schedule = optimizer_config(row.candidate, config, factor=1.0, steps=6)
    for step in range(3):
        network.zero_grad()
        batch_loss(
            network, take(data.training, torch.from_numpy(order[2 * step : 2 * step + 2])), config.loss
        ).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        factor = study_module.learning_rate_factor(step, 6, schedule)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= row.lr * factor * parameter.grad
        if step == 1:
            mine = float(batch_loss(network.eval(), data.validation, config.loss).detach())
            assert row.runs[0]["curve"][1]["validation_loss"] == pytest.approx(mine, rel=1e-5)
            network.train()


def test_finished_runs_are_not_repeated(
    optimizers: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = 'study.candidates=["sgd", "adam"]'
    folder = tmp_path / "study"
    whole = run_study("optimizers", _config(tmp_path, only), folder, read=_data)
    files = sorted(folder.glob("runs/*.json"))
    assert len(files) == 2 * (3 + 2)
    kept = {path: path.stat().st_mtime_ns for path in files}
    files[3].unlink()
    told: list[str] = []
    again = run_study("optimizers", _config(tmp_path, only), folder, read=_data, report=told.append)
    assert len(told) == 1  # the one that was missing
    assert {path: path.stat().st_mtime_ns for path in files if path != files[3]} == {
        path: stamp for path, stamp in kept.items() if path != files[3]
    }
    for one, other in zip(whole.rows, again.rows, strict=True):
        assert [run["validation_loss"] for run in one.runs] == [run["validation_loss"] for run in other.runs]
    # One more seed costs one run a candidate; another budget is another run.
    told.clear()
    run_study("optimizers", _config(tmp_path, only, "study.seeds=[1, 2, 5]"), folder, read=_data, report=told.append)
    assert len(told) == 2
    told.clear()
    run_study("optimizers", _config(tmp_path, only, "study.steps=4"), folder, read=_data, report=told.append)
    assert len(told) == 2 * (3 + 2)
    monkeypatch.setattr(study_module, "_train", lambda *arguments: pytest.fail("a finished run was repeated"))
    run_study("optimizers", _config(tmp_path, only), folder, read=_data)


def test_table_and_answers_say_what_the_runs_say(optimizers: tuple[Study, Path]) -> None:
    study, _ = optimizers
    text = results_table(study)
    lines = text.splitlines()
    assert len(lines) == 2 + 9 + 1
    means = []
    for line in lines[2:-1]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = next(row for row in study.rows if row.candidate.name == cells[1])
        mean = sum(run["validation_loss"] for run in row.runs) / 2
        assert cells[5].startswith(f"{mean:.4f} ± ")
        assert cells[2].rstrip("†") == f"{row.lr:.3g}"
        assert cells[2].endswith("†") is row.at_edge
        means.append(mean)
    assert means == sorted(means)
    assert f"{study.untrained['validation_loss']:.4f}" in lines[-1]
    found = dict(answers(study))
    assert list(found) == [
        "Does Momentum beat plain SGD?",
        "Does Nesterov beat plain SGD?",
        "Does Adam beat plain SGD?",
        "Does Adam beat momentum?",
        "Is a generalisation gap of Adam visible?",
    ]
    rows = {row.candidate.name: row for row in study.rows}
    differences = [
        a["validation_loss"] - b["validation_loss"] for a, b in zip(rows["adam"].runs, rows["sgd"].runs, strict=True)
    ]
    expected = "Yes" if max(differences) < 0 else "No" if min(differences) > 0 else "Not decided"
    assert found["Does Adam beat plain SGD?"].startswith(f"{expected}: validation loss ")
    assert found["Does Adam beat plain SGD?"].endswith(", ".join(f"{d:+.4f}" for d in differences) + ".")
    section = markdown_section(study, command="mri-recon study X", images=["images/a.png"])
    for part in ("`mri-recon study X`", "synthetic discs", "6 training and 3 validation examples", "seeds 1, 2",
                 "fixed set of 4 examples", "3 trials each (0.3, 1, 3 ", "(images/a.png)", text):  # fmt: skip
        assert part in section


def test_gap_is_what_is_lost_from_training_to_validation(optimizers: tuple[Study, Path]) -> None:
    study, _ = optimizers
    halves = {
        "training_loss": 0.25 * study.untrained["training_loss"],
        "validation_loss": 0.75 * study.untrained["validation_loss"],
    }
    assert relative_gap(halves, study) == pytest.approx(0.5)


def test_norms_at_each_batch_size_see_the_batch(tmp_path: Path) -> None:
    config = _config(tmp_path, "study.batch_sizes=[1, 3]", "study.grid=[1.0]", "study.seeds=[4]")
    study = run_study("norms", config, tmp_path / "study", read=_data)
    found = [(row.candidate.group, row.candidate.name) for row in study.rows]
    names = ("group", "batch", "layer", "instance", "none")
    assert found == [(size, name) for size in (1, 3) for name in names]
    assert [question for question, _ in answers(study)] == [
        f"Does Group norm beat batch norm at batch size {size}?" for size in (1, 3)
    ]
    data = _data(config)
    network = study_module.Unet(config.model.model_copy(update={"normalization": "batch"}))
    seen: list[tuple[int, ...]] = []
    next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)).register_forward_pre_hook(
        lambda module, inputs: seen.append(tuple(inputs[0].shape))
    )
    batch_loss(network, take(data.training, torch.tensor([0, 2, 5])), config.loss)
    assert [shape[0] for shape in seen] == [3]


def test_a_batch_is_its_examples_one_by_one(tmp_path: Path) -> None:
    config = _config(tmp_path)
    data = _data(config)
    torch.manual_seed(0)
    network = study_module.Unet(config.model)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    together = batch_loss(network, data.training, config.loss)
    alone = [
        batch_loss(network, take(data.training, torch.tensor([i])), config.loss)
        for i in range(len(data.training.target))
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_a_run_that_diverges_is_told_and_not_chosen(tmp_path: Path) -> None:
    config = _config(
        tmp_path, 'study.candidates=["sgd"]', "study.grid=[1.0, 1e30]", "optimizers.sgd.lr=0.1",
        "study.seeds=[1]", "optimizers.sgd.clip=1e30",
    )  # fmt: skip
    study = run_study("optimizers", config, tmp_path / "study", read=_data)
    assert study.rows[0].trials[1]["validation_loss"] is None
    assert study.rows[0].lr == pytest.approx(0.1)
    lost = _config(tmp_path, 'study.candidates=["sgd"]', "study.grid=[1e30]", "optimizers.sgd.clip=1e30")
    study = run_study("optimizers", lost, tmp_path / "other", read=_data)
    assert study.rows[0].lr is None
    assert study.rows[0].runs == ()
    assert "| 2 | sgd | every trial diverged |" in results_table(study)
    assert answers(study) == []


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (
            "optimisers",
            [],
            r"unknown study 'optimisers' \(did you mean 'optimizers'\?\): expected one of optimizers, norms",
        ),
        (
            "optimizers",
            ['study.candidates=["adm"]'],
            r"unknown optimizer 'adm' \(did you mean 'adam'\?\): expected one of gradient-descent, sgd",
        ),
        ("norms", ['study.candidates=["adam"]'], "unknown norm 'adam': expected one of group, batch, layer, instance"),
        ("optimizers", ["optimizers.sgd.betas=[0.9, 0.99]"], r"optimizer\.betas: belongs to adam, amsgrad, adamw"),
    ],
)
def test_unknown_names_list_the_valid_ones(tmp_path: Path, kind: str, overrides: list[str], message: str) -> None:
    config = _config(tmp_path, *overrides)
    with pytest.raises(ConfigError, match=message):
        run_study(kind, config, tmp_path / "study", read=lambda config: pytest.fail("data was read before the error"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "study.stepz=3",
            r"unknown key study\.stepz \(did you mean 'steps'\?\): expected one of batch_sizes, candidates",
        ),
        ("optimizers.adm.lr=3", r"unknown optimizer 'adm' \(did you mean 'adam'\?\): expected one of gradient-descent"),
        ("study.optimizer=adm", "unknown optimizer 'adm'"),
        ("study.batch_sizes=[7]", r"expected batches of at most study\.examples = 6, got 7: raise study\.examples"),
        ("study.steps=1", r"study\.steps: .*greater than or equal to 2, got 1"),
        ("study.steps", "--set: expected section.key=value, got 'study.steps'"),
        ("study.steps.more=1", "steps is a value, not a section"),
    ],
)
def test_bad_configurations(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(tmp_path, override)


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch\.toml: cannot be read \(No such file or directory\)"):
        load_study(tmp_path / "nosuch.toml")
    (tmp_path / "bad.toml").write_text("[study")
    with pytest.raises(ConfigError, match="not TOML"):
        load_study(tmp_path / "bad.toml")


def test_examples_of_different_sizes(tmp_path: Path) -> None:
    config = _config(tmp_path)
    wide = _config(tmp_path, "data.simulation.min_size=40")
    examples = [_example(config), _example(wide)]
    with pytest.raises(
        ConfigError, match=r"expected examples of one size \(coil x rows x columns\), got 1x16x36, 1x16x40"
    ):
        stacked(examples)


def test_self_supervision_has_no_target_to_measure_on(tmp_path: Path) -> None:
    config = _config(tmp_path, "data.target=ssdu")
    with pytest.raises(ConfigError, match=r"expected data\.target = truth or cs, got ssdu"):
        _data(config)


def _example(config: StudyConfig) -> Any:
    from mri_recon_data.examples.stream import ExampleStream

    return ExampleStream(_slices(0), config.data, seed=0, batch_size=1, steps=1)[0][0]


def test_studies_in_the_repository_are_valid() -> None:
    for kind in ("optimizers", "norms"):
        config = load_study(CONFIGS / f"{kind}.toml")
        assert candidates(kind, config)


def test_a_wrong_kind_is_said_before_a_configuration_is_looked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(build_app(), ["study", "optimisers", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == (
        "mri-recon: error: unknown study 'optimisers' (did you mean 'optimizers'?): expected one of optimizers, norms\n"
    )
    assert not (tmp_path / "out").exists()


def test_command_writes_results_page_and_curves(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for person in range(3):
        write_fastmri(
            files / f"{person}.h5", shape=(2, 1, 24, 64), recon=(20, 60), patient=f"person {person}", seed=person
        )
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- study norms: begin -->\n<!-- study norms: end -->\nafter\n")
    config = tmp_path / "study.toml"
    config.write_text("")
    options = [part for override in TINY for part in ("--set", override)]
    options += ["--set", f"data.root={files}", "--set", "data.validation_slices=2", "--set", "study.grid=[1.0]"]
    options += ["--set", 'study.candidates=["group", "batch"]', "-o", str(tmp_path / "out"), "--page", str(page)]
    result = CliRunner().invoke(build_app(), ["study", "norms", str(config), *options])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "study-norms.png").read_bytes()[:4] == b"\x89PNG"
    assert (page.parent / "images" / "study-norms.png").is_file()
    text = page.read_text()
    assert text.startswith("before\n<!-- study norms: begin -->\nMade by `mri-recon ")
    assert text.endswith("<!-- study norms: end -->\nafter\n")
    assert re.search(r"\| 2 \| group \|.*\| \d+\.\d\d ± ", text)  # with a PSNR on whole slices
    assert "Does Group norm beat batch norm at batch size 2?" in text
    assert "| 2 | batch |" in (tmp_path / "out" / "study.md").read_text()


@pytest.mark.real_data
def test_registered_examples_have_one_size() -> None:
    config = load_study(CONFIGS / "optimizers.toml", ["study.examples=48", "study.validation_examples=8"])
    data = read_study_data(config)
    assert data.training.target.shape == (48, 32, 96)
    assert len(data.raw) == 12
    assert "simulated from magnitude images" in data.source

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import CheckpointError, ConfigError, MriReconError, OutputError
from mri_recon.masks.draw import random_mask
from mri_recon.models.checkpoint import build_network, load_checkpoint, load_named
from mri_recon.models.inference import image_scale
from mri_recon_data.examples.batches import BatchSimulator
from mri_recon_data.examples.example import crop_rows, raw_example
from mri_recon_data.examples.folder_split import split_folder
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_training.config import load_config
from mri_recon_training.losses import LossConfig, batch_loss
from mri_recon_training.processes import share_of_batch
from mri_recon_training.run import run
from mri_recon_training.toml_config import config_file
from mri_recon_training.train import validate
from tests.support.fastmri_files import write_fastmri
from tests.support.patience import PATIENCE

COMMON = [
    "run.name=tiny",
    "run.threads=1",
    "run.validate_every=4",
    "run.checkpoint_every=2",
    "run.log_every=1",
    "run.batch_size=2",
    "optimizer.warmup=2",
    "data.rows=16",
    "data.workers=0",
    "data.validation_slices=2",
    "data.sampling.acceleration=[2, 4]",
]
UNET = ["model.chans=4", "model.num_pool_layers=2", "model.channels_per_group=4"]
UNROLLED = [
    "model.architecture=unrolled",
    "model.num_cascades=2",
    "model.memory=1",
    "model.chans=4",
    "model.num_pool_layers=1",
    "model.channels_per_group=4",
    "model.maps_chans=4",
]

# Of small images: enough central lines for the maps of several coils.
CENTER = [
    "data.sampling.acceleration=[2, 3]",
    "data.sampling.default_center=0",
    "data.sampling.center_fraction=[0.1, 0.15]",
]


def _config(folder: Path, data: Path | str, steps: int, model: Sequence[str] = UNET) -> tuple[Path, list[str]]:
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text("")
    return path, [*COMMON, *model, f"run.folder={folder / 'runs'}", f"data.root={data}", f"run.steps={steps}"]


def _state(folder: Path) -> dict[str, Tensor]:
    return load_tensors((folder / "state.safetensors").read_bytes())


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def _assert_equal_states(mine: Path, theirs: Path) -> None:
    """Equal bytes of weights, average and moments are the promise; the history has seconds in it."""
    one, other = _state(mine), _state(theirs)
    assert one.keys() == other.keys()
    for key, value in other.items():
        assert torch.equal(one[key], value), key


def _start(code: str, *launcher: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *launcher, *(() if launcher else ("-c",)), code], env=environment)


def test_training_learns_and_writes_a_model(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 60)
    folder = run(path, [*overrides, "run.validate_every=20", "run.checkpoint_every=60", "optimizer.lr=3e-3"])
    lines = _lines(folder)
    assert [line["step"] for line in lines] == [20, 40, 60]
    config = load_config(path, overrides)
    examples = validation_examples(FolderSlices.index(split_folder(config.data)[1]), config.data, seed=0)
    assert lines[-1]["psnr"] > validate(nn.Identity(), examples)["psnr"] + 0.3
    card = load_checkpoint(folder / "tiny.safetensors").card
    best = max(line["psnr"] for line in lines)
    assert card.results["psnr"] == best
    assert card.loss_curve[-1]["psnr"] == best
    assert card.data == [{"name": str(fastmri_folder), "kind": "user"}]
    assert card.training["configuration"]["run"]["steps"] == 60
    # What these files hold: three coils; their noise is not looked at.
    assert card.envelope.num_coils == (3, 3)
    assert card.envelope.acceleration == (2, 4)
    assert card.envelope.snr is None


def test_the_card_of_simulated_data(tmp_path: Path, small_registry: RegistrySlices) -> None:
    path, overrides = _config(tmp_path, "", 1, UNROLLED)
    small = ["data.simulation.min_size=32", "data.sampling.acceleration=[2, 3]", "data.simulation.snr=[10, 200]"]
    card = load_checkpoint(run(path, [*overrides, *small]) / "tiny.safetensors").card
    assert card.envelope.num_coils == (1, 32)
    assert card.envelope.snr == pytest.approx((10 / 2**0.5, 200 / 2**0.5))  # to both parts of the noise together
    assert card.architecture == "unrolled"
    assert "data consistency" in card.description


@pytest.mark.parametrize(
    ("architecture", "model"),
    [
        ("unet", {"chans": 8, "num_pool_layers": 2, "channels_per_group": 8}),
        ("unrolled", {"chans": 8, "num_pool_layers": 1, "channels_per_group": 8, "num_cascades": 3, "patch": 1}),
    ],
)
def test_one_slice_is_learned_by_heart(
    small_registry: RegistrySlices, architecture: str, model: dict[str, Any]
) -> None:
    """A network that cannot learn one example, or a loss that does not lead there, would stay near where it starts."""
    torch.manual_seed(0)
    kspace = small_registry.raw[0].kspace
    whole = raw_example(kspace, random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=1))
    example = crop_rows(whole, image_scale(whole.measurement.adjoint()), 64, np.random.default_rng(0))
    network = build_network(architecture, model)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 200)
        optimizer.zero_grad()
        loss = batch_loss(network, [example], LossConfig(l1=1, ssim=0))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.02
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow  # two processes that import everything
@pytest.mark.parametrize("model", [UNET, UNROLLED], ids=["unet", "unrolled"])
def test_two_processes_are_as_one(tmp_path: Path, fastmri_folder: Path, model: list[str]) -> None:
    """The same global batch: weights after five steps of SGD to 1e-10 in float64, the loss curve of Adam to 1e-3."""
    sgd = ["optimizer.name=sgd", "optimizer.lr=0.1", "run.precision=float64", "run.steps=5"]
    adam = ["optimizer.lr=3e-3", "run.steps=12"]
    runs = {}
    script = ["from pathlib import Path", "from mri_recon_training.run import run"]
    for name, settings in (("sgd", sgd), ("adam", adam)):
        path, overrides = _config(tmp_path / name, fastmri_folder, 1, model)
        settings = [*overrides, "run.batch_size=4", "run.device=cpu", *settings]
        runs[name] = run(path, [*settings, "run.name=one"])
        script.append(f"run(Path({str(path)!r}), {[*settings, 'run.name=two']!r})")
    file = tmp_path / "two.py"
    file.write_text("\n".join(script))
    process = _start(str(file), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    try:
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()

    one, two = _state(runs["sgd"]), _state(runs["sgd"].parent / "two")
    moved = 0.0
    for key, value in one.items():
        assert (two[key] - value).abs().max() <= 1e-10, key
        moved = max(moved, float(value.abs().max())) if "head.weight" in key else moved
    assert moved > 1e-3  # the last layer starts at zero: something was learned
    assert _lines(runs["sgd"].parent / "two")[-1]["psnr"] == pytest.approx(_lines(runs["sgd"])[-1]["psnr"], abs=1e-9)
    curves = [_curve(folder, "train/loss") for folder in (runs["adam"], runs["adam"].parent / "two")]
    assert [step for step, _ in curves[1]] == list(range(1, 13))  # one process tells, once
    for (_, mine), (_, theirs) in zip(*curves, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3)


@pytest.mark.slow  # a process that imports everything
@pytest.mark.parametrize("model", [UNET, UNROLLED])
def test_a_killed_run_goes_on_exactly(tmp_path: Path, fastmri_folder: Path, model: list[str]) -> None:
    whole = run(*_config(tmp_path / "a", fastmri_folder, 12, model))
    path, overrides = _config(tmp_path / "b", fastmri_folder, 12, model)
    code = f"from pathlib import Path; from mri_recon_training.run import run; run(Path({str(path)!r}), {overrides!r})"
    folder = tmp_path / "b" / "runs" / "tiny"
    process = _start(code)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (folder / "state.safetensors").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert run(None, [], folder) == folder
    _assert_equal_states(folder, whole)
    assert load_checkpoint(folder / "tiny.safetensors").sha256 == load_checkpoint(whole / "tiny.safetensors").sha256
    # What is told of it is told once, and is the same.
    for mine, theirs in zip(_lines(folder), _lines(whole), strict=True):
        assert mine | {"seconds": 0} == theirs | {"seconds": 0}
    # In order of steps: TensorBoard orders the files of one second by the number of their process.
    assert sorted(_curve(folder, "train/loss")) == _curve(whole, "train/loss")
    assert [step for step, _ in sorted(_curve(folder, "train/loss"))] == list(range(1, 13))
    assert [step for step, _ in sorted(_curve(folder, "validation/psnr"))] == [4, 8, 12]


class _Killed(Exception):
    pass


@contextmanager
def _stopping(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> Iterator[None]:
    """Training raises in the middle of step number `at`."""
    from mri_recon_training import train as loop

    real, calls = loop._seed_dropout, []

    def seed_dropout(*arguments: int) -> None:
        calls.append(arguments)
        if len(calls) == at:
            raise error
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_seed_dropout", seed_dropout)
        yield


def _interrupted(monkeypatch: pytest.MonkeyPatch, at: int, path: Path, overrides: list[str]) -> Path:
    """A run that ends in the middle of a step, as if it had been killed."""
    with _stopping(monkeypatch, at, _Killed()), pytest.raises(_Killed):
        run(path, overrides)
    config = load_config(path, overrides)
    return Path(config.run.folder) / config.run.name


@pytest.mark.parametrize("at", [1, 4, 9])
def test_an_interrupted_run_says_how_to_go_on(
    at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fastmri_folder: Path
) -> None:
    """Ctrl-C before the first state, between states, or after the last: one line, and what it says to type works."""
    whole = run(*_config(tmp_path / "a", fastmri_folder, 9))
    path, overrides = _config(tmp_path / "b b", fastmri_folder, 9)
    sets = [part for override in overrides for part in ("--set", override)]
    with _stopping(monkeypatch, at, KeyboardInterrupt()):
        result = CliRunner().invoke(build_app(), ["train", str(path), *sets])
    assert result.exit_code == 130
    folder = tmp_path / "b b" / "runs" / "tiny"
    line = result.stderr.splitlines()[-1]
    assert line == f"mri-recon: interrupted: go on with mri-recon train --resume '{folder}'"
    result = CliRunner().invoke(build_app(), shlex.split(line.split("go on with mri-recon ")[1]))
    assert result.exit_code == 0, result.output
    _assert_equal_states(folder, whole)


@pytest.mark.parametrize(
    "optimizer",
    [
        ["gradient-descent"],
        ["sgd"],
        ["momentum", "optimizer.momentum_warmup=4"],
        ["nesterov"],
        ["rmsprop"],
        ["adam"],
        ["amsgrad"],
        ["adamw"],
        ["lbfgs", "optimizer.lr=0.5", "optimizer.max_iter=3"],
    ],
    ids=lambda names: names[0],
)
def test_every_optimizer_goes_on_exactly(
    tmp_path: Path, fastmri_folder: Path, monkeypatch: pytest.MonkeyPatch, optimizer: list[str]
) -> None:
    extra = [f"optimizer.name={optimizer[0]}", *optimizer[1:], "run.tensorboard=false", "data.rows=16"]
    if optimizer[0] == "lbfgs":
        extra.append("optimizer.warmup=0")
    path, overrides = _config(tmp_path / "a", fastmri_folder, 6)
    whole = run(path, [*overrides, *extra])
    path, overrides = _config(tmp_path / "b", fastmri_folder, 6)
    folder = _interrupted(monkeypatch, 4, path, [*overrides, *extra])
    run(None, [], folder)
    _assert_equal_states(folder, whole)
    assert [line["train_loss"] for line in _lines(folder)] == [line["train_loss"] for line in _lines(whole)]


def test_dropout_and_norm_statistics_go_on_exactly(
    tmp_path: Path, fastmri_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = [*UNET, "model.drop_prob=0.2", "model.normalization=batch"]
    whole = run(*_config(tmp_path / "a", fastmri_folder, 5, model))
    folder = _interrupted(monkeypatch, 4, *_config(tmp_path / "b", fastmri_folder, 5, model))
    run(None, [], folder)
    _assert_equal_states(folder, whole)


def test_full_batch_optimizers_see_the_same_examples_at_every_step(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 8)
    extra = ["optimizer.name=gradient-descent", "optimizer.lr=0.02", "optimizer.warmup=0", "optimizer.decay=none"]
    losses = [loss for _, loss in _curve(run(path, [*overrides, *extra]), "train/loss")]
    assert losses == sorted(losses, reverse=True)  # with fresh examples the loss would go up and down
    assert losses[-1] < losses[0]


def test_an_existing_run_is_not_overwritten(tmp_path: Path, fastmri_folder: Path) -> None:
    arguments = _config(tmp_path, fastmri_folder, 2)
    run(*arguments)
    with pytest.raises(ConfigError, match="exists: go on with --resume"):
        run(*arguments)


def test_resume_needs_a_run_and_its_own_state(tmp_path: Path, fastmri_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a run's folder with config\.json"):
        run(None, [], tmp_path)
    with pytest.raises(ConfigError, match="expected a configuration file or --resume RUN"):
        run(None)
    folder = run(*_config(tmp_path, fastmri_folder, 2))
    for override in ("optimizer.lr=1", "run.seed=4", "run.name=other", "data.rows=16"):
        with pytest.raises(ConfigError, match=r"expected --set of one of run\.steps, .*, got .*: the rest of a run's"):
            run(None, [override], folder)
    for steps in (1, 0, -3):
        with pytest.raises(ConfigError, match=r"run\.steps"):
            run(None, [f"run.steps={steps}"], folder)
    state = folder / "state.safetensors"
    content = state.read_bytes()
    for damaged in (b"", b"damaged", content[:100], content[:-100], b"\0" * 8 + content[8:]):
        state.write_bytes(damaged)
        with pytest.raises(
            CheckpointError, match=r"resume: cannot read .*state\.safetensors .*: the file is missing or"
        ):
            run(None, [], folder)
    flipped = bytearray(content)
    flipped[-1000] ^= 1
    state.write_bytes(bytes(flipped))
    with pytest.raises(
        CheckpointError, match=r"state\.safetensors is damaged, its checksum is not that of its content"
    ):
        run(None, [], folder)


def test_the_state_of_another_network(tmp_path: Path, fastmri_folder: Path) -> None:
    folder = run(*_config(tmp_path, fastmri_folder, 2))
    config = json.loads((folder / "config.json").read_text())
    config["model"]["chans"] = 8
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is of another network or optimiser"):
        run(None, [], folder)


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path, fastmri_folder: Path) -> None:
    folder = run(*_config(tmp_path, fastmri_folder, 2))
    before = _state(folder)
    half = folder / ".state.safetensors.x1"
    half.write_bytes(b"of a run that was killed while it wrote")
    run(None, [], folder)
    assert not half.exists()
    assert all(torch.equal(before[key], value) for key, value in _state(folder).items())
    assert len(_lines(folder)) == 1


def test_a_run_that_diverges_says_so_and_keeps_its_state(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 40)
    extra = ["optimizer.name=sgd", "optimizer.lr=1e30", "optimizer.clip=1e30"]
    with pytest.raises(ConfigError, match=r"the run has diverged, its loss is not finite at or before step"):
        run(path, [*overrides, *extra])
    state = tmp_path / "runs" / "tiny" / "state.safetensors"
    if state.exists():
        assert all(value.isfinite().all() for key, value in _state(state.parent).items() if key.startswith("average"))


def test_bfloat16_trains(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    folder = run(path, [*overrides, "run.precision=bfloat16", "data.workers=1"])
    assert (folder / "tiny.safetensors").exists()
    assert all(value.dtype == torch.float32 for key, value in _state(folder).items() if key.startswith("model."))


def test_float64_trains(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2, UNROLLED)
    folder = run(path, [*overrides, "run.precision=float64"])
    assert all(value.dtype == torch.float64 for key, value in _state(folder).items() if key.startswith("model."))


def test_a_device_that_is_not_there(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    for name in ("abacus", "meta"):
        with pytest.raises(ConfigError, match=rf"run\.device: expected auto, cpu, cuda or mps, got '{name}'"):
            run(path, [*overrides, f"run.device={name}"])
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="sees no CUDA device"):
            run(path, [*overrides, "run.device=cuda", "run.name=other"])


def test_a_batch_that_does_not_divide() -> None:
    assert share_of_batch(6, 3) == 2
    with pytest.raises(ConfigError, match=r"run\.batch_size: expected a multiple of the 4 processes, got 6: choose 8"):
        share_of_batch(6, 4)


def test_several_processes_need_a_batch_to_share_and_no_single_device(
    tmp_path: Path, fastmri_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"expected a multiple of the 2 processes, got 3: choose 4"):
        run(path, [*overrides, "run.batch_size=3"])
    with pytest.raises(ConfigError, match=r"run\.device: expected cpu, cuda or auto for 2 processes, got 'cpu:0'"):
        run(path, [*overrides, "run.device=cpu:0"])


def test_start_weights_must_fit(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    weights = run(path, overrides) / "tiny.safetensors"
    again = run(path, [*overrides, "run.name=again", f"run.weights={weights}", "optimizer.lr=1e-30"])
    for mine, theirs in zip(
        load_checkpoint(again / "again.safetensors").network.parameters(),
        load_checkpoint(weights).network.parameters(),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    with pytest.raises(ConfigError, match=r"run\.weights: expected weights of the network that \[model\] describes"):
        run(path, [*overrides, "run.name=third", f"run.weights={weights}", "model.chans=8"])


def test_start_weights_stay_where_no_step_is_better(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 4)
    weights = run(path, overrides) / "tiny.safetensors"
    without_model = [one for one in overrides if not one.startswith("model.")]
    again = run(path, [*without_model, "run.name=again", f"run.weights={weights}", "optimizer.lr=3"])
    first, last = _lines(again)
    assert first["step"] == 0
    assert last["psnr"] < first["psnr"]
    kept = load_checkpoint(again / "again.safetensors")
    for mine, theirs in zip(kept.network.parameters(), load_checkpoint(weights).network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert [entry["step"] for entry in kept.card.loss_curve] == [0]
    run(None, resume=again)  # a run that is over: nothing is validated or written again
    assert len(_lines(again)) == 2


def test_the_network_of_a_configuration_without_model_is_that_of_its_weights(tmp_path: Path) -> None:
    for weights in ("unrolled", "unrolled-0.1", "unet"):
        card = load_named(weights).card
        config = load_config(config_file(Path("fine-tune")), [f"run.weights={weights}"])
        assert config.model.architecture == card.architecture
        network = config.model.model_dump()
        assert {key: network[key] for key in card.config} == card.config
    assert load_config(config_file(Path("fine-tune"))).run.weights == "unrolled"
    with pytest.raises(
        CheckpointError, match=r"unknown model 'unroled' \(did you mean 'unrolled'\?\): expected one of"
    ):
        load_config(config_file(Path("fine-tune")), ["run.weights=unroled"])


def test_workers_make_the_same_examples(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 5)
    one = run(path, overrides)
    two = run(path, [*overrides, "run.name=two", "data.workers=1"])
    _assert_equal_states(one, two)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by the tracer itself
def test_a_compiled_network_trains_and_keeps_the_names_of_its_weights(
    tmp_path: Path, fastmri_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, but run by eager kernels: generated ones take minutes to build."""
    original, compiled = nn.Module.compile, []

    def compile_quickly(module: nn.Module, **options: Any) -> None:
        compiled.append(type(module).__name__)
        original(module, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_quickly)
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    plain = run(path, overrides)
    folder = run(path, [*overrides, "run.name=two", "run.compile=true"])
    assert compiled == ["Unet"]
    one, other = _state(folder), _state(plain)
    assert one.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(one[key], value, rtol=1e-3, atol=1e-4)


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    """A file of sixty slices needs no more than one of two: k-space is read a slice at a time."""
    peaks = []
    for slices in (2, 60):
        path = write_fastmri(tmp_path / f"{slices}.h5", shape=(slices, 4, 64, 64), recon=(64, 64))
        config = load_config(*_config(tmp_path, tmp_path, 1))
        stream = ExampleStream(FolderSlices.index([path]), config.data, seed=0, batch_size=1, steps=9)
        stream[0]
        tracemalloc.start()  # sees NumPy's arrays, which is what a file is read into
        for step in range(1, 9):
            stream[step]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size_of_a_slice = 4 * 64 * 64 * 8
    assert peaks[1] < 1.5 * peaks[0] + size_of_a_slice
    assert peaks[1] < 20 * size_of_a_slice


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("lightning_fabric", r"needs Lightning Fabric, which is not installed: pip install 'mri-recon\[train\]'"),
        (
            "torch.utils.tensorboard",
            r"TensorBoard, which is not installed: pip install 'mri-recon\[train\]', or set run",
        ),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, fastmri_folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=message):
        run(*_config(tmp_path, fastmri_folder, 2))


@pytest.mark.parametrize("multi_coil", [0, 1])
def test_batches_made_on_the_device_lower_the_loss(
    tmp_path: Path, small_registry: RegistrySlices, multi_coil: int
) -> None:
    """Of batches that the run has not seen, against the untrained network."""
    path, overrides = _config(tmp_path, "", 60, UNROLLED)
    extra = ["batches.where=device", "data.simulation.min_size=32", *CENTER]
    extra += [f"data.simulation.multi_coil={multi_coil}", "data.simulation.num_coils=[3, 3]"]
    extra += ["data.simulation.snr=[100, 400]", "data.simulation.wrap=0", "loss.ssim=0", "data.rows=32"]
    extra += ["optimizer.lr=1e-2", "optimizer.ema_decay=0.8", "run.validate_every=60", "run.tensorboard=false"]
    folder = run(path, [*overrides, *extra])
    config = load_config(path, [*overrides, *extra])
    device = torch.device("cpu")
    simulator = BatchSimulator(small_registry, config.data, config.batches, seed=1, device=device)
    trained = load_checkpoint(folder / "tiny.safetensors")
    untrained = build_network("unrolled", trained.card.config)
    losses = [
        sum(float(batch_loss(network, simulator.batch(step, range(2)), config.loss)) for step in range(20))
        for network in (untrained.requires_grad_(False), trained.network)
    ]
    assert losses[1] < 0.97 * losses[0]


def test_batches_made_on_the_device_go_on_exactly(
    tmp_path: Path, small_registry: RegistrySlices, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ["batches.where=device", "data.simulation.min_size=32", *CENTER]
    path, overrides = _config(tmp_path / "a", "", 5)
    whole = run(path, [*overrides, *extra])
    path, overrides = _config(tmp_path / "b", "", 5)
    folder = _interrupted(monkeypatch, 4, path, [*overrides, *extra])
    run(None, [], folder)
    _assert_equal_states(folder, whole)


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path, fastmri_folder: Path) -> None:
    """What is left would have to be resumed, with the configuration that was refused."""
    path, overrides = _config(tmp_path / "a", fastmri_folder, 1)
    (tmp_path / "empty").mkdir()
    runs = load_config(path, overrides).run.folder
    for refused in (f"data.root={tmp_path / 'empty'}", "run.device=quantum", f"run.weights={tmp_path / 'none'}"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(MriReconError):
            run(path, [*overrides, refused])
        assert sorted(tmp_path.rglob("*")) == before
    kept = Path(runs, "tiny", "notes.txt")
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="expected a folder with fastMRI files"):
        run(path, [*overrides, f"data.root={tmp_path / 'empty'}"])
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("what", ["weights", "card"])
def test_a_run_does_not_replace_its_start_weights(what: str, tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path / "a", fastmri_folder, 1)
    folder = Path(load_config(path, overrides).run.folder, "tiny")
    folder.mkdir(parents=True)
    start = folder / "tiny.safetensors" if what == "weights" else tmp_path / "start.safetensors"
    start.write_bytes(b"weights")
    if what == "card":
        start.with_suffix(".json").symlink_to(folder / "tiny.json")
    (folder / "tiny.json").write_bytes(b"card")
    with pytest.raises(OutputError, match="which is the (card of the )?start weights"):
        run(path, [*overrides, f"run.weights={start}"])
    assert (start.read_bytes(), (folder / "tiny.json").read_bytes()) == (b"weights", b"card")
    assert not (folder / "config.json").exists()

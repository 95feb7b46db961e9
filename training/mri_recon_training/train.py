"""Train a network: one loop that reads from top to bottom.

    mri-recon train CONFIG.toml [--set run.steps=100] [--resume RUN]
    torchrun --nproc-per-node=4 --no-python mri-recon train CONFIG.toml

A run has a folder: `config.json`, `state.safetensors` (to resume), `metrics.jsonl` (one line for each validation),
`tensorboard` (curves), and NAME.safetensors with its model card NAME.json: the averaged weights that scored best on the
validation examples.

Examples, dropout and learning rate of step i depend on the seed and on i alone. A run therefore resumes exactly from
its weights, the optimiser's state and the number of the step.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mri_recon_data.examples.batches import Batch, BatchSimulator
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import FolderSlices, Slices, read_slices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mri_recon._system.files import write_atomically
from mri_recon._system.outputs import check_outputs, check_writable_folder
from mri_recon.errors import ConfigError, MriReconError
from mri_recon.models.checkpoint import save_checkpoint, weights_file
from mri_recon_training.config import TrainConfig, load_config, parse_config
from mri_recon_training.learner import Learner, compile_unets
from mri_recon_training.losses import Shared, batch_loss, score
from mri_recon_training.model_card import envelope_of, model_card, sources_of
from mri_recon_training.optimizer_config import full_batch
from mri_recon_training.processes import all_reduce, launch, share_of_batch
from mri_recon_training.progress import Meter, ProgressReport
from mri_recon_training.state import STATE_FILE, load_state, save_state
from mri_recon_training.toml_config import config_file, read_json

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["run", "train", "validate"]

_SCORES = ("psnr", "ssim")


def run(config_path: Path | None, overrides: Sequence[str] = (), resume: Path | None = None) -> Path:
    """Train as a configuration file describes, or resume the run in the folder `resume`; returns the run's folder.

    Raises:
        ConfigError: a bad configuration, neither or both of file and run, or a run folder that is already there; and
            as `train`.
        CheckpointError: as `train`.
        OutputError: the run's folder cannot be written to, or its files would replace what the run reads.
    """
    if (config_path is None) == (resume is None):
        raise ConfigError("train: expected a configuration file or --resume RUN, one of the two")
    if resume is not None:
        if overrides:
            raise ConfigError("train --resume: goes on with the run's own configuration, --set is not possible")
        saved = resume / "config.json"
        if not saved.is_file():
            raise ConfigError(f"train --resume: expected a run's folder with config.json, got {resume}")
        config = parse_config(read_json(saved))
        check_writable_folder("train --resume", resume)
        return _interruptible(config, resume, launch(config))
    assert config_path is not None
    config_path = config_file(config_path)
    config = load_config(config_path, overrides)
    folder = Path(config.run.folder) / config.run.name
    check_writable_folder("run.folder", folder)
    if folder.is_dir():
        _check_files(config, folder, config_path)
    fabric = launch(config)
    made: list[Path] = []
    try:
        if fabric.is_global_zero:
            if (folder / "config.json").exists():
                raise ConfigError(
                    f"run folder {folder} exists: go on with --resume {folder}, or choose another --set run.name=NAME"
                )
            made = _make_folder(folder)
            write_atomically(folder / "config.json", (config.model_dump_json(indent=2) + "\n").encode())
            made.insert(0, folder / "config.json")
        fabric.barrier()
        return _interruptible(config, folder, fabric)
    except MriReconError:
        _take_back(folder, made)
        raise


def _check_files(config: TrainConfig, folder: Path, config_path: Path) -> None:
    """Refuse a run whose files, in a folder that is there already, would replace what it reads."""
    weights = folder / f"{config.run.name}.safetensors"
    outputs = [folder / "config.json", folder / STATE_FILE, weights, weights.with_suffix(".json")]
    inputs: list[tuple[str, str | Path]] = [("the configuration", config_path)]
    if config.run.weights:
        start = weights_file(config.run.weights)
        inputs += [("the start weights", start), ("the card of the start weights", start.with_suffix(".json"))]
    check_outputs({f"the run's {path.name}": path for path in outputs}, inputs)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take_back(folder: Path, made: Sequence[Path]) -> None:
    """Remove the folder of a run that was refused before it wrote anything but its configuration."""
    with contextlib.suppress(OSError):  # a folder that holds something else stays
        if made and {path.name for path in folder.iterdir()} <= {"config.json"}:
            for path in made:
                path.rmdir() if path.is_dir() else path.unlink()


def _interruptible(config: TrainConfig, folder: Path, fabric: Fabric) -> Path:
    """Run `train`; an interrupt says how to resume."""
    try:
        return train(config, folder, fabric)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with mri-recon train --resume {shlex.quote(str(folder))}") from None


def train(config: TrainConfig, folder: Path, fabric: Fabric) -> Path:
    """Run the loop in `folder`, from its state if there is one; returns `folder`.

    Raises:
        ConfigError: data, start weights or batches that the configuration cannot have, or a loss that is not finite.
        CheckpointError: a damaged state, or one of another network or optimiser.
        DataError: registered data that are not at hand.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    learner, meter = Learner.of(config, fabric.device), Meter()
    first, history, earlier = _resume(folder, learner, meter, fabric)

    training, validation = read_slices(config.data)
    if fabric.is_global_zero:
        _tell_of_empty_slices(training, validation)
    examples = validation_examples(validation, config.data, seed=config.run.seed)
    batches = _batches(training, config, fabric, first)
    card = partial(model_card, config, envelope_of(config, training), sources_of(config, training))
    if config.run.compile:
        compile_unets(learner.network)
    model, stepper = fabric.setup(Shared(learner.network), learner.optimizer)
    gradient = _Gradient(model, stepper, config, fabric)

    started = time.monotonic() - earlier
    meter.pause()
    silent = not fabric.is_global_zero
    with ProgressReport(config, folder, first=first, history=history, silent=silent) as report:
        for step, batch in enumerate(batches, start=first + 1):
            _seed_dropout(config.run.seed, step, fabric.global_rank)
            model.train()
            loss = stepper.step(partial(gradient, batch))  # most ask for it once, L-BFGS several times
            learner.scheduler.step()
            learner.update_average(step, config.optimizer.ema_decay)
            meter.add(loss, gradient.norm)

            last = step == config.run.steps
            validates = step % config.run.validate_every == 0 or last
            saves = step % config.run.checkpoint_every == 0 or last
            if step % config.run.log_every == 0 or validates or saves:
                report.training(step, {**meter.read(step), "lr": float(learner.scheduler.get_last_lr()[0])})
            if validates:
                scores = validate(learner.average, examples, fabric)
                seconds = time.monotonic() - started
                history.append({"step": step, "train_loss": meter.mean_loss(), **scores, "seconds": seconds})
                report.validation(step, history[-1])
                if fabric.is_global_zero and scores["psnr"] >= max(entry["psnr"] for entry in history):
                    save_checkpoint(folder / f"{config.run.name}.safetensors", learner.average, card(history))
                meter.pause()
            if saves and fabric.is_global_zero:
                seconds = time.monotonic() - started
                progress = {"step": step, "history": history, "seconds": seconds, "meter": meter.state_dict()}
                save_state(folder / STATE_FILE, learner, progress)
                meter.pause()
    fabric.barrier()  # no process ends before the last state is written
    return folder


def _resume(folder: Path, learner: Learner, meter: Meter, fabric: Fabric) -> tuple[int, list[dict[str, float]], float]:
    """Restore the state of a run if it has one; returns finished steps, validations and seconds."""
    state_file = folder / STATE_FILE
    if fabric.is_global_zero:
        for unfinished in folder.glob(f".{STATE_FILE}.*"):  # the run was killed while it wrote
            unfinished.unlink()
    if not state_file.exists():
        return 0, [], 0.0
    progress = load_state(state_file, learner)
    meter.load_state_dict(progress["meter"])
    return progress["step"], progress["history"], progress["seconds"]


def _tell_of_empty_slices(*found: Slices) -> None:
    for slices in found:
        for text in slices.skipped() if isinstance(slices, FolderSlices) else ():
            print(text, file=sys.stderr, flush=True)


class _Gradient:
    """Computes the gradient of a batch and returns its loss: the closure of an optimiser's step.

    Attributes:
        norm: of the last gradient, before it was clipped.
    """

    norm: Tensor

    def __init__(self, model: Any, stepper: Any, config: TrainConfig, fabric: Fabric) -> None:
        self._model, self._stepper, self._config, self._fabric = model, stepper, config, fabric

    def __call__(self, batch: Batch | Sequence[Example]) -> Tensor:
        self._stepper.zero_grad(set_to_none=True)
        loss: Tensor = self._model(lambda network: batch_loss(network, batch, self._config.loss))
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._model, self._stepper, max_norm=self._config.optimizer.clip, error_if_nonfinite=False
        )
        assert norm is not None
        self.norm = norm.detach()
        return all_reduce(self._fabric, loss.detach(), "mean")


def validate(
    network: nn.Module, examples: Sequence[tuple[str, Example]], fabric: Fabric | None = None
) -> dict[str, float]:
    """Measure PSNR and SSIM on validation examples: means by kind, and over the kinds as `psnr` and `ssim`.

    The processes of `fabric` share the examples; each gets the whole result.
    """
    rank, processes = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
    network.eval()
    table = torch.zeros(len(examples), len(_SCORES), dtype=torch.float64)
    for i in range(rank, len(examples), processes):
        found = score(network, examples[i][1])
        table[i] = torch.tensor([getattr(found, name) for name in _SCORES], dtype=torch.float64)
    if fabric is not None and processes > 1:
        table = all_reduce(fabric, table, "sum").cpu()
    rows = defaultdict[str, list[list[float]]](list)
    for (kind, _), row in zip(examples, table.tolist(), strict=True):
        rows[kind].append(row)
    means: dict[str, float] = {}
    for column, name in enumerate(_SCORES):
        by_kind = {kind: sum(row[column] for row in found) / len(found) for kind, found in sorted(rows.items())}
        means[name] = sum(by_kind.values()) / len(by_kind)
        means |= {f"{name}-{kind}": value for kind, value in by_kind.items()}
    return means


def _batches(training: Slices, config: TrainConfig, fabric: Fabric, first: int) -> Iterator[Batch | Sequence[Example]]:
    """Give this process's share of each batch from step `first` on: of step s, examples s B, s B + 1, ..."""
    steps, size = range(first, config.run.steps), config.run.batch_size
    share = share_of_batch(size, fabric.world_size)
    items = range(fabric.global_rank * share, (fabric.global_rank + 1) * share)
    same = full_batch(config.optimizer.name)  # every step sees the whole set: the examples of step 0
    if config.batches.where == "device":
        simulator = BatchSimulator(training, config.data, config.batches, seed=config.run.seed, device=fabric.device)
        if same:
            return repeat(simulator.batch(0, items), len(steps))
        return (simulator.batch(step, items) for step in steps)
    stream = ExampleStream(training, config.data, seed=config.run.seed, batch_size=1, steps=config.run.steps * size)
    if same:
        return repeat([example for item in items for example in stream[item]], len(steps))
    loader = DataLoader(
        stream,
        batch_size=share,
        sampler=[step * size + item for step in steps for item in items],
        collate_fn=_one_list,
        num_workers=config.data.workers,
        prefetch_factor=max(2, 16 // share) if config.data.workers else None,
    )
    return iter(loader)


def _one_list(batches: Sequence[Sequence[Example]]) -> list[Example]:
    return [example for batch in batches for example in batch]


def _seed_dropout(seed: int, step: int, process: int) -> None:
    """Seed torch's generator, from which dropout draws, by step: its state need not be kept."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0]) >> 1)

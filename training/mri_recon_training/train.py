"""Training of a network: one loop that reads from top to bottom.

    mri-recon train CONFIG.toml [--set run.steps=100] [--resume RUN]
    torchrun --nproc-per-node=4 --no-python mri-recon train CONFIG.toml

A run has a folder: `config.json`, `state.safetensors` (to go on), `metrics.jsonl` (a line a validation), `tensorboard`
(curves), and NAME.safetensors with its model card NAME.json: the averaged weights that were best on the validation
examples.

What happens in step i depends on the seed and on i alone, not on what was before: the examples, the dropout, the
learning rate. So a run goes on exactly from its weights, the optimiser's state and the number of the step.
"""

from __future__ import annotations

import contextlib
import copy
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
from mri_recon.models import Unet
from mri_recon.models.checkpoint import build_network, load_named, save_checkpoint, weights_file
from mri_recon_training.config import TrainConfig, load_config, parse_config
from mri_recon_training.losses import Shared, batch_loss, score
from mri_recon_training.model_card import envelope_of, model_card, sources_of
from mri_recon_training.optimizers import build_optimizer, full_batch, learning_rate_factor
from mri_recon_training.processes import all_reduce, launch, share_of_batch
from mri_recon_training.progress import Meter, ProgressReport
from mri_recon_training.state import load_state, save_state
from mri_recon_training.toml_config import config_file, read_json

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["run", "train", "validate"]

_SCORES = ("psnr", "ssim")


def run(config_path: Path | None, overrides: Sequence[str] = (), resume: Path | None = None) -> Path:
    """Train as a configuration file says, or go on with the run in the folder `resume`; returns the run's folder.

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
    outputs = [folder / "config.json", folder / "state.safetensors", weights, weights.with_suffix(".json")]
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
    """Remove what a run made that was refused before it left anything but its configuration."""
    with contextlib.suppress(OSError):  # a folder that holds something else stays
        if made and {path.name for path in folder.iterdir()} <= {"config.json"}:
            for path in made:
                path.rmdir() if path.is_dir() else path.unlink()


def _interruptible(config: TrainConfig, folder: Path, fabric: Fabric) -> Path:
    """`train`, where an interrupt says how to go on."""
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
    network = _network(config, fabric)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = build_optimizer(network.parameters(), config.optimizer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, config.run.steps, config.optimizer)
    )
    state_file = folder / "state.safetensors"
    if fabric.is_global_zero:
        for unfinished in folder.glob(f".{state_file.name}.*"):  # the run was killed while it wrote
            unfinished.unlink()
    first, history, earlier, meter = 0, list[dict[str, float]](), 0.0, Meter()
    if state_file.exists():
        progress = load_state(state_file, model=network, average=average, optimizer=optimizer, scheduler=scheduler)
        first, history, earlier = progress["step"], progress["history"], progress["seconds"]
        meter.load_state_dict(progress["meter"])

    training, validation = read_slices(config.data)
    if fabric.is_global_zero:
        for slices in (training, validation):
            for text in slices.skipped() if isinstance(slices, FolderSlices) else ():
                print(text, file=sys.stderr, flush=True)
    examples = validation_examples(validation, config.data, seed=config.run.seed)
    batches = _batches(training, config, fabric, first)
    envelope, sources = envelope_of(config, training), sources_of(config, training)
    if config.run.compile:
        _compile(network)
    # What averages gradients over the processes and sets the precision; `network` holds the weights as before.
    model, stepper = fabric.setup(Shared(network), optimizer)

    norms: list[Tensor] = []

    def gradient(batch: Batch | Sequence[Example]) -> Tensor:
        stepper.zero_grad(set_to_none=True)
        loss: Tensor = model(lambda network: batch_loss(network, batch, config.loss))
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, stepper, max_norm=config.optimizer.clip, error_if_nonfinite=False)
        assert norm is not None
        norms.append(norm.detach())
        return all_reduce(fabric, loss.detach(), "mean")

    started = time.monotonic() - earlier
    meter.pause()
    silent = not fabric.is_global_zero
    with ProgressReport(config, folder, first=first, history=history, silent=silent) as report:
        for step, batch in enumerate(batches, start=first + 1):
            _seed_dropout(config.run.seed, step, fabric.global_rank)
            model.train()
            loss = stepper.step(partial(gradient, batch))  # most ask for it once, L-BFGS several times
            scheduler.step()
            _update_average(average, network, decay=_average_decay(step, config.optimizer.ema_decay))
            meter.add(loss, norms[-1])
            norms.clear()

            last = step == config.run.steps
            validates = step % config.run.validate_every == 0 or last
            saves = step % config.run.checkpoint_every == 0 or last
            if step % config.run.log_every == 0 or validates or saves:
                report.training(step, {**meter.read(step), "lr": float(scheduler.get_last_lr()[0])})
            if validates:
                scores = validate(average, examples, fabric)
                seconds = time.monotonic() - started
                record = {"step": step, "train_loss": meter.mean_loss(), **scores, "seconds": seconds}
                history.append(record)
                report.validation(step, record)
                if fabric.is_global_zero and scores["psnr"] >= max(entry["psnr"] for entry in history):
                    card = model_card(config, envelope, sources, history)
                    save_checkpoint(folder / f"{config.run.name}.safetensors", average, card)
                meter.pause()
            if saves and fabric.is_global_zero:
                save_state(
                    state_file,
                    model=network,
                    average=average,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    progress={
                        "step": step,
                        "history": history,
                        "seconds": time.monotonic() - started,
                        "meter": meter.state_dict(),
                    },
                )
                meter.pause()
    fabric.barrier()  # no process ends before the last state is written
    return folder


def validate(
    network: nn.Module, examples: Sequence[tuple[str, Example]], fabric: Fabric | None = None
) -> dict[str, float]:
    """PSNR and SSIM over validation examples: means by kind, and the mean over the kinds as `psnr` and `ssim`.

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
    """This process's share of the batch of each step from `first` on: examples s B, s B + 1, ... of step s of B."""
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


def _network(config: TrainConfig, fabric: Fabric) -> nn.Module:
    network = build_network(config.model.architecture, config.model.model_dump(exclude={"architecture"}))
    if config.run.weights:
        network.load_state_dict(_first_weights(config, network))
    network = network.to(fabric.device, torch.float64 if config.run.precision == "float64" else torch.float32)
    if config.run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _compile(network: nn.Module) -> None:
    """Compile the U-Nets, for any image size; the data consistency around them is FFTs, which gain nothing by it."""
    for module in network.modules():
        if isinstance(module, Unet):
            module.compile(dynamic=True)


def _seed_dropout(seed: int, step: int, process: int) -> None:
    """Dropout draws from torch's own generator: seed it by step, so that no state of it has to be kept."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0]) >> 1)


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(theirs)


def _average_decay(step: int, decay: float) -> float:
    """Shorter memory at the start, where an average over the first weights would only delay."""
    return min(decay, (1 + step) / (10 + step)) if decay else 0.0


def _first_weights(config: TrainConfig, network: nn.Module) -> dict[str, Tensor]:
    loaded = load_named(config.run.weights)
    if (loaded.card.architecture, _described(loaded.network)) != (config.model.architecture, _described(network)):
        raise ConfigError(
            f"run.weights: expected weights of the network that [model] describes, got {loaded.card.architecture} "
            f"{loaded.card.config}: make [model] equal to it"
        )
    return loaded.network.state_dict()


def _described(network: Any) -> dict[str, Any]:
    """What a network computes: dropout may be another in training."""
    return dict(network.config.model_dump(exclude={"drop_prob"}))

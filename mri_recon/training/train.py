"""Training of a U-Net: one loop that reads from top to bottom.

    mri-recon train CONFIG.toml [--set run.steps=100] [--resume RUN]

A run has a folder: `config.json`, `state.safetensors` (to go on), `metrics.jsonl` (a line a validation), and
NAME.safetensors with its model card NAME.json: the averaged weights that were best on the validation examples.
"""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mri_recon import metrics
from mri_recon._files import write_atomically
from mri_recon.center import center_crop
from mri_recon.checkpoint import Envelope, ModelCard, build_network, load_named, save_checkpoint
from mri_recon.data import registry
from mri_recon.data.dataset import (
    ExampleStream,
    FolderSlices,
    RegistrySlices,
    Slices,
    split_folder,
    validation_examples,
)
from mri_recon.data.examples import Example
from mri_recon.errors import ConfigError
from mri_recon.learned import apply_network, run_network
from mri_recon.training.config import TrainConfig, load_config, parse_config
from mri_recon.training.losses import example_loss
from mri_recon.training.optimizers import build_optimizer, learning_rate_factor
from mri_recon.training.state import load_state, save_state

__all__ = ["run", "train", "validate"]


def run(config_path: Path | None, overrides: Sequence[str] = (), resume: Path | None = None) -> Path:
    """Train as a configuration file says, or go on with the run in the folder `resume`; returns the run's folder.

    Raises:
        ConfigError: a bad configuration, neither or both of file and run, or a run folder that is already there.
    """
    if (config_path is None) == (resume is None):
        raise ConfigError("train: expected a configuration file or --resume RUN, one of the two")
    if resume is not None:
        if overrides:
            raise ConfigError("train --resume: goes on with the run's own configuration, --set is not possible")
        config_file = resume / "config.json"
        if not config_file.is_file():
            raise ConfigError(f"train --resume: expected a run's folder with config.json, got {resume}")
        return train(parse_config(json.loads(config_file.read_text())), resume)
    assert config_path is not None
    config = load_config(config_path, overrides)
    folder = Path(config.run.folder) / config.run.name
    if (folder / "config.json").exists():
        raise ConfigError(
            f"run folder {folder} exists: go on with --resume {folder}, or choose another --set run.name=NAME"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.json", (config.model_dump_json(indent=2) + "\n").encode())
    return train(config, folder)


def train(config: TrainConfig, folder: Path) -> Path:
    """Run the loop in `folder`, from its state if there is one; returns `folder`."""
    device = _device(config.run.device)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    model = build_network(config.model.architecture, config.model.model_dump(exclude={"architecture"})).to(device)
    if config.run.weights:
        model.load_state_dict(_first_weights(config))
    if config.run.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = build_optimizer(model.parameters(), config.optimizer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, config.run.steps, config.optimizer)
    )
    state_file = folder / "state.safetensors"
    first, history = 0, list[dict[str, float]]()
    if state_file.exists():
        first, history = load_state(state_file, model=model, average=average, optimizer=optimizer, scheduler=scheduler)

    training, validation = _slices(config)
    examples = validation_examples(validation, config.data, seed=config.run.seed)
    stream = ExampleStream(
        training, config.data, seed=config.run.seed, batch_size=config.run.batch_size, steps=config.run.steps
    )
    loader = DataLoader(
        stream,
        batch_size=None,
        sampler=range(first, config.run.steps),
        num_workers=config.data.workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=16 if config.data.workers else None,
        generator=torch.Generator().manual_seed(config.run.seed),  # else starting the loader moves the global one
    )
    started, losses = time.monotonic(), list[float]()
    with _progress() as progress:
        bar = progress.add_task(config.run.name, total=config.run.steps, completed=first, loss=math.nan, psnr=math.nan)
        for step, batch in enumerate(loader, start=first + 1):
            model.train()
            loss = _loss(model, batch, config, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
            optimizer.step()
            scheduler.step()
            _update_average(average, model, decay=_average_decay(step, config.optimizer.ema_decay))
            losses.append(float(loss.detach()))
            recent = sum(losses[-100:]) / len(losses[-100:])
            progress.update(bar, completed=step, loss=recent)
            if step % 100 == 0 and not progress.console.is_terminal:  # a log file shows no moving bar
                progress.console.print(f"step {step}/{config.run.steps}  loss {recent:.4f}")

            last = step == config.run.steps
            if step % config.run.validate_every == 0 or last:
                scores = validate(average, examples, device)
                record = {"step": step, "train_loss": sum(losses) / len(losses), **scores}
                record["seconds"] = time.monotonic() - started
                losses.clear()
                history.append(record)
                _append(folder / "metrics.jsonl", record)
                progress.update(bar, psnr=scores["psnr"])
                if scores["psnr"] >= max(entry["psnr"] for entry in history):
                    save_checkpoint(
                        folder / f"{config.run.name}.safetensors", average, _card(config, training, history)
                    )
            if step % config.run.checkpoint_every == 0 or last:
                save_state(
                    state_file,
                    step=step,
                    model=model,
                    average=average,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    history=history,
                )
    return folder


def validate(network: nn.Module, examples: Sequence[tuple[str, Example]], device: torch.device) -> dict[str, float]:
    """PSNR and SSIM over validation examples: means by kind, and the mean over the kinds as `psnr` and `ssim`."""
    network.eval()
    scores = defaultdict[str, list[metrics.Metrics]](list)
    with torch.inference_mode():
        for kind, example in examples:
            output = apply_network(network, example.measurement.to(device)).cpu()
            image, target = (center_crop(x, example.valid).abs() for x in (output, example.target[None]))
            scores[kind].append(metrics.evaluate(image, target))
    means: dict[str, float] = {}
    for name in ("psnr", "ssim"):
        by_kind = {kind: sum(getattr(m, name) for m in found) / len(found) for kind, found in sorted(scores.items())}
        means[name] = sum(by_kind.values()) / len(by_kind)
        means |= {f"{name}-{kind}": value for kind, value in by_kind.items()}
    return means


def _loss(model: nn.Module, batch: Sequence[Example], config: TrainConfig, device: torch.device) -> Tensor:
    losses = []
    for example in batch:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.run.precision == "bfloat16"):
            output = run_network(model, example.measurement.to(device))
        losses.append(example_loss(output, example, config.loss))
    return torch.stack(losses).mean()


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


def _average_decay(step: int, decay: float) -> float:
    """Shorter memory at the start, where an average over the first weights would only delay."""
    return min(decay, (1 + step) / (10 + step)) if decay else 0.0


def _slices(config: TrainConfig) -> tuple[Slices, Slices]:
    if config.data.root:
        train_files, validation_files = split_folder(config.data)
        return FolderSlices.index(train_files), FolderSlices.index(validation_files)
    return RegistrySlices.read("train"), RegistrySlices.read("validation")


def _first_weights(config: TrainConfig) -> dict[str, Tensor]:
    loaded = load_named(config.run.weights)
    mine = build_network(config.model.architecture, config.model.model_dump(exclude={"architecture"}))
    theirs = loaded.network.state_dict()
    if {name: t.shape for name, t in theirs.items()} != {name: t.shape for name, t in mine.state_dict().items()}:
        raise ConfigError(
            f"run.weights: expected weights of the network that [model] describes, got {loaded.card.architecture} "
            f"{loaded.card.config}: make [model] equal to it"
        )
    return theirs


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"run.device: expected auto, cpu, cuda or mps, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device: cuda was asked for, but this torch sees no CUDA device: use run.device=cpu")
    return device


def _card(config: TrainConfig, training: Slices, history: list[dict[str, float]]) -> ModelCard:
    sampling, simulation = config.data.sampling, config.data.simulation
    own = isinstance(training, FolderSlices)
    coils = (1, simulation.num_coils[1])
    return ModelCard(
        name=config.run.name,
        architecture=config.model.architecture,
        config=config.model.model_dump(exclude={"architecture"}),
        description="GroupNorm U-Net from the coil-combined zero-filled image to the image of the full k-space.",
        envelope=Envelope(
            acceleration=sampling.acceleration,
            num_coils=coils,
            anatomy="as in the user's files" if own else "head",
        ),
        data=[{"name": config.data.root, "kind": "user"}] if own else registry.training_sources(),
        training={
            "configuration": config.model_dump(mode="json"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        loss_curve=history,
        results={
            "chosen_by": "mean validation PSNR over kinds of examples",
            **history[-1],
        },
    )


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  validation {task.fields[psnr]:.2f} dB"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        refresh_per_second=1,
    )

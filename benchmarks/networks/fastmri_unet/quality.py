"""Quality after equal training: every network gets the same examples in the same order, loss and optimiser.

The learning rate is the one thing of its own: the best of a short list, the same for all, by the validation PSNR of the
first seed. Each finished run is a JSON file in a folder, and is not run again.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from benchmarks.networks.fastmri_unet.networks import build, num_parameters
from mri_recon._system.files import write_atomically
from mri_recon.metrics import Metrics
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_training.losses import LossConfig, batch_loss, score
from mri_recon_training.optimizer_config import OptimizerConfig
from mri_recon_training.optimizers import build_optimizer
from mri_recon_training.schedules import learning_rate_factor

LOSS = LossConfig(l1=0.0, ssim=0.2, log_l1=0.3, log_rms=0.7)
"""That of the released networks."""

Batch = list[Example]


@dataclass(frozen=True)
class Budget:
    """What every network gets."""

    steps: int = 300
    batch_size: int = 1
    rows: int = 64
    warmup: int = 50
    validation_slices: int = 12
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    seeds: tuple[int, ...] = (0, 1, 2)

    def data(self) -> DataConfig:
        """Bands of readout rows of registered training persons."""
        return DataConfig(rows=self.rows, full_probability=0.0, validation_slices=self.validation_slices)

    def optimizer(self, lr: float) -> OptimizerConfig:
        """Adam with warm-up and cosine decay; no average of the weights."""
        return OptimizerConfig(lr=lr, warmup=self.warmup, ema_decay=0.0)


@dataclass(frozen=True)
class Run:
    """One training."""

    network: str
    seed: int
    lr: float

    def file(self, folder: Path) -> Path:
        """Where the finished run is kept."""
        return folder / f"{self.network}-seed{self.seed}-lr{self.lr:g}.json"


def train(
    run: Run, budget: Budget, batches: Sequence[Batch], validation: Sequence[tuple[str, Example]]
) -> dict[str, Any]:
    """Train a network on `batches`, one a step, and measure it on `validation`."""
    network = build(run.network, run.seed)
    config = budget.optimizer(run.lr)
    optimizer = build_optimizer(network.parameters(), config)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, budget.steps, config)
    )
    start, losses = time.process_time(), list[float]()
    network.train()
    for batch in batches:
        loss = batch_loss(network, batch, LOSS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    seconds = time.process_time() - start
    return {
        **asdict(run),
        "parameters": num_parameters(network),
        "last_loss": fmean(losses[-50:]),
        "cpu_seconds": seconds,
        "validation": validate(network, validation),
    }


def validate(network: nn.Module, examples: Sequence[tuple[str, Example]]) -> dict[str, float]:
    """PSNR and SSIM of whole slices: the mean of each kind of example, and as `psnr` and `ssim` that of the kinds."""
    network.eval()
    scores = defaultdict[str, list[Metrics]](list)
    for kind, example in examples:
        scores[kind].append(score(network, example))
    means: dict[str, float] = {}
    for name in ("psnr", "ssim"):
        by_kind = {kind: fmean(getattr(m, name) for m in found) for kind, found in sorted(scores.items())}
        means[name] = fmean(by_kind.values())
        means |= {f"{name} {kind}": value for kind, value in by_kind.items()}
    return means


def finished(folder: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Budget and finished runs of a folder; None and none where there are none."""
    stamp = folder / "budget.json"
    budget = json.loads(stamp.read_text()) if stamp.is_file() else None
    return budget, [json.loads(file.read_text()) for file in sorted(folder.glob("*-seed*.json"))]


class Study:
    """Runs in a folder, those that are missing made when asked for."""

    def __init__(self, folder: Path, budget: Budget, report: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.budget, self.report = folder, budget, report
        self._slices: RegistrySlices | None = None
        self._validation: list[tuple[str, Example]] = []
        self._batches: tuple[int, list[Batch]] = (-1, [])
        stamp = folder / "budget.json"
        mine = json.loads(json.dumps({**asdict(budget), "loss": LOSS.model_dump()}))
        if not stamp.is_file():
            write_atomically(stamp, (json.dumps(mine, indent=1) + "\n").encode())
        elif (theirs := json.loads(stamp.read_text())) != mine:
            raise ValueError(
                f"{folder}: expected runs of the budget {mine}, found those of {theirs}: choose another folder"
            )

    def result(self, run: Run) -> dict[str, Any]:
        """The finished run, from its file or by running it."""
        file = run.file(self.folder)
        if not file.is_file():
            batches = self._examples(run.seed)
            row = train(run, self.budget, batches, self._validation)
            write_atomically(file, (json.dumps(row, indent=1) + "\n").encode())
            self.report(f"{run.network} seed {run.seed} lr {run.lr:g}: {row['validation']['psnr']:.2f} dB")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def best_lr(self, network: str) -> float:
        """The learning rate of the list with the best validation PSNR on the first seed."""
        first = self.budget.seeds[0]
        return max(
            self.budget.learning_rates,
            key=lambda lr: self.result(Run(network, first, lr))["validation"]["psnr"],
        )

    def rows(self, networks: Sequence[str]) -> list[dict[str, Any]]:
        """All seeds of all networks at their own learning rates, seed by seed so that examples are made once."""
        rates = {network: self.best_lr(network) for network in networks}
        return [self.result(Run(n, seed, rates[n])) for seed in self.budget.seeds for n in networks]

    def _examples(self, seed: int) -> list[Batch]:
        if self._slices is None:
            self._slices = RegistrySlices.read("train")
            self._validation = validation_examples(RegistrySlices.read("validation"), self.budget.data(), seed=0)
        if self._batches[0] != seed:
            stream = ExampleStream(
                self._slices,
                self.budget.data(),
                seed=seed,
                batch_size=self.budget.batch_size,
                steps=self.budget.steps,
            )
            self._batches = (seed, [stream[step] for step in range(self.budget.steps)])
        return self._batches[1]

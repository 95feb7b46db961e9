"""Compare optimisers and normalisations under one budget.

    mri-recon study optimizers|norms CONFIG [--set study.steps=100] -o FOLDER

Every candidate gets the same trials: the learning rates of a grid around its own default, run with one tuning seed; the
lowest validation loss at the end chooses, and the chosen one is run on the list of seeds. The budget counts gradients
of single examples: steps times batch size; a full-batch method gets as many on its fixed set of examples, hence fewer
steps. Every finished run is a file in FOLDER/runs, named by its settings (all that are not defaults), and is not
repeated.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mri_recon._system.files import write_atomically
from mri_recon._system.jsonable import jsonable
from mri_recon.models import Unet
from mri_recon_data.examples.batches import Batch
from mri_recon_training.losses import batch_loss
from mri_recon_training.optimizer_config import OptimizerConfig, full_batch, needs_closure
from mri_recon_training.optimizers import build_optimizer
from mri_recon_training.schedules import learning_rate_factor
from mri_recon_training.study.config import Candidate, StudyConfig, candidates, optimizer_config
from mri_recon_training.study.examples import StudyData, raw_psnr, read_study_data, take

__all__ = ["Row", "Study", "run_study"]

_EVALUATION_BATCH = 16


@dataclass(frozen=True)
class Row:
    """A candidate with its trials, the learning rate that won, and the runs on the seeds.

    Attributes:
        candidate: the candidate.
        trials: one record for each learning rate of the grid.
        lr: the chosen learning rate; None if every trial diverged.
        at_edge: whether the chosen learning rate is the first or last of the grid.
        runs: one record for each seed.
    """

    candidate: Candidate
    trials: tuple[dict[str, Any], ...]
    lr: float | None
    at_edge: bool
    runs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Attributes:
        kind: "optimizers" or "norms".
        config: the requested configuration.
        rows: one row for each candidate and batch size.
        untrained: losses and raw PSNR of the untrained network, which returns the zero-filled image.
        source: source of the examples.
        parameters: number of parameters of the network.
    """

    kind: str
    config: StudyConfig
    rows: tuple[Row, ...]
    untrained: dict[str, float]
    source: str
    parameters: int

    def document(self) -> dict[str, Any]:
        """Give the results for JSON."""
        return {
            "kind": self.kind,
            "config": self.config.model_dump(mode="json"),
            "source": self.source,
            "parameters": self.parameters,
            "untrained": self.untrained,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "rows": [
                {
                    "candidate": row.candidate.name,
                    "optimizer": row.candidate.optimizer,
                    "normalization": row.candidate.model.normalization,
                    "batch_size": row.candidate.batch_size,
                    "group": row.candidate.group,
                    "lr": row.lr,
                    "at_edge": row.at_edge,
                    "trials": list(row.trials),
                    "runs": list(row.runs),
                }
                for row in self.rows
            ],
        }


def run_study(
    kind: str,
    config: StudyConfig,
    folder: Path,
    *,
    read: Callable[[StudyConfig], StudyData] = read_study_data,
    report: Callable[[str], None] = lambda text: None,
) -> Study:
    """Run the missing runs in `folder`, and return all runs; `folder/study.json` holds every run.

    Args:
        kind: "optimizers" or "norms".
        config: configuration of the study.
        folder: made if absent.
        read: function that returns the examples.
        report: called with a line about every finished run.

    Raises:
        ConfigError: an unknown kind, candidate or key; examples of different sizes.
        DataError: the registry's files are not at hand.
    """
    wanted = candidates(kind, config)
    for candidate in wanted:  # a wrong key fails now, not after the runs before it
        optimizer_config(candidate, config, factor=1.0, steps=2)
    data = read(config)
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    rows = [_row(candidate, config, data, runs, report) for candidate in wanted]
    network = Unet(config.model)
    untrained = {**_losses(network, data, config), "raw_psnr": raw_psnr(network, data.raw)}
    count = sum(parameter.numel() for parameter in network.parameters())
    study = Study(kind, config, tuple(rows), untrained, data.source, count)
    text = json.dumps(jsonable(study.document()), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "study.json", (text + "\n").encode())
    return study


def _row(
    candidate: Candidate, config: StudyConfig, data: StudyData, folder: Path, report: Callable[[str], None]
) -> Row:
    def run(factor: float, seed: int, *, final: bool) -> dict[str, Any]:
        return _kept(candidate, factor, seed, config, data, folder, report, final=final)

    trials = [run(factor, config.study.tuning_seed, final=False) for factor in config.study.grid]
    finished = [number for number, trial in enumerate(trials) if trial["validation_loss"] is not None]
    if not finished:
        return Row(candidate, tuple(trials), None, False, ())
    best = min(finished, key=lambda number: trials[number]["validation_loss"])
    factors = config.study.grid
    at_edge = len(factors) > 1 and factors[best] in (min(factors), max(factors))
    found = [run(factors[best], seed, final=True) for seed in config.study.seeds]
    return Row(candidate, tuple(trials), trials[best]["lr"], at_edge, tuple(found))


def _kept(
    candidate: Candidate,
    factor: float,
    seed: int,
    config: StudyConfig,
    data: StudyData,
    folder: Path,
    report: Callable[[str], None],
    *,
    final: bool,
) -> dict[str, Any]:
    """Give the record of a run: from its file if it is there, else from the run itself."""
    budget = config.study.steps * candidate.group
    optimizer = optimizer_config(candidate, config, factor=factor, steps=max(1, budget // candidate.batch_size))
    plan = _Plan(candidate, optimizer, budget, seed, points=config.study.points if final else 1)
    depends = {
        "model": candidate.model.model_dump(exclude_defaults=True),
        "optimizer": optimizer.model_dump(mode="json", exclude_defaults=True),
        "batch_size": candidate.batch_size,
        "budget": budget,
        "seed": seed,
        "points": plan.points,
        "examples": [config.study.examples, config.study.validation_examples],
        "data": config.data.model_dump(mode="json", exclude_defaults=True),
        "loss": config.loss.model_dump(exclude_defaults=True),
    }
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{candidate.name}-b{candidate.group}-s{seed}-{digest}.json"
    if not path.is_file():
        network, curve = _train(plan, config, data)
        record = {
            "lr": optimizer.lr,
            "seed": seed,
            **curve[-1],
            "raw_psnr": raw_psnr(network, data.raw) if final else None,
            "curve": curve,
            "depends": depends,
        }
        write_atomically(path, (json.dumps(jsonable(record), allow_nan=False) + "\n").encode())
        report(
            f"{candidate.name}, batch {candidate.batch_size}, lr {optimizer.lr:.3g}, seed {seed}: "
            f"validation loss {curve[-1]['validation_loss']:.4f}, {curve[-1]['seconds']:.1f} s"
        )
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@dataclass(frozen=True)
class _Plan:
    """One run: candidate, optimiser, budget in gradients of single examples, seed, points of its curve."""

    candidate: Candidate
    optimizer: OptimizerConfig
    budget: int
    seed: int
    points: int


def _train(plan: _Plan, config: StudyConfig, data: StudyData) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a network; returns it and its curve: step, gradients of single examples, processor seconds, losses.

    A run whose loss is not finite ends there.
    """
    candidate = plan.candidate
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = Unet(candidate.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(network.parameters(), plan.optimizer)
    steps = max(1, plan.budget // candidate.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps, plan.optimizer)
    )
    curve: list[dict[str, float]] = [{"step": 0, "gradients": 0, "seconds": 0.0, **_losses(network, data, config)}]
    gradients, seconds, loss = 0, 0.0, 0.0
    # L-BFGS looks at its set more than once a step, and how often is its line search's affair: the budget counts.
    for step, batch in enumerate(_batches(candidate, data.training, plan.seed), start=1):
        network.train()
        started = time.process_time()
        loss, looks = _step(network, optimizer, batch, plan, config)
        scheduler.step()
        seconds += time.process_time() - started
        gradients += looks * len(batch.target)
        # Less than one step is left of a budget that the batch does not divide.
        ended = gradients + len(batch.target) > plan.budget or not math.isfinite(loss)
        if ended or gradients * plan.points >= plan.budget * len(curve):
            measured = _losses(network, data, config)
            curve.append({"step": step, "gradients": gradients, "seconds": seconds, **measured})
        if ended:
            break
    return network, curve


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, plan: _Plan, config: StudyConfig
) -> tuple[float, int]:
    """Do one step; returns the loss before it, and the number of evaluations of the batch."""
    looks = 0

    def closure() -> float:
        nonlocal looks
        looks += 1
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(network, batch, config.loss)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return float(loss.detach())

    if needs_closure(plan.candidate.optimizer):
        first = optimizer.step(closure)
        assert first is not None
        return float(first), looks
    loss = closure()
    nn.utils.clip_grad_norm_(network.parameters(), plan.optimizer.clip)
    optimizer.step()
    return loss, looks


def _batches(candidate: Candidate, examples: Batch, seed: int) -> Iterator[Batch]:
    """Give batches without end: the first examples every time for a full-batch method, else all in random orders."""
    if full_batch(candidate.optimizer):
        fixed = take(examples, torch.arange(candidate.batch_size))
        while True:
            yield fixed
    rng = np.random.default_rng([seed, 1])
    order = np.empty(0, dtype=np.int64)
    while True:
        while len(order) < candidate.batch_size:
            order = np.concatenate([order, rng.permutation(len(examples.target))])
        yield take(examples, torch.from_numpy(order[: candidate.batch_size]))
        order = order[candidate.batch_size :]


def _losses(network: nn.Module, data: StudyData, config: StudyConfig) -> dict[str, float]:
    """Compute the losses in evaluation mode, over the validation examples and as many training examples."""
    network.eval()
    found = {}
    with torch.inference_mode():
        for name, examples in (("training_loss", data.training), ("validation_loss", data.validation)):
            index = torch.arange(min(len(examples.target), len(data.validation.target)))
            parts = [take(examples, part) for part in torch.split(index, _EVALUATION_BATCH)]
            total = sum(float(batch_loss(network, part, config.loss)) * len(part.target) for part in parts)
            found[name] = total / len(index)
    return found

"""Quality after equal training: the networks learn side by side, each step on the same example.

Examples, loss and optimiser are those of the released U-Net's configuration. Every network sees the same examples in
the same order, because one stream feeds all of them. Finished runs are lines of JSON; unfinished ones resume.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.networks.fastmri_unet.networks import RELEASED, cascade, num_parameters
from mri_recon._system.files import write_atomically
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_training.config import TrainConfig, load_config
from mri_recon_training.learner import Learner
from mri_recon_training.losses import batch_loss
from mri_recon_training.optimizers import build_optimizer
from mri_recon_training.schedules import learning_rate_factor
from mri_recon_training.state import load_state, save_state
from mri_recon_training.train import validate

Stream = Sequence[list[Example]] | ExampleStream

ROWS = "quality.jsonl"


@dataclass(frozen=True)
class Budget:
    """What every network gets."""

    steps: int = 1500
    rows: int = 48
    warmup: int = 100
    learning_rates: tuple[float, ...] = (1e-3,)
    seeds: tuple[int, ...] = (0, 1, 2)

    def config(self, lr: float | None = None) -> TrainConfig:
        """The released configuration for fewer steps on narrower bands, without the rare whole slices."""
        return load_config(
            RELEASED,
            [
                f"run.steps={self.steps}",
                f"optimizer.warmup={self.warmup}",
                f"data.rows={self.rows}",
                "data.full_probability=0.0",
                *([] if lr is None else [f"optimizer.lr={lr}"]),
            ],
        )


@dataclass(frozen=True)
class Run:
    """One training."""

    network: str
    seed: int
    lr: float

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"{self.network}-seed{self.seed}-lr{self.lr:g}"


@dataclass
class Pupil:
    """A network in training, and what was counted on the way.

    Attributes:
        step: finished steps.
        cpu_seconds: processor time of them, without the making of examples.
        losses: of the last steps.
    """

    run: Run
    learner: Learner
    step: int = 0
    cpu_seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, config: TrainConfig, state: Path) -> Pupil:
        """A network at the start, or where `state` left it."""
        network = cascade(run.network, run.seed)
        average = copy.deepcopy(network).requires_grad_(False)
        optimizer = build_optimizer(network.parameters(), config.optimizer)
        factor = LambdaLR(optimizer, lambda step: learning_rate_factor(step, config.run.steps, config.optimizer))
        pupil = cls(run, Learner(network, average, optimizer, factor))
        if state.is_file():
            kept = load_state(state, pupil.learner)
            pupil.step, pupil.cpu_seconds, pupil.losses = kept["step"], kept["cpu_seconds"], kept["losses"]
        return pupil

    def save(self, state: Path) -> None:
        """Write the state from which `of` goes on."""
        kept = {"step": self.step, "cpu_seconds": self.cpu_seconds, "losses": self.losses}
        save_state(state, self.learner, kept)

    def learn(self, batch: list[Example], config: TrainConfig) -> None:
        """Take one step."""
        start, learner = time.process_time(), self.learner
        learner.network.train()
        loss = batch_loss(learner.network, batch, config.loss)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(learner.network.parameters(), config.optimizer.clip)
        learner.optimizer.step()
        learner.scheduler.step()
        self.step += 1
        learner.update_average(self.step, config.optimizer.ema_decay)
        self.losses = [*self.losses[-49:], float(loss.detach())]
        self.cpu_seconds += time.process_time() - start


def train(
    runs: Sequence[Run],
    budget: Budget,
    stream: Stream,
    validation: Sequence[tuple[str, Example]],
    folder: Path,
    every: int = 250,
) -> list[dict[str, Any]]:
    """Train the networks of `runs` in turns on each example of `stream`, and measure them on `validation`.

    Every `every` steps the states are written to `folder`, from where an interrupted call goes on.
    """
    configs = [budget.config(run.lr) for run in runs]
    states = [folder / f"{run.name}.safetensors" for run in runs]
    pupils = [Pupil.of(*three) for three in zip(runs, configs, states, strict=True)]
    for step in range(min(pupil.step for pupil in pupils), budget.steps):
        batch = stream[step]
        for pupil, config, state in zip(pupils, configs, states, strict=True):
            if pupil.step > step:  # the other state is older: interrupted between the two
                continue
            pupil.learn(batch, config)
            if pupil.step % every == 0:
                pupil.save(state)
    return [
        {
            **asdict(pupil.run),
            "parameters": num_parameters(pupil.learner.network),
            "last_loss": fmean(pupil.losses),
            "cpu_seconds": pupil.cpu_seconds,
            "validation": validate(pupil.learner.average, validation),
        }
        for pupil in pupils
    ]


def finished(folder: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Budget and finished runs of a folder; None and none where there are none."""
    stamp, rows = folder / "budget.json", folder / ROWS
    budget = json.loads(stamp.read_text()) if stamp.is_file() else None
    return budget, [json.loads(line) for line in rows.read_text().splitlines()] if rows.is_file() else []


class Study:
    """Runs in a folder, those that are missing made when asked for."""

    def __init__(self, folder: Path, budget: Budget, report: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.budget, self.report = folder, budget, report
        self._validation: list[tuple[str, Example]] = []
        stamp = folder / "budget.json"
        mine = json.loads(json.dumps({**asdict(budget), "released": budget.config().model_dump(mode="json")}))
        if not stamp.is_file():
            write_atomically(stamp, (json.dumps(mine, indent=1) + "\n").encode())
        elif (theirs := json.loads(stamp.read_text())) != mine:
            raise ValueError(
                f"{folder}: expected runs of the budget {mine}, found those of {theirs}: choose another folder"
            )

    def results(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """The runs of one seed, from the file or by training those that are missing."""
        known = self._known()
        missing = [run for run in runs if run not in known]
        if missing:
            stream, validation = self._examples(missing[0].seed)
            rows = train(missing, self.budget, stream, validation, self.folder)
            with (self.folder / ROWS).open("a") as out:
                out.writelines(json.dumps(row) + "\n" for row in rows)
            for row in rows:
                self.report(f"{row['network']} seed {row['seed']} lr {row['lr']:g}: {row['validation']['psnr']:.2f} dB")
            for run in missing:
                (self.folder / f"{run.name}.safetensors").unlink(missing_ok=True)
        known = self._known()
        return [known[run] for run in runs]

    def rows(self, networks: Sequence[str]) -> list[dict[str, Any]]:
        """All seeds of all networks, each network at the learning rate that is best on the first seed."""
        first, *others = self.budget.seeds
        tried = self.results([Run(name, first, lr) for lr in self.budget.learning_rates for name in networks])
        chosen = {row["network"]: row for row in sorted(tried, key=lambda row: float(row["validation"]["psnr"]))}
        rows = [chosen[name] for name in networks]
        for seed in others:
            rows += self.results([Run(name, seed, chosen[name]["lr"]) for name in networks])
        return rows

    def _known(self) -> dict[Run, dict[str, Any]]:
        return {Run(row["network"], row["seed"], row["lr"]): row for row in finished(self.folder)[1]}

    def _examples(self, seed: int) -> tuple[Stream, list[tuple[str, Example]]]:
        data = self.budget.config().data
        if not self._validation:
            self._validation = validation_examples(RegistrySlices.read("validation"), data, seed=0)
        slices = RegistrySlices.read("train")
        return ExampleStream(slices, data, seed=seed, batch_size=1, steps=self.budget.steps), self._validation

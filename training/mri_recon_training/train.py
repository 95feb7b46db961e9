"""Train a network: one loop that reads from top to bottom.

Examples, dropout and learning rate of step i depend on the seed and on i alone. A run therefore resumes exactly from
its weights, the optimiser's state and the number of the step.
"""

from __future__ import annotations

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
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mri_recon.models.checkpoint import save_checkpoint
from mri_recon_data.examples.batches import Batch, BatchSimulator
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import FolderSlices, Slices, read_slices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_training.announce import start_lines
from mri_recon_training.config import TrainConfig
from mri_recon_training.learner import Learner, compile_unets
from mri_recon_training.losses import Shared, batch_loss, score
from mri_recon_training.model_card import envelope_of, model_card, sources_of
from mri_recon_training.optimizer_config import full_batch
from mri_recon_training.pictures import chosen_examples, pictures_allowed
from mri_recon_training.processes import all_reduce, share_of_batch
from mri_recon_training.progress import Meter, ProgressReport
from mri_recon_training.state import STATE_FILE, load_state, save_state
from mri_recon_training.stopping import stop_after_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["train", "validate"]

_SCORES = ("psnr", "ssim")


def train(config: TrainConfig, folder: Path, fabric: Fabric) -> Path:
    """Run the loop in `folder`, from its state if there is one; returns `folder`.

    An interrupt or SIGTERM ends the run after the step, with its state saved.

    Raises:
        KeyboardInterrupt: an interrupt.
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
    model, optimizer = fabric.setup(Shared(learner.network), learner.optimizer)
    gradient = _Gradient(model, optimizer, config, fabric)

    started = time.monotonic() - earlier
    meter.pause()
    silent = not fabric.is_global_zero
    drawn = chosen_examples(examples) if config.run.tensorboard and pictures_allowed(validation) else []
    with (
        ProgressReport(config, folder, first=first, history=history, silent=silent) as report,
        stop_after_step() as stop,
    ):
        report.start(start_lines(config, training, validation, num_examples=len(examples), first=first))
        if config.run.weights and not first:  # the run may not make them better: they stay then
            history.append({"step": 0, **validate(learner.average, examples, fabric), "seconds": 0.0})
            report.validation(0, history[-1])
            if fabric.is_global_zero:
                save_checkpoint(folder / f"{config.run.name}.safetensors", learner.average, card(history))
            meter.pause()
        for step, batch in enumerate(batches, start=first + 1):
            _seed_dropout(config.run.seed, step, fabric.global_rank)
            model.train()
            # gradient: zero_grad, forward, loss, backward, clip; L-BFGS asks for it several times a step
            loss = optimizer.step(partial(gradient, batch))
            learner.scheduler.step()
            learner.update_average(step, config.optimizer.ema_decay)
            meter.add(loss, gradient.norm)

            last = step == config.run.steps
            validates = step % config.run.validate_every == 0 or last
            stops = stop.asked and not last  # looked at once: what comes later is for the next step
            saves = step % config.run.checkpoint_every == 0 or last or stops
            if step % config.run.log_every == 0 or validates or saves:
                report.training(step, {**meter.read(step), "lr": float(learner.scheduler.get_last_lr()[0])})
            if validates:
                scores = validate(learner.average, examples, fabric)
                report.pictures(step, learner.average, drawn)
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
            if stops:
                stop.finish()
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

    def __init__(self, model: Any, optimizer: Any, config: TrainConfig, fabric: Fabric) -> None:
        self._model, self._optimizer, self._config, self._fabric = model, optimizer, config, fabric

    def __call__(self, batch: Batch | Sequence[Example]) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self._model(lambda network: batch_loss(network, batch, self._config.loss))
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._model, self._optimizer, max_norm=self._config.optimizer.clip, error_if_nonfinite=False
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

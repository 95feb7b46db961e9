"""Report the progress of a run: a bar, curves for TensorBoard, one line for each validation in `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from mri_recon._system.files import write_atomically
from mri_recon._system.text import duration
from mri_recon.errors import ConfigError
from mri_recon_data.examples.example import Example
from mri_recon_training.config import TrainConfig
from mri_recon_training.pictures import CAPTION, picture

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "Meter",
    "ProgressReport",
]


_STEPS_TO_EXPECT = 20  # the first steps are slower: threads, caches and memory are set up
_LINE_EVERY = 100  # steps between lines where there is no terminal: a log file shows no moving bar


class ProgressReport:
    """Reports a run within a `with` block; silent on every process but the first.

    A run that resumes at step `first` removes the points of later steps, so that no curve has a point twice.

    Args:
        config: of the run.
        folder: of the run; curves go to `folder/tensorboard`, validations to `folder/metrics.jsonl`.
        first: finished steps.
        history: validations up to `first`.
        silent: whether to do nothing at all.

    Raises:
        ConfigError: curves were asked for, but TensorBoard is not installed.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, *, first: int, history: Sequence[Mapping[str, float]], silent: bool
    ) -> None:
        self._metrics, self._silent = folder / "metrics.jsonl", silent
        self._batch_size, self._steps, self._told = config.run.batch_size, config.run.steps, first
        self._first, self._expected = first, False
        self._writer = _writer(folder / "tensorboard", first) if config.run.tensorboard and not silent else None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  validation {task.fields[psnr]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=_console(),
            refresh_per_second=1,
            disable=silent,
        )
        psnr = _decibels(history[-1]["psnr"]) if history else "-"
        self._task = self._bar.add_task(config.run.name, total=self._steps, completed=first, loss="-", psnr=psnr)
        if not silent:
            write_atomically(self._metrics, "".join(json.dumps(record) + "\n" for record in history).encode())

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def start(self, lines: Sequence[str]) -> None:
        """Print what the run is."""
        for text in lines if not self._silent else ():
            self._line(text)

    def pictures(self, step: int, network: nn.Module, examples: Sequence[tuple[str, Example]]) -> None:
        """Draw examples with a network for TensorBoard, see `pictures.picture`."""
        if self._writer is None:
            return
        for kind, example in examples:
            self._writer.add_image(f"{kind}: {CAPTION}", picture(network, example), step, dataformats="HW")
        self._writer.flush()

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Report the training: `loss`, `steps_per_second`, and further scalars with a curve."""
        if self._silent:
            return
        rate = scalars["steps_per_second"] * self._batch_size
        self._curves("train", step, {**scalars, "examples_per_second": rate})
        if not self._expected and step - self._first >= min(_STEPS_TO_EXPECT, self._steps - self._first):
            self._expected = True
            if step < self._steps:
                seconds = (self._steps - step) / scalars["steps_per_second"]
                self._line(
                    f"expected time for the other {self._steps - step} steps: {duration(seconds)} and validations"
                )
        self._bar.update(self._task, completed=step, loss=f"{scalars['loss']:.4f}")
        if not self._bar.console.is_terminal and step // _LINE_EVERY > self._told // _LINE_EVERY:
            self._line(f"step {step}/{self._steps}  loss {scalars['loss']:.4f}  {rate:.2f} examples/s")
            self._told = step

    def validation(self, step: int, record: Mapping[str, float]) -> None:
        """Report a validation; `record` holds `psnr` and `ssim`."""
        if self._silent:
            return
        self._curves("validation", step, {name: value for name, value in record.items() if name != "step"})
        with self._metrics.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        self._bar.update(self._task, psnr=_decibels(record["psnr"]))
        if not self._bar.console.is_terminal:
            self._line(f"step {step}/{self._steps}  validation {record['psnr']:.2f} dB, SSIM {record['ssim']:.4f}")

    def _line(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _curves(self, group: str, step: int, scalars: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            self._writer.flush()


def _decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB"


def _console() -> Console:
    """Make the console of the bar; a notebook gets plain lines, since Rich's bar needs ipywidgets there."""
    in_notebook = "ipykernel" in sys.modules
    return Console(stderr=True, force_jupyter=False, force_terminal=False if in_notebook else None)


def _writer(folder: Path, first: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "the training curves need TensorBoard, which is not installed: pip install 'mri-recon[train]', or set "
            "run.tensorboard=false"
        ) from error
    # A run that was killed has told of steps beyond its state: TensorBoard forgets everything from purge_step on.
    return SummaryWriter(str(folder), purge_step=first + 1 if first else None)


class Meter:
    """Loss and gradient norm of the last steps, and the mean loss since the last validation.

    Values stay on the device until `read`: to look at one is to wait for all that is queued there.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._loss_sum, self._count = 0.0, 0
        self._since = time.monotonic()

    def add(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Add one step."""
        self._pending.append((loss, gradient_norm))

    def read(self, step: int) -> dict[str, float]:
        """Compute the means since the last reading: `loss`, `gradient_norm`, `steps_per_second`.

        Raises:
            ConfigError: a loss that is not finite.
        """
        losses, norms = (torch.stack(column).double().tolist() for column in zip(*self._pending, strict=True))
        if not all(math.isfinite(loss) for loss in losses):
            raise ConfigError(
                f"the run has diverged, its loss is not finite at or before step {step}: expected a finite one, lower "
                "optimizer.lr or optimizer.clip and start again under another run.name"
            )
        for loss in losses:  # one by one: the sum must not depend on where a run was interrupted
            self._loss_sum += loss
        self._count += len(losses)
        self._pending.clear()
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        count = len(losses)
        return {"loss": sum(losses) / count, "gradient_norm": sum(norms) / count, "steps_per_second": count / seconds}

    def mean_loss(self) -> float:
        """Compute the mean loss of all steps read since the last call, and start anew."""
        mean = self._loss_sum / self._count
        self._loss_sum, self._count = 0.0, 0
        return mean

    def pause(self) -> None:
        """Leave the time since the last reading out of `steps_per_second`: it was not spent on training."""
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Give the sums since the last `mean_loss`, as JSON."""
        return {"loss_sum": self._loss_sum, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums of `state_dict`."""
        self._loss_sum, self._count = float(state["loss_sum"]), int(state["count"])

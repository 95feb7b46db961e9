"""The training loss between two looks at it, read from the device in one go."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from mri_recon.errors import ConfigError

__all__ = ["Meter"]


class Meter:
    """Loss and gradient norm of the last steps, and the mean loss since the last validation.

    Values stay on the device until `read`: to look at one is to wait for all that is queued there.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._loss_sum, self._count = 0.0, 0
        self._since = time.monotonic()

    def add(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Note one step."""
        self._pending.append((loss, gradient_norm))

    def read(self, step: int) -> dict[str, float]:
        """Means since the last reading: `loss`, `gradient_norm`, `steps_per_second`.

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
        """The mean loss of all steps read since the last call; steps after it are counted anew."""
        mean = self._loss_sum / self._count
        self._loss_sum, self._count = 0.0, 0
        return mean

    def pause(self) -> None:
        """Leave the time since the last reading out of `steps_per_second`: it went into other things."""
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What has been read since the last `mean_loss`, as JSON."""
        return {"loss_sum": self._loss_sum, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._loss_sum, self._count = float(state["loss_sum"]), int(state["count"])

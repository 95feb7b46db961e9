"""Make a run longer: the keys that may change when it is resumed, and its learning rate from there."""

from __future__ import annotations

from collections.abc import Sequence

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError
from mri_recon_training.config import TrainConfig, parse_config
from mri_recon_training.schedules import extended_factor
from mri_recon_training.toml_config import apply_overrides

__all__ = ["CHANGEABLE", "extend", "extension_lines"]

CHANGEABLE = ("steps", "validate_every", "checkpoint_every", "log_every", "threads", "device", "tensorboard")
"""Keys of [run] that may change when a run is resumed: those on which neither examples nor gradients depend."""


def extend(config: TrainConfig, overrides: Sequence[str], finished: int) -> TrainConfig:
    """Change the configuration of a run that is resumed.

    Args:
        config: the run's own configuration.
        overrides: `run.key=value` with a key of `CHANGEABLE`.
        finished: number of finished steps.

    Raises:
        ConfigError: another key, or fewer steps than are finished.
    """
    keys = [text.partition("=")[0].strip() for text in overrides]
    valid = [f"run.{key}" for key in CHANGEABLE]
    for key in keys:
        if key not in valid:
            raise ConfigError(
                f"train --resume: expected --set of one of {', '.join(valid)}, got {key}{did_you_mean(key, valid)}: "
                "the rest of a run's configuration stays; start another run with another run.name, from these weights "
                "with run.weights"
            )
    tables = config.model_dump(mode="json")
    apply_overrides(tables, overrides, TrainConfig)
    changed = parse_config(tables)
    steps = changed.run.steps
    if steps == config.run.steps:
        return changed
    if steps <= finished:
        raise ConfigError(
            f"train --resume: expected run.steps above the {finished} finished ones, got {steps}: choose more"
        )
    extended = (*config.run.extended, (finished, config.run.steps)) if finished else config.run.extended
    return changed.model_copy(update={"run": changed.run.model_copy(update={"extended": extended})})


def extension_lines(before: TrainConfig, after: TrainConfig) -> list[str]:
    """Say what changes, and how the learning rate goes on where the number of steps does."""
    changes = [
        f"run.{key} {getattr(before.run, key)} -> {getattr(after.run, key)}"
        for key in CHANGEABLE
        if getattr(before.run, key) != getattr(after.run, key)
    ]
    lines = [f"changed: {', '.join(changes)}"]
    if after.run.extended == before.run.extended or after.optimizer.decay == "none":
        return lines
    (start, _), optimizer = after.run.extended[-1], after.optimizer

    def rate(step: int) -> str:
        return f"{optimizer.lr * extended_factor(step, after.run.steps, after.run.extended, optimizer):.3g}"

    there = min(start + optimizer.warmup, after.run.steps - 1)
    lines.append(
        f"learning rate: from {rate(start)} at step {start} to {rate(there)} at step {there}, where a run of "
        f"{after.run.steps} steps would be, then along its {optimizer.decay} decay to {rate(after.run.steps - 1)}"
    )
    return lines

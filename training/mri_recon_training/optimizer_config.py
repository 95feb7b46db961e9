"""The configuration of an optimiser and of its learning rate."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError

__all__ = ["MOMENTUM", "NO_CLIP", "OPTIMIZERS", "OptimizerConfig", "full_batch", "needs_closure"]

OptimizerName = Literal[
    "gradient-descent", "sgd", "momentum", "nesterov", "rmsprop", "adam", "amsgrad", "adamw", "lbfgs"
]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)

NO_CLIP = 1e30
"""A bound on the gradient's norm that no gradient reaches; finite, so that it is a number in JSON and in float32."""

MOMENTUM = ("momentum", "nesterov")
"""Optimisers with momentum."""

_ADAPTIVE = ("adam", "amsgrad", "adamw")
_DECAYS = ("cosine", "step", "exponential", "none")
# Key -> who has it, and its value where it is not given. What an optimiser does not have is None in its configuration.
_OPTIMIZER_KEYS: dict[str, tuple[tuple[str, ...], Any]] = {
    "betas": (_ADAPTIVE, (0.9, 0.999)),
    "eps": ((*_ADAPTIVE, "rmsprop"), 1e-8),
    "alpha": (("rmsprop",), 0.99),
    "weight_decay": (("adamw",), 0.01),
    "momentum": (MOMENTUM, 0.9),
    "momentum_start": (MOMENTUM, 0.5),
    "momentum_warmup": (MOMENTUM, 0),
    "averaged": (("momentum",), False),
    "max_iter": (("lbfgs",), 20),
    "history": (("lbfgs",), 10),
    "line_search": (("lbfgs",), "strong-wolfe"),
}
_DECAY_KEYS: dict[str, tuple[tuple[str, ...], Any]] = {
    "final_lr": (("cosine", "exponential"), 0.01),
    "decay_at": (("step",), (0.5, 0.75)),
    "decay_factor": (("step",), 0.1),
}


class OptimizerConfig(BaseModel):
    """An optimiser, its learning rate over the run, gradient clipping and an average of the weights.

    A key of another optimiser or another decay is an error, never ignored; its value is None here.

    Raises:
        ConfigError: such a key; the message lists the keys of the chosen optimiser or decay.
        ValidationError: an unknown name or key, or a value out of range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: OptimizerName = Field(default="adam", description=", ".join(OPTIMIZERS))
    lr: float = Field(default=5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] | None = Field(
        default=None, description="adam, amsgrad, adamw: decay of the first and second moment"
    )
    eps: float | None = Field(
        default=None, gt=0, description="adam, amsgrad, adamw, rmsprop: added to the root of the second moment"
    )
    alpha: float | None = Field(default=None, ge=0, lt=1, description="rmsprop: decay of the second moment")
    weight_decay: float | None = Field(default=None, ge=0, description="adamw: share of lr by which weights shrink")
    momentum: float | None = Field(default=None, ge=0, lt=1, description="momentum, nesterov: beta")
    momentum_start: float | None = Field(
        default=None, ge=0, lt=1, description="momentum, nesterov: beta at step 0 of its warm-up"
    )
    momentum_warmup: int | None = Field(
        default=None, ge=0, description="momentum, nesterov: steps in which beta rises; 0: constant"
    )
    averaged: bool | None = Field(default=None, description="momentum: m = beta m + (1 - beta) g in place of + g")
    max_iter: int | None = Field(default=None, ge=1, description="lbfgs: iterations a step")
    history: int | None = Field(default=None, ge=1, description="lbfgs: pairs that make the inverse Hessian")
    line_search: Literal["strong-wolfe", "none"] | None = Field(
        default=None, description="lbfgs: strong-wolfe or none (the step is lr)"
    )
    warmup: int = Field(default=500, ge=0, description="steps of linear warm-up; lbfgs: 0 by default")
    decay: Literal["cosine", "step", "exponential", "none"] = Field(
        default="cosine", description=f"{', '.join(_DECAYS)}; lbfgs: none by default"
    )
    final_lr: float | None = Field(
        default=None, ge=0, le=1, description="cosine, exponential: last learning rate over the peak"
    )
    decay_at: tuple[float, ...] | None = Field(
        default=None, description="step: shares of the run after which the learning rate falls"
    )
    decay_factor: float | None = Field(default=None, gt=0, le=1, description="step: by which it falls each time")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm; lbfgs: none")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="decay of the weight average; 0: none")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Fill in the defaults of the chosen optimiser and decay; a key of another is an error."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        name = filled.setdefault("name", "adam")
        if name == "lbfgs":
            filled = {"warmup": 0, "decay": "none", "clip": NO_CLIP} | filled
            if filled["clip"] != NO_CLIP:
                raise ConfigError(
                    f"optimizer.clip: expected none for lbfgs, got {filled['clip']!r}: a clipped gradient is not the "
                    "derivative that its line search and its curvature pairs need; leave the key out"
                )
        decay = filled.setdefault("decay", "cosine")
        if name in OPTIMIZERS:  # an unknown name is the field's own error
            _own_keys(filled, _OPTIMIZER_KEYS, name, "optimizer.name")
        if decay in _DECAYS:
            _own_keys(filled, _DECAY_KEYS, decay, "optimizer.decay")
            if decay == "exponential" and filled["final_lr"] == 0:
                raise ConfigError("optimizer.final_lr: expected more than 0 for exponential decay, got 0")
        return filled


def needs_closure(name: str) -> bool:
    """Tell whether `step` needs a closure that evaluates loss and gradient again: L-BFGS, for its line search.

    Raises:
        ConfigError: unknown name.
    """
    return _known(name) == "lbfgs"


def full_batch(name: str) -> bool:
    """Tell whether every step uses the same set of examples: gradient descent and L-BFGS.

    L-BFGS takes differences of gradients for curvature; between two mini-batches they would be noise.

    Raises:
        ConfigError: unknown name.
    """
    return _known(name) in ("gradient-descent", "lbfgs")


def _own_keys(filled: dict[str, Any], keys: dict[str, tuple[tuple[str, ...], Any]], chosen: str, chooser: str) -> None:
    for key, (owners, default) in keys.items():
        if chosen in owners:
            if filled.get(key) is None:
                filled[key] = default
        elif filled.get(key) is not None:
            own = [name for name, (others, _) in keys.items() if chosen in others]
            raise ConfigError(
                f"optimizer.{key}: belongs to {', '.join(owners)}, but {chooser} is {chosen}, whose own keys are "
                f"{', '.join(own) or '(none)'}: leave it out or choose another"
            )


def _known(name: str) -> str:
    if name not in OPTIMIZERS:
        near = did_you_mean(name, OPTIMIZERS)
        raise ConfigError(f"unknown optimizer {name!r}{near}: expected one of {', '.join(OPTIMIZERS)}")
    return name

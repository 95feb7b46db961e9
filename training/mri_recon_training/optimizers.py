"""Optimisers by name, and how learning rate and momentum go over a run.

Throughout, g is the gradient at the weights w (of the mean loss over the batch), eta the learning rate, t = 1, 2, ...
the step, and every operation on vectors is element by element. All of them are torch's own; where torch differs from
the paper, the function that builds it says so. `docs/training/optimizers.md` compares them on this problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from mri_recon.errors import ConfigError

__all__ = [
    "NO_CLIP",
    "OPTIMIZERS",
    "OptimizerConfig",
    "build_optimizer",
    "full_batch",
    "learning_rate_factor",
    "learning_rate_for_momentum",
    "momentum_at",
    "needs_closure",
]

OptimizerName = Literal[
    "gradient-descent", "sgd", "momentum", "nesterov", "rmsprop", "adam", "amsgrad", "adamw", "lbfgs"
]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)

NO_CLIP = 1e30
"""A bound on the gradient's norm that no gradient reaches; finite, so that it is a number in JSON and in float32."""

_ADAPTIVE = ("adam", "amsgrad", "adamw")
_MOMENTUM = ("momentum", "nesterov")
_DECAYS = ("cosine", "step", "exponential", "none")
# Key -> who has it, and its value where it is not given. What an optimiser does not have is None in its configuration.
_OPTIMIZER_KEYS: dict[str, tuple[tuple[str, ...], Any]] = {
    "betas": (_ADAPTIVE, (0.9, 0.999)),
    "eps": ((*_ADAPTIVE, "rmsprop"), 1e-8),
    "alpha": (("rmsprop",), 0.99),
    "weight_decay": (("adamw",), 0.01),
    "momentum": (_MOMENTUM, 0.9),
    "momentum_start": (_MOMENTUM, 0.5),
    "momentum_warmup": (_MOMENTUM, 0),
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
        ConfigError: such a key; it lists what the chosen optimiser or decay has.
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
        """Defaults of the chosen optimiser and decay; a key of another is an error."""
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


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """The optimiser that a configuration names, with its momentum schedule if it has one."""
    optimizer = _BUILDERS[config.name](parameters, config)
    if config.momentum_warmup:
        _schedule_momentum(optimizer, config)
    return optimizer


def needs_closure(name: str) -> bool:
    """Whether `step` needs a closure that evaluates loss and gradient again: L-BFGS, for its line search.

    Raises:
        ConfigError: unknown name.
    """
    return _known(name) == "lbfgs"


def full_batch(name: str) -> bool:
    """Whether every step uses one and the same set of examples: gradient descent and L-BFGS.

    L-BFGS takes differences of gradients for curvature; between two mini-batches they would be noise.

    Raises:
        ConfigError: unknown name.
    """
    return _known(name) in ("gradient-descent", "lbfgs")


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """The learning rate of step s = 0, 1, ... of S over the peak: f = min(1, (s+1)/w) d(s/S) m(s).

        cosine         d(u) = f_end + (1 - f_end)(1 + cos(pi u))/2      (Loshchilov and Hutter, ICLR 2017)
        exponential    d(u) = f_end^u
        step           d(u) = decay_factor^k, k of the shares `decay_at` at most u
        none           d(u) = 1

    m is 1, but for momentum in torch's form while beta warms up: there the learning rate follows beta
    (`learning_rate_for_momentum`), m = (1 - beta_s) / (1 - beta).
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    factor = warm * _decay(min(1.0, step / steps), config)
    if config.momentum_warmup:
        assert config.momentum is not None
        factor *= learning_rate_for_momentum(
            1.0, momentum=config.momentum, new_momentum=momentum_at(step, config), averaged=bool(config.averaged)
        )
    return factor


def learning_rate_for_momentum(lr: float, *, momentum: float, new_momentum: float, averaged: bool = False) -> float:
    """The learning rate that keeps the effective step when momentum changes.

        eta' = eta (1 - beta') / (1 - beta)        torch's form, v = beta v + g
        eta' = eta                                 averaged form, m = beta m + (1 - beta) g

    Under a constant gradient v tends to g / (1 - beta), so that w moves by eta g / (1 - beta) a step; m tends to g. The
    change is exact in that limit only: v needs about 1 / (1 - beta') steps to arrive there.

    Args:
        lr: eta, positive.
        momentum: beta in [0, 1).
        new_momentum: beta' in [0, 1).
        averaged: whether the gradient enters with the weight 1 - beta.

    Raises:
        ConfigError: a momentum outside [0, 1).
    """
    for beta in (momentum, new_momentum):
        if not 0 <= beta < 1:
            raise ConfigError(f"momentum: expected a number in [0, 1), got {beta}")
    return lr if averaged else lr * (1 - new_momentum) / (1 - momentum)


def momentum_at(step: int, config: OptimizerConfig) -> float:
    """Momentum of step s = 0, 1, ...: beta_s = b_0 + (beta - b_0) min(1, s/w), w `momentum_warmup`.

    Raises:
        ConfigError: an optimiser without momentum.
    """
    if config.momentum is None or config.momentum_start is None:
        raise ConfigError(f"momentum: expected one of {', '.join(_MOMENTUM)}, got {config.name}, which has none")
    if not config.momentum_warmup:
        return config.momentum
    share = min(1.0, step / config.momentum_warmup)
    return config.momentum_start + (config.momentum - config.momentum_start) * share


def _gradient_descent(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Gradient descent, w = w - eta g, g of all examples (Cauchy 1847).

    The same update as SGD: what differs is that every step sees the whole set (`full_batch`). On a quadratic with
    curvatures in [mu, L], kappa = L/mu, eta = 2/(mu + L) the error shrinks by (kappa - 1)/(kappa + 1) a step.
    """
    return torch.optim.SGD(parameters, lr=config.lr)


def _sgd(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Stochastic gradients, w = w - eta g, g of a mini-batch (Robbins and Monro, Ann Math Stat 1951)."""
    return torch.optim.SGD(parameters, lr=config.lr)


def _momentum(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """The heavy ball, v = beta v + g, w = w - eta v (Polyak, USSR Comput Math Math Phys 1964).

    Polyak writes w_{t+1} = w_t - eta g + beta (w_t - w_{t-1}). The two are equal while eta is constant; torch
    multiplies the whole velocity by the learning rate of now. There is no factor 1 - beta: a stationary gradient moves
    w by eta g / (1 - beta). `averaged` puts it in (torch: dampening = beta): m = beta m + (1 - beta) g; torch then
    still starts from m_1 = g_1, not from (1 - beta) g_1. On a quadratic, Polyak's eta = 4/(sqrt L + sqrt mu)^2 and
    beta = ((sqrt kappa - 1)/(sqrt kappa + 1))^2 give the rate sqrt beta.
    """
    assert config.momentum is not None
    first = momentum_at(0, config)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=first, dampening=first if config.averaged else 0.0)


def _nesterov(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Nesterov's accelerated gradient, v = beta v + g, w = w - eta (g + beta v) (Soviet Math Dokl 1983).

    Sutskever et al. (ICML 2013) write v = beta v - eta g(theta + beta v), theta = theta + v. torch keeps the point
    where the gradient is taken, w = theta + beta v, not theta; for constant eta and beta it is the same iteration. With
    eta = 1/L and beta = (sqrt kappa - 1)/(sqrt kappa + 1), on a strongly convex f
    f(theta_t) - f* <= (1 - 1/sqrt kappa)^t (f(theta_0) - f* + mu |theta_0 - theta*|^2 / 2).
    """
    return torch.optim.SGD(parameters, lr=config.lr, momentum=momentum_at(0, config), nesterov=True)


def _rmsprop(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """RMSprop, v = alpha v + (1 - alpha) g^2, w = w - eta g / (sqrt v + eps).

    Tieleman and Hinton, Coursera, lecture 6.5, 2012. The lecture has alpha = 0.9 and no eps; torch's default alpha is
    0.99, and eps stands outside the root. v starts at 0 and is not corrected, so that the first step is
    eta / sqrt(1 - alpha) whatever the gradient.
    """
    assert config.alpha is not None
    assert config.eps is not None
    return torch.optim.RMSprop(parameters, lr=config.lr, alpha=config.alpha, eps=config.eps)


def _adam(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Adam with bias correction (Kingma and Ba, ICLR 2015).

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        w = w - eta (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    As in the paper's algorithm 1: eps is outside the root and after the correction. (The paper's faster form of section
    2 has another eps, eps sqrt(1 - b2^t).)
    """
    assert config.betas is not None
    assert config.eps is not None
    return torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _amsgrad(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Adam with the largest second moment so far, so that no step size grows again (Reddi et al., ICLR 2018).

        u = max(u, v),    w = w - eta (m / (1 - b1^t)) / (sqrt(u / (1 - b2^t)) + eps)

    The paper corrects no bias and has no eps; torch takes the maximum of the v that are not corrected and corrects both
    moments by the factors of the step t.
    """
    assert config.betas is not None
    assert config.eps is not None
    return torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, eps=config.eps, amsgrad=True, fused=True)


def _adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Adam after w = (1 - eta lambda) w: weight decay beside the gradient, not in it.

    Loshchilov and Hutter, ICLR 2019. In the paper weights shrink by eta_t lambda' with eta_t the schedule alone; torch
    multiplies with the learning rate too, so its lambda is the paper's lambda' over the peak learning rate.
    """
    assert config.betas is not None
    assert config.eps is not None
    assert config.weight_decay is not None
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )


def _lbfgs(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """L-BFGS, w = w - t H g, H g by two loops over the last pairs (s, y) (Liu and Nocedal, Math Program 1989).

        s = w_{k+1} - w_k,    y = g_{k+1} - g_k,    rho = 1/(y^T s),    H_0 = (s^T y)/(y^T y)
        q = g;  newest to oldest: a = rho s^T q, q = q - a y;  r = H_0 q;  oldest to newest: r = r + (a - rho y^T r) s

    t satisfies the strong Wolfe conditions (c1 = 1e-4, c2 = 0.9) from a first guess of eta; without a line search t is
    eta. One `step` is up to `max_iter` iterations, and calls the closure at most 1.25 times as often, but for a line
    search that has begun. torch's own: the first step is scaled by min(1, 1/|g|_1), and a pair with y^T s <= 1e-10 is
    left out. It stops at max |g| <= 1e-10 or where nothing changes by more than 1e-16 (torch's defaults, 1e-7 and
    1e-9, are far from the minimum in float64).
    """
    assert config.max_iter is not None
    assert config.history is not None
    parameters = list(parameters)
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(_plain_gradient)  # type: ignore[no-untyped-call]
    return torch.optim.LBFGS(
        parameters,
        lr=config.lr,
        max_iter=config.max_iter,
        history_size=config.history,
        tolerance_grad=1e-10,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe" if config.line_search == "strong-wolfe" else None,
    )


_BUILDERS: dict[str, Callable[[Iterable[nn.Parameter], OptimizerConfig], Optimizer]] = {
    "gradient-descent": _gradient_descent,
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "amsgrad": _amsgrad,
    "adamw": _adamw,
    "lbfgs": _lbfgs,
}


def _decay(share: float, config: OptimizerConfig) -> float:
    if config.decay == "none":
        return 1.0
    if config.decay == "step":
        assert config.decay_at is not None
        assert config.decay_factor is not None
        return config.decay_factor ** sum(share >= at for at in config.decay_at)
    assert config.final_lr is not None
    if config.decay == "exponential":
        return math.exp(share * math.log(config.final_lr))
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share))


def _plain_gradient(parameter: Tensor) -> None:
    """Torch's L-BFGS reads gradients as they lie in memory, and refuses those of channels-last weights."""
    if parameter.grad is not None:
        parameter.grad = parameter.grad.contiguous()


def _schedule_momentum(optimizer: Optimizer, config: OptimizerConfig) -> None:
    """Set beta before every step. The step's number lives in the groups, so that it is saved and restored with them."""

    def before_step(stepping: Optimizer, args: Any, kwargs: Any) -> None:
        for group in stepping.param_groups:
            group["momentum"] = momentum_at(group["steps_done"], config)
            if config.averaged:
                group["dampening"] = group["momentum"]
            group["steps_done"] += 1

    for group in optimizer.param_groups:
        group["steps_done"] = 0
    optimizer.register_step_pre_hook(before_step)


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
        raise ConfigError(f"unknown optimizer {name!r}: expected one of {', '.join(OPTIMIZERS)}")
    return name

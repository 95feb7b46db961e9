"""Build optimisers by name.

Throughout, g is the gradient at the weights w (of the mean loss over the batch), eta the learning rate, t = 1, 2, ...
the step, and every operation on vectors is element by element. All of them are torch's own; where torch differs from
the paper, the function that builds it says so. `docs/training/optimizers.md` compares them on this problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mri_recon_training.optimizer_config import OptimizerConfig
from mri_recon_training.schedules import momentum_at

__all__ = ["build_optimizer"]


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Build the optimiser that a configuration names, with its momentum schedule if it has one."""
    optimizer = _BUILDERS[config.name](parameters, config)
    if config.momentum_warmup:
        _schedule_momentum(optimizer, config)
    return optimizer


def _gradient_descent(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """Gradient descent, w = w - eta g, g of all examples (Cauchy 1847).

    The update is that of SGD, but every step uses the whole set (`full_batch`). On a quadratic with curvatures in [mu,
    L], kappa = L/mu, eta = 2/(mu + L) the error shrinks by (kappa - 1)/(kappa + 1) a step.
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


def _plain_gradient(parameter: Tensor) -> None:
    """Make a gradient contiguous: torch's L-BFGS refuses those of channels-last weights."""
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

"""Learning rate and momentum over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mri_recon.errors import ConfigError
from mri_recon_training.optimizer_config import MOMENTUM, OptimizerConfig

__all__ = ["extended_factor", "learning_rate_factor", "learning_rate_for_momentum", "momentum_at"]


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Compute the learning rate of step s = 0, 1, ... of S over its peak: f = min(1, (s+1)/w) d(s/S) m(s).

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


def extended_factor(step: int, steps: int, extended: Sequence[tuple[int, int]], config: OptimizerConfig) -> float:
    """Compute the learning rate over its peak for a run that was made longer.

    With f_k the factor of a run of S_k steps (`learning_rate_factor`), the run follows f_0 until it was made longer at
    step e, and from there moves within w = `warmup` steps to the schedule of its new length:

        F(s) = F(e) + min(1, (s - e)/w) (f_1(s) - F(e)),    s >= e,

    and so on for every further time. With no warm-up it is at f_1 at once. A learning rate that has fallen rises again
    without a jump, and then falls to its end at the new last step. Source: Ibrahim et al., TMLR 2024
    (arXiv:2403.08763).

    Args:
        step: s = 0, 1, ...
        steps: number of steps now.
        extended: for each time, the step e and the number of steps until then; in order.
        config: of the optimiser.
    """
    lengths = [*(before for _, before in extended), steps]
    factor = learning_rate_factor(step if not extended else min(step, extended[0][0]), lengths[0], config)
    for number, (start, _) in enumerate(extended):
        if step < start:
            break
        until = min(step, extended[number + 1][0]) if number + 1 < len(extended) else step
        share = min(1.0, (until - start) / config.warmup) if config.warmup else 1.0
        factor += share * (learning_rate_factor(until, lengths[number + 1], config) - factor)
    return factor


def learning_rate_for_momentum(lr: float, *, momentum: float, new_momentum: float, averaged: bool = False) -> float:
    """Compute the learning rate that keeps the effective step when momentum changes.

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
    """Compute the momentum of step s = 0, 1, ...: beta_s = b_0 + (beta - b_0) min(1, s/w), w `momentum_warmup`.

    Raises:
        ConfigError: an optimiser without momentum.
    """
    if config.momentum is None or config.momentum_start is None:
        raise ConfigError(f"momentum: expected one of {', '.join(MOMENTUM)}, got {config.name}, which has none")
    if not config.momentum_warmup:
        return config.momentum
    share = min(1.0, step / config.momentum_warmup)
    return config.momentum_start + (config.momentum - config.momentum_start) * share


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

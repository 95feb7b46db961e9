from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from mri_recon.errors import ConfigError
from mri_recon_training.config import parse_config
from mri_recon_training.optimizer_config import NO_CLIP, OPTIMIZERS, OptimizerConfig, full_batch, needs_closure
from mri_recon_training.optimizers import build_optimizer
from mri_recon_training.schedules import learning_rate_factor, learning_rate_for_momentum, momentum_at

Vector = npt.NDArray[np.float64]


def _parameter(values: Vector) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def _quadratic(kappa: float, size: int = 7) -> tuple[Vector, Vector]:
    """Curvatures from mu = 0.5 to L = 0.5 kappa, and a start with the same error along each."""
    return 0.5 * np.geomspace(1, kappa, size), np.ones(size)


def _iterates(config: OptimizerConfig, curvature: Vector, start: Vector, steps: int) -> list[Vector]:
    """w of every step of min 1/2 sum h w^2, the minimum at 0."""
    w, h = _parameter(start), torch.tensor(curvature)
    optimizer = build_optimizer([w], config)
    found = [start.copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (h * w * w).sum()).backward()
        optimizer.step()
        found.append(w.detach().numpy().copy())
    return found


# --- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [3.0, 20.0, 150.0])
def test_gradient_descent_has_its_rate_on_a_quadratic(kappa: float) -> None:
    h, start = _quadratic(kappa)
    config = OptimizerConfig(name="gradient-descent", lr=2 / (h[0] + h[-1]))
    w = _iterates(config, h, start, 30)
    # Both extreme directions shrink by exactly this factor at every step, all others faster.
    rate = (kappa - 1) / (kappa + 1)
    for before, after in itertools.pairwise(w):
        np.testing.assert_allclose(np.abs(after[[0, -1]]), rate * np.abs(before[[0, -1]]), rtol=1e-10)
        assert np.linalg.norm(after) <= rate * np.linalg.norm(before) * (1 + 1e-12)


@pytest.mark.parametrize("kappa", [4.0, 30.0, 200.0])
def test_heavy_ball_has_its_rate_on_a_quadratic(kappa: float) -> None:
    h, start = _quadratic(kappa)
    root = math.sqrt(kappa)
    rate = (root - 1) / (root + 1)
    config = OptimizerConfig(name="momentum", lr=4 / (math.sqrt(h[-1]) + math.sqrt(h[0])) ** 2, momentum=rate**2)
    # A double root: the error falls like k rate^k, so that the mean over steps n to 2n is rate 2^(1/n).
    n = math.ceil(math.log(1e-5) / math.log(rate))
    w = _iterates(config, h, start, 2 * n)
    measured = (np.linalg.norm(w[2 * n]) / np.linalg.norm(w[n])) ** (1 / n)
    assert rate < measured < rate * 3 ** (1 / n)
    assert measured < (kappa - 1) / (kappa + 1)  # what gradient descent would do


@pytest.mark.parametrize("kappa", [4.0, 30.0, 400.0])
def test_nesterov_keeps_its_bound_and_gradient_descent_does_not(kappa: float) -> None:
    h, start = _quadratic(kappa)
    root = math.sqrt(kappa)

    def value(w: Vector) -> float:
        return float(0.5 * (h * w * w).sum())

    def misses(config: OptimizerConfig) -> int:
        bound = value(start) + 0.5 * h[0] * float(start @ start)
        count = 0
        for look_ahead in _iterates(config, h, start, 200):
            # torch keeps the point where the gradient is taken; the bound holds one gradient step behind it.
            bound *= 1 - 1 / root
            count += value(look_ahead - h * look_ahead / h[-1]) > bound
        return count

    accelerated = OptimizerConfig(name="nesterov", lr=1 / h[-1], momentum=(root - 1) / (root + 1))
    assert misses(accelerated) == 0
    assert kappa < 10 or misses(OptimizerConfig(name="gradient-descent", lr=1 / h[-1])) > 50


@pytest.mark.parametrize("line_search", ["strong-wolfe", "none"])
def test_lbfgs_finds_the_exact_minimum(line_search: str) -> None:
    rng = np.random.default_rng(5)
    root = rng.normal(size=(9, 9))
    matrix, right = root @ root.T + np.eye(9), rng.normal(size=9)
    w = _parameter(rng.normal(size=9))
    optimizer = build_optimizer(
        [w], OptimizerConfig(name="lbfgs", lr=1.0, history=9, max_iter=50, line_search=line_search)
    )
    a, b = torch.tensor(matrix), torch.tensor(right)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * w @ a @ w - b @ w
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    np.testing.assert_allclose(w.detach().numpy(), np.linalg.solve(matrix, right), atol=1e-7)


def test_lbfgs_makes_max_iter_iterations_of_two_loops_a_step() -> None:
    h, start = _quadratic(10.0)
    w, curvature = _parameter(start), torch.tensor(h)
    config = OptimizerConfig(name="lbfgs", lr=0.1, max_iter=5, history=2, line_search="none")
    optimizer = build_optimizer([w], config)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (curvature * w * w).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    x, gradient, pairs = start.copy(), h * start, list[tuple[Vector, Vector]]()
    for iteration in range(5):
        q = gradient.copy()
        a = []
        for s, y in reversed(pairs):
            a.append((s @ q) / (y @ s))
            q -= a[-1] * y
        if pairs:
            q *= (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1])
        for (s, y), weight in zip(pairs, reversed(a), strict=True):
            q += (weight - (y @ q) / (y @ s)) * s
        step = min(1.0, 1 / np.abs(gradient).sum()) * 0.1 if iteration == 0 else 0.1
        new = x - step * q
        pairs = [*pairs, (new - x, h * new - gradient)][-2:]
        x, gradient = new, h * new
    np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-10)


def test_lbfgs_does_not_depend_on_the_memory_format() -> None:
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3, dtype=torch.float64).to(memory_format=memory_format)
        x = torch.randn(2, 3, 7, 5, dtype=torch.float64)
        optimizer = build_optimizer(network.parameters(), OptimizerConfig(name="lbfgs", lr=1.0, max_iter=3))

        def closure(network: nn.Module = network, x: Tensor = x, optimizer: Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (network(x) - 1).square().mean()
            loss.backward()
            return loss

        first = optimizer.step(closure)
        found.append(closure().detach())
        assert found[-1] < 0.5 * first.detach()
    torch.testing.assert_close(found[0], found[1])


# --- updates by hand -----------------------------------------------------------------------------------------------

Update = Callable[[Vector, Vector, dict[str, Vector], int], Vector]


def _zeros(state: dict[str, Vector], key: str, like: Vector) -> Vector:
    return state.get(key, np.zeros_like(like))


def _plain(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    return w - 0.07 * g


def _polyak(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    before = state.get("before", w)
    state["before"] = w
    return w - 0.07 * g + 0.8 * (w - before)


def _averaged(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    state["m"] = g if t == 1 else 0.8 * state["m"] + 0.2 * g
    return w - 0.07 * state["m"]


def _look_ahead(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    """Sutskever's form, told in its own variables: theta is w - beta v."""
    velocity = _zeros(state, "v", w)
    theta = w - 0.8 * velocity
    state["v"] = 0.8 * velocity - 0.07 * g
    return theta + state["v"] + 0.8 * state["v"]


def _rms(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    state["v"] = 0.9 * _zeros(state, "v", w) + 0.1 * g**2
    return w - 0.07 * g / (np.sqrt(state["v"]) + 1e-3)


def _moments(w: Vector, g: Vector, state: dict[str, Vector]) -> tuple[Vector, Vector]:
    state["m"] = 0.8 * _zeros(state, "m", w) + 0.2 * g
    state["v"] = 0.95 * _zeros(state, "v", w) + 0.05 * g**2
    return state["m"], state["v"]


def _adam(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    m, v = _moments(w, g, state)
    return w - 0.07 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)


def _amsgrad(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    m, v = _moments(w, g, state)
    state["u"] = np.maximum(_zeros(state, "u", w), v)
    return w - 0.07 * (m / (1 - 0.8**t)) / (np.sqrt(state["u"] / (1 - 0.95**t)) + 1e-3)


def _adamw(w: Vector, g: Vector, state: dict[str, Vector], t: int) -> Vector:
    return _adam(w - 0.07 * 0.3 * w, g, state, t)


_BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}


@pytest.mark.parametrize(
    ("name", "keys", "update"),
    [
        ("gradient-descent", {}, _plain),
        ("sgd", {}, _plain),
        ("momentum", {"momentum": 0.8}, _polyak),
        ("momentum", {"momentum": 0.8, "averaged": True}, _averaged),
        ("nesterov", {"momentum": 0.8}, _look_ahead),
        ("rmsprop", {"alpha": 0.9, "eps": 1e-3}, _rms),
        ("adam", _BETAS, _adam),
        ("amsgrad", _BETAS, _amsgrad),
        ("adamw", _BETAS | {"weight_decay": 0.3}, _adamw),
    ],
)
def test_update_by_hand(name: str, keys: dict[str, Any], update: Update) -> None:
    rng = np.random.default_rng(3)
    start = rng.normal(size=(3, 5))
    w, optimizer = _optimizer(start, name, keys)
    x, state = start.copy(), dict[str, Vector]()
    for t in range(1, 41):
        # A gradient that depends on w, has noise, and fades, so that a maximum differs from a mean.
        noise = rng.normal(size=start.shape) / t
        w.grad = torch.tensor(np.sin(w.detach().numpy()) / t + noise)
        optimizer.step()
        x = update(x, np.sin(x) / t + noise, state, t)
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=0, atol=1e-12)
    assert np.abs(x - start).max() > 0.05


def _optimizer(start: Vector, name: str, keys: dict[str, Any]) -> tuple[nn.Parameter, Optimizer]:
    w = _parameter(start)
    return w, build_optimizer([w], OptimizerConfig.model_validate({"name": name, "lr": 0.07} | keys))


def test_amsgrad_differs_from_adam_where_gradients_fade() -> None:
    # Else the test above could not tell the two apart.
    found = []
    for name in ("adam", "amsgrad"):
        w, optimizer = _optimizer(np.ones(3), name, _BETAS)
        for t in range(1, 41):
            w.grad = torch.full((3,), 1.0 / t, dtype=torch.float64)
            optimizer.step()
        found.append(w.detach())
    assert (found[0] - found[1]).abs().max() > 0.01


# --- momentum and the learning rate --------------------------------------------------------------------------------


def test_learning_rate_follows_momentum() -> None:
    assert learning_rate_for_momentum(0.1, momentum=0.9, new_momentum=0.99) == pytest.approx(0.01)
    assert learning_rate_for_momentum(0.1, momentum=0.9, new_momentum=0.99, averaged=True) == 0.1
    for keys in ({"momentum": 1.0, "new_momentum": 0.5}, {"momentum": 0.5, "new_momentum": -0.1}):
        with pytest.raises(ConfigError, match=r"momentum: expected a number in \[0, 1\), got"):
            learning_rate_for_momentum(0.1, **keys)


@settings(max_examples=20, deadline=None)
@given(old=st.floats(0, 0.95), new=st.floats(0, 0.95), averaged=st.booleans())
def test_the_effective_step_stays_in_the_stationary_limit(old: float, new: float, averaged: bool) -> None:
    gradient = torch.tensor([1.0, -3.0], dtype=torch.float64)

    def stationary_step(momentum: float, lr: float) -> Tensor:
        config = OptimizerConfig(name="momentum", lr=lr, momentum=momentum, averaged=averaged)
        w = _parameter(np.zeros(2))
        optimizer = build_optimizer([w], config)
        for _ in range(600):
            before = w.detach().clone()
            w.grad = gradient.clone()
            optimizer.step()
        return w.detach() - before

    lr = learning_rate_for_momentum(0.01, momentum=old, new_momentum=new, averaged=averaged)
    torch.testing.assert_close(stationary_step(new, lr), stationary_step(old, 0.01), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_warms_up_and_the_learning_rate_follows(name: str) -> None:
    config = OptimizerConfig.model_validate(
        {"name": name, "lr": 0.1, "momentum": 0.9, "momentum_start": 0.4, "momentum_warmup": 10, "warmup": 0,
         "decay": "none"}
    )  # fmt: skip
    assert [momentum_at(step, config) for step in (0, 5, 10, 99)] == pytest.approx([0.4, 0.65, 0.9, 0.9])
    for step in (0, 3, 10, 50):
        effective = learning_rate_factor(step, 100, config) / (1 - momentum_at(step, config))
        assert effective == pytest.approx(1 / (1 - 0.9))
    w = _parameter(np.zeros(2))
    optimizer = build_optimizer([w], config)
    used = []
    for _ in range(12):
        w.grad = torch.ones(2, dtype=torch.float64)
        optimizer.step()
        used.append(optimizer.param_groups[0]["momentum"])
    assert used == pytest.approx([momentum_at(step, config) for step in range(12)])


def test_averaged_momentum_keeps_the_learning_rate_and_its_schedule_resumes() -> None:
    config = OptimizerConfig(name="momentum", momentum_warmup=8, averaged=True, warmup=0, decay="none")
    assert {learning_rate_factor(step, 100, config) for step in range(20)} == {1.0}

    def steps(optimizer: Optimizer, w: nn.Parameter, count: int) -> None:
        for _ in range(count):
            w.grad = torch.sin(w.detach() + 1)
            optimizer.step()

    whole_w, w = _parameter(np.zeros(2)), _parameter(np.zeros(2))
    whole, first = build_optimizer([whole_w], config), build_optimizer([w], config)
    steps(whole, whole_w, 9)
    steps(first, w, 4)
    second = build_optimizer([w], config)
    second.load_state_dict(first.state_dict())
    steps(second, w, 5)
    assert torch.equal(w, whole_w)
    assert second.param_groups[0]["dampening"] == second.param_groups[0]["momentum"] == 0.9


def test_momentum_of_an_optimiser_without() -> None:
    with pytest.raises(ConfigError, match="momentum: expected one of momentum, nesterov, got adam, which has none"):
        momentum_at(0, OptimizerConfig())


# --- learning rate decay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"decay": "none"}, [1, 1, 1, 1]),
        ({"decay": "cosine", "final_lr": 0.2}, [1, 0.6, 0.2, 0.2]),
        ({"decay": "exponential", "final_lr": 0.01}, [1, 0.1, 0.01, 0.01]),
        ({"decay": "step", "decay_at": (0.5, 0.9), "decay_factor": 0.5}, [1, 0.5, 0.25, 0.25]),
    ],
)
def test_decay(keys: dict[str, Any], expected: list[float]) -> None:
    config = OptimizerConfig.model_validate({"warmup": 0} | keys)
    assert [learning_rate_factor(step, 100, config) for step in (0, 50, 100, 200)] == pytest.approx(expected)
    warm = OptimizerConfig.model_validate({"warmup": 4} | keys)
    assert learning_rate_factor(0, 100, warm) == pytest.approx(0.25)


def test_default_is_adam_with_the_cosine_of_before() -> None:
    config = OptimizerConfig()
    assert (config.name, config.betas, config.eps, config.final_lr) == ("adam", (0.9, 0.999), 1e-8, 0.01)
    assert (config.warmup, config.clip, config.ema_decay, config.decay) == (500, 1.0, 0.999, "cosine")
    for step in (0, 100, 499, 500, 5000, 10_000):
        expected = min(1, (step + 1) / 500) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 10_000)))
        assert learning_rate_factor(step, 10_000, config) == pytest.approx(expected, rel=1e-14)


# --- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_name_builds_and_its_configuration_reads_back(name: str) -> None:
    config = OptimizerConfig.model_validate({"name": name})
    assert OptimizerConfig.model_validate_json(config.model_dump_json()) == config
    assert OptimizerConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config
    w = _parameter(np.ones(3))
    optimizer = build_optimizer([w], config)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    before = float(closure().detach())
    if needs_closure(name):
        optimizer.step(closure)
    else:
        optimizer.step()
    assert float((w * w).sum().detach()) < before


def test_which_are_full_batch_and_need_a_closure() -> None:
    assert {name for name in OPTIMIZERS if full_batch(name)} == {"gradient-descent", "lbfgs"}
    assert {name for name in OPTIMIZERS if needs_closure(name)} == {"lbfgs"}
    for function in (full_batch, needs_closure):
        with pytest.raises(
            ConfigError,
            match=r"unknown optimizer 'adm' \(did you mean 'adam'\?\): expected one of gradient-descent, sgd, .*lbfgs",
        ):
            function("adm")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "sgd", "betas": [0.9, 0.99]}, r"optimizer\.betas: belongs to adam, amsgrad, adamw, but "
         r"optimizer\.name is sgd, whose own keys are \(none\)"),
        ({"name": "adam", "momentum": 0.9}, r"momentum: belongs to momentum, nesterov, .* own keys are betas, eps"),
        ({"name": "nesterov", "averaged": True}, r"optimizer\.averaged: belongs to momentum, but"),
        ({"name": "adam", "weight_decay": 0.1}, r"optimizer\.weight_decay: belongs to adamw"),
        ({"name": "momentum", "max_iter": 3}, r"optimizer\.max_iter: belongs to lbfgs"),
        ({"decay": "none", "final_lr": 0.1}, r"final_lr: belongs to cosine, exponential, but optimizer\.decay is none"),
        ({"decay_at": [0.3]}, r"optimizer\.decay_at: belongs to step, .* whose own keys are final_lr"),
        ({"decay": "exponential", "final_lr": 0}, "expected more than 0 for exponential decay, got 0"),
        ({"name": "lbfgs", "clip": 1.0}, r"optimizer\.clip: expected none for lbfgs, got 1\.0"),
        ({"name": "adm"}, r"optimizer\.name: Input should be 'gradient-descent', 'sgd', .*'lbfgs', got 'adm'"),
        ({"decay": "linear"}, r"optimizer\.decay: Input should be 'cosine', 'step', .*, got 'linear'"),
    ],
)  # fmt: skip
def test_a_key_of_another_is_an_error(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"optimizer": keys})


def test_something_else_than_a_table_and_lbfgs_is_not_clipped() -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        OptimizerConfig.model_validate(3)
    assert OptimizerConfig(name="lbfgs").clip == NO_CLIP
    w = nn.Parameter(torch.ones(3))
    w.grad = torch.full((3,), 1e6)
    nn.utils.clip_grad_norm_([w], NO_CLIP)
    assert torch.equal(w.grad, torch.full((3,), 1e6))

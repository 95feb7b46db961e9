"""Seconds of training steps and of inference: each network at its own best setting, and all at the same, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks.fastmri_unet.networks import REFERENCE, build, contender
from mri_recon.models.cascade import IN_CHANS

Step = Callable[[], object]

TOO_SLOW = 3.0
"""A precision this many times slower than the other is not compiled."""


@dataclass(frozen=True)
class Setting:
    """How a network is run."""

    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False

    @property
    def text(self) -> str:
        """In words."""
        layout = "channels-last" if self.channels_last else "contiguous"
        return f"{self.precision}, {layout}{', compiled' if self.compiled else ''}"


@dataclass(frozen=True)
class Task:
    """What is timed: a full optimiser step, or a forward pass."""

    kind: str
    height: int
    width: int
    batch: int = 1

    @property
    def text(self) -> str:
        """In words."""
        batch = f" x {self.batch}" if self.batch > 1 else ""
        return f"{self.kind} {self.height}x{self.width}{batch}"


@dataclass(frozen=True)
class Entry:
    """One network in one setting."""

    network: str
    setting: Setting


PLAIN = Setting()

PRECISIONS = ("float32", "bfloat16")

SCREENED = (Task("training", 64, 192), Task("inference", 128, 128))
"""One task a kind, on which the settings are chosen."""

TASKS = (
    Task("training", 64, 192),
    Task("training", 256, 256),
    Task("inference", 256, 256),
    Task("inference", 320, 320),
    Task("inference", 640, 368),
)

GPU_TASKS = (Task("training", 320, 320, 16), Task("inference", 320, 320, 16))
"""The settings of a GPU are chosen on the very tasks that are timed: compiling is cheap beside them."""


def make_step(entry: Entry, task: Task, device: torch.device) -> Step:
    """A function that does one training step (forward, L1 loss, backward, clipping, Adam) or one forward pass."""
    # fastMRI's forward pass asks for the sizes at run time, which cuts its graph at every level: let each part compile.
    torch._dynamo.config.recompile_limit = 64
    network = build(entry.network).to(device)
    x, target = (_noise(task, seed).to(device) for seed in (0, 1))
    if entry.setting.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    run = torch.compile(network) if entry.setting.compiled else network
    bfloat16 = entry.setting.precision == "bfloat16"

    def inference() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            run(x)

    if task.kind == "inference":
        network.eval()
        return inference
    if task.kind != "training":
        raise ValueError(f"expected training or inference, got {task.kind!r}")
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def training() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = (run(x) - target[:, :2]).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return training


def seconds(step: Step, device: torch.device) -> float:
    """Wall time of one call."""
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def screen(
    networks: Sequence[str],
    task: Task,
    device: torch.device,
    known: dict[Entry, float],
    keep: Callable[[], None],
    *,
    compiled: bool = True,
    repetitions: int = 3,
) -> None:
    """Fill `known` with the cost of every setting that may be a network's best; `keep` is called after each new one.

    The shortest of a few calls after one that warms up; one call where it is hopeless. A precision that is `TOO_SLOW`
    is not compiled, the others are in the layout that is the faster one without, if `compiled`.
    """
    for network in networks:

        def cost(setting: Setting, network: str = network) -> float:
            entry = Entry(network, setting)
            if entry not in known:
                best = min((value for e, value in known.items() if e.network == network), default=float("inf"))
                step = make_step(entry, task, device)
                first = _cost(step, device)
                hopeless = first > TOO_SLOW**2 * best and not setting.compiled
                known[entry] = first if hopeless else min(_cost(step, device) for _ in range(repetitions))
                keep()
            return known[entry]

        best = float("inf")
        for precision in PRECISIONS:
            fastest = min((Setting(precision, channels_last) for channels_last in (False, True)), key=cost)
            if compiled and cost(fastest) < TOO_SLOW * best:
                torch._dynamo.reset()
                cost(replace(fastest, compiled=True))
            best = min(best, cost(fastest))


def finalists(screened: Mapping[Entry, float], networks: Sequence[str]) -> list[Entry]:
    """Both layouts of each network in float32, and its fastest setting where that is another."""
    entries: list[Entry] = []
    for network in networks:
        fastest = min((e for e in screened if e.network == network), key=screened.__getitem__)
        mine = [Entry(network, PLAIN), Entry(network, Setting(channels_last=True))]
        entries += mine if fastest in mine else [*mine, fastest]
    return entries


def alternate(entries: Sequence[Entry], task: Task, device: torch.device, repetitions: int) -> dict[Entry, list[float]]:
    """Seconds of every entry, a call each in turn, `repetitions` rounds after two that warm up."""
    torch._dynamo.reset()
    steps = {entry: make_step(entry, task, device) for entry in entries}
    found: dict[Entry, list[float]] = {entry: [] for entry in entries}
    for repetition in range(repetitions + 2):
        for entry, step in steps.items():
            value = seconds(step, device)
            if repetition >= 2:
                found[entry].append(value)
    return found


def best_entries(times: dict[Entry, list[float]]) -> dict[str, Entry]:
    """The entry with the smallest median of each network."""
    best: dict[str, Entry] = {}
    for entry, values in times.items():
        now = best.get(entry.network)
        if now is None or median(values) < median(times[now]):
            best[entry.network] = entry
    return best


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles of theirs / ours within a round: what slows the machine for a while slows both sides."""
    values = [a / b for a, b in zip(theirs, ours, strict=True)]
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return middle, low, high


def compare(times: dict[Entry, list[float]], batch: int = 1) -> list[dict[str, Any]]:
    """A row a network: its best setting, seconds and ratio to fastMRI's best; and the same with both in `PLAIN`."""
    best = best_entries(times)
    rows = []
    for network, entry in best.items():
        plain, reference = Entry(network, PLAIN), best[REFERENCE]
        rows.append(
            {
                "network": network,
                "setting": entry.setting.text,
                "precision": entry.setting.precision,
                "seconds": median(times[entry]),
                "images_per_second": batch / median(times[entry]),
                "ratio": ratio(times[reference], times[entry]),
                "plain_seconds": median(times[plain]),
                "plain_ratio": ratio(times[Entry(REFERENCE, PLAIN)], times[plain]),
            }
        )
    return rows


def measure(
    networks: Sequence[str],
    screened: Mapping[str, Mapping[Entry, float]],
    device: torch.device,
    repetitions: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Every task timed, in the settings that `screened` (kind of task to costs) names.

    `rate_share` is the share of the rate of a large matrix product, in the same precision, at which a network's
    convolutions run.
    """
    gpu = device.type == "cuda"
    names = PRECISIONS if gpu else ("float32",)
    rates = {name: matmul_rate(device, getattr(torch, name), 8192 if gpu else 2048) for name in names}
    found = []
    for task in GPU_TASKS if gpu else TASKS:
        rows = compare(alternate(finalists(screened[task.kind], networks), task, device, repetitions), task.batch)
        for row in rows:
            row["flops"] = flops(row["network"], task)
            rate = rates.get(row["precision"])
            row["rate_share"] = rate and row["flops"] / row["seconds"] / rate
            report(f"{task.text}: {row['network']} {1e3 * row['seconds']:.0f} ms, {row['ratio'][0]:.2f}x")
        found.append({"task": task.text, "rows": rows})
    return {"matmul_rates": rates, "tasks": found}


def flops(network: str, task: Task) -> int:
    """Floating-point operations of one call, as torch counts them: two for each multiplication of a convolution."""
    with torch.device("meta"):
        model = contender(network).make()
        x = torch.empty(task.batch, IN_CHANS, task.height, task.width)
    counter = FlopCounterMode(display=False)
    with counter:
        y = model(x)
        if task.kind == "training":
            y.sum().backward()
    return int(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int, repetitions: int = 10) -> float:
    """Operations a second of a large matrix product: what the chip does at best."""
    a = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(repetitions))


def _cost(step: Step, device: torch.device) -> float:
    """Seconds of a call; on a processor those it worked on it, whatever else the machine does: for one thread."""
    if device.type == "cuda":
        return seconds(step, device)
    start = time.process_time()
    step()
    return time.process_time() - start


def _noise(task: Task, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(task.batch, IN_CHANS, task.height, task.width, generator=generator)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""The page of the comparison, made from what `quality` and `speed` kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from benchmarks.networks.fastmri_unet.networks import CONTENDERS, REFERENCE, contender, num_parameters
from benchmarks.networks.fastmri_unet.speed import TOO_SLOW

SPEED_TARGET = 1.5

SEEDS = 3

_INTRODUCTION = """# Comparison with fastMRI's U-Net

Made by `benchmarks/networks/fastmri_unet`; every figure below comes from these commands:

    pip install --no-deps fastmri
    python -m benchmarks.networks.fastmri_unet quality      it can be stopped and started again: it resumes
    python -m benchmarks.networks.fastmri_unet settings     kept too
    python -m benchmarks.networks.fastmri_unet speed        on a machine that does nothing else
    python -m benchmarks.networks.fastmri_unet page docs/results/fastmri-unet.md

Of fastMRI only `models/unet.py` is read, from the installed package, as it is: it needs torch alone. Each network is
the one refinement of the same cascade (`configs/unet.toml`): the same CG-SENSE image before it, the same step of data
consistency after it, and the same five input channels, which are the image, its difference from the zero-filled image,
and the noise level. fastMRI's network has neither the residual connection nor the start at zero of its own: it is given
both.
"""

_QUALITY = """## Quality after equal training

{steps} steps of one example, bands of {rows} readout rows, drawn as for the released network: procedural pictures,
photographs, MR images and raw k-space of the training persons, 1 to 32 coils, with noise. All networks take their steps
in turns on the same example. Loss and optimiser are those of the released configuration: relative errors and SSIM, Adam
with {warmup} steps of warm-up and a cosine to 1 %, gradients clipped, the average of the weights. Learning rates tried
on the first seed: {rates}. A seed draws the weights and the examples.

PSNR in dB of magnitudes on the whole slices of the **validation** worlds at 4x and 8x, the mean of the kinds; k-space
of all kinds but "raw" is simulated. Seconds are processor time of a training step on one thread, with data consistency
and without the making of the example; the networks took turns. This is a short training: it tells how the networks
learn under one budget, not how good they become. No test person is in it.
"""

_SPEED = """{machine}; torch {torch}, fastmri {fastmri}; {device}{threads}; load average at the start {load}.
Timed are the networks alone, without the data consistency that is the same for all.

A training step is forward, L1 loss, backward, clipping and fused Adam. *Own best* is the fastest of float32 and
bfloat16 (autocast), contiguous and channels-last, eager and `torch.compile` (in the layout that is faster without; a
precision that is {too_slow:g} times slower is not compiled), chosen on one thread, with float32 in both layouts timed
again at every size. *Equal* is float32, contiguous and eager on both sides. Medians of {repetitions} rounds in which
the networks take turns; a ratio is the median of the ratios to fastMRI's within a round, with the quartiles in
brackets: above 1, ours is faster. GFLOP as torch counts those of convolutions; the share is of the rate of a large
matrix product in the same precision ({rates}).
"""


_NO_GPU = """Not measured: no GPU was at hand. `settings --device cuda` and `speed --device cuda` measure it, batch 16
of 320x320: images a second in training and inference, and the share of the chip's bfloat16 rate.
"""


def page(
    budget: Mapping[str, Any] | None,
    runs: Sequence[Mapping[str, Any]],
    speed: Mapping[str, Any] | None,
    gpu: Mapping[str, Any] | None = None,
    screened: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown of what is there; a part that was not run is said to be missing, and the settings stand in for speed."""
    parts = [_INTRODUCTION, summary(runs, speed), networks_table()]
    if budget is None or not runs:
        parts.append("## Quality after equal training\n\nNot measured yet.\n")
    else:
        parts.append(_quality_text(budget) + "\n" + quality_table(budget, runs))
    parts.append("## Speed\n\n" + (_speed_part(speed) if speed else "Not measured in turns yet.\n"))
    if screened and not speed:
        parts.append(_screened_table(screened))
    parts.append("## Speed on a GPU\n\n" + (_speed_part(gpu) if gpu else _NO_GPU))
    return "\n".join(part for part in parts if part)


def chosen(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Network to seed to its run at the network's own learning rate, that of the best PSNR on the first seed."""
    by_network: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_network.setdefault(run["network"], []).append(run)
    result: dict[str, dict[int, Mapping[str, Any]]] = {}
    for network in (name for name in CONTENDERS if name in by_network):
        mine = by_network[network]
        first = min(run["seed"] for run in mine)
        tried = [run for run in mine if run["seed"] == first]
        rate = max(tried, key=lambda run: run["validation"]["psnr"])["lr"]
        result[network] = {run["seed"]: run for run in sorted(mine, key=lambda r: r["seed"]) if run["lr"] == rate}
    return result


def differences(found: Mapping[str, Mapping[int, Mapping[str, Any]]], network: str, key: str = "psnr") -> list[float]:
    """dB of a network over fastMRI's, a seed each, over the seeds that both have."""
    reference = found.get(REFERENCE, {})
    mine = found.get(network, {})
    return [
        mine[s]["validation"][key] - reference[s]["validation"][key] for s in sorted(mine.keys() & reference.keys())
    ]


def summary(runs: Sequence[Mapping[str, Any]], speed: Mapping[str, Any] | None) -> str:
    """The answer in one table."""
    found = chosen(runs)
    names = [name for name in CONTENDERS if name != REFERENCE and (name in found or _ratios(speed, name, "training"))]
    if not names:
        return ""
    lines = [
        f"**Asked for**: PSNR not below fastMRI's in the mean of {SEEDS} seeds, training step and inference at least "
        f"{SPEED_TARGET} times as fast, each side at its own best. Ratios of speed are the least over the sizes "
        "timed.\n",
        "| network | parameters / fastMRI's | PSNR over its, dB (seeds) | training step | inference | all of it |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        gains = differences(found, name)
        training, inference = (_ratios(speed, name, kind) for kind in ("training", "inference"))
        size = _parameters(name) / _parameters(REFERENCE)
        if len(gains) < SEEDS or not training or not inference:
            verdict = "not all measured"
        else:
            verdict = "yes" if fmean(gains) >= 0 and min(*training, *inference) >= SPEED_TARGET else "no"
        gain = f"{fmean(gains):+.2f} ({len(gains)})" if gains else "-"
        lines.append(f"| {name} | {size:.2f} | {gain} | {_least(training)} | {_least(inference)} | {verdict} |")
    return "\n".join(lines) + "\n"


def networks_table() -> str:
    """What the names mean."""
    lines = ["| name | what it is | parameters |", "|---|---|---|"]
    lines += [f"| {name} | {c.text} | {_parameters(name):,} |" for name, c in CONTENDERS.items()]
    return "\n".join(lines) + "\n"


def quality_table(budget: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """A row a network: means over its seeds, and the difference to fastMRI's of the same seed; then a row a world."""
    found = chosen(runs)
    head = ["network", "lr", "seeds", "PSNR (each seed)", "over fastMRI's (each seed)", "SSIM", "s/step (each seed)"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for network, by_seed in found.items():
        each = [run["validation"] for run in by_seed.values()]
        steps = [run["cpu_seconds"] / budget["steps"] for run in by_seed.values()]
        cells = [
            network,
            f"{next(iter(by_seed.values()))['lr']:g}",
            ", ".join(map(str, by_seed)),
            _mean_and_each([v["psnr"] for v in each], "{:.2f}"),
            "" if network == REFERENCE else _mean_and_each(differences(found, network), "{:+.2f}"),
            f"{fmean(v['ssim'] for v in each):.4f}",
            _mean_and_each(steps, "{:.3f}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + _worlds_table(found) + _rates_text(runs)


def _worlds_table(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """PSNR of each kind of validation scan, the mean of the seeds that all networks have."""
    seeds = set.intersection(*(set(by_seed) for by_seed in found.values()))
    if not seeds:
        return ""
    rows = {network: [by_seed[seed]["validation"] for seed in sorted(seeds)] for network, by_seed in found.items()}
    kinds = sorted(key for key in next(iter(rows.values()))[0] if key.startswith("psnr-"))
    lines = ["", "| PSNR, dB | " + " | ".join(rows) + " |", "|---" * (1 + len(rows)) + "|"]
    for kind in kinds:
        cells = (f"{fmean(v[kind] for v in each):.2f}" for each in rows.values())
        lines.append(f"| {kind.removeprefix('psnr-')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def speed_table(task: Mapping[str, Any]) -> str:
    """A row a network."""
    head = ["network", "own best setting", "ms", "images/s", "ratio", "equal: ms", "equal: ratio", "GFLOP", "share"]
    lines = [f"### {task['task']}\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in task["rows"]:
        cells = [
            row["network"],
            row["setting"],
            f"{1e3 * row['seconds']:.0f}",
            f"{row['images_per_second']:.2f}",
            _ratio(row["ratio"]),
            f"{1e3 * row['plain_seconds']:.0f}",
            _ratio(row["plain_ratio"]),
            f"{row['flops'] / 1e9:.1f}",
            "-" if row["rate_share"] is None else f"{row['rate_share']:.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _quality_text(budget: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{rate:g}" for rate in budget["learning_rates"])
    return _QUALITY.format(**{**budget, "rates": rates})


def _rates_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Every learning rate that was tried on the first seed."""
    first = min(run["seed"] for run in runs)
    tried: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda r: r["lr"]):
        if run["seed"] == first:
            tried.setdefault(run["network"], []).append(f"{run['lr']:g}: {run['validation']['psnr']:.2f}")
    return (
        f"\nPSNR of seed {first} by learning rate: "
        + "; ".join(f"{k} {', '.join(v)}" for k, v in tried.items())
        + ".\n"
    )


def _speed_part(speed: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in speed["matmul_rates"].items())
    threads = f", {speed['threads']} thread(s)" if speed["device"] == "cpu" else ""
    text = _SPEED.format(**{**speed, "rates": rates, "threads": threads, "too_slow": TOO_SLOW})
    tables = [speed_table(task) for task in speed["tasks"]]
    return "\n".join([text, *tables, _screened_table(speed["screened"])])


def _screened_table(screened: Sequence[Mapping[str, Any]]) -> str:
    networks = list(dict.fromkeys(row["network"] for row in screened))
    lines = [
        "### Every setting, ms\n",
        "The shortest of a few calls, of processor time on one thread (on a GPU of wall time).\n",
        "| task | setting | " + " | ".join(networks) + " |",
        "|---" * (2 + len(networks)) + "|",
    ]
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for row in screened:
        cells.setdefault((row["task"], row["setting"]), {})[row["network"]] = row["seconds"]
    for (task, setting), by_network in cells.items():
        lines.append(f"| {task} | {setting} | " + " | ".join(_milliseconds(by_network.get(n)) for n in networks) + " |")
    return "\n".join(lines) + "\n"


def _ratios(speed: Mapping[str, Any] | None, network: str, kind: str) -> list[float]:
    tasks = speed["tasks"] if speed else []
    return [
        row["ratio"][0]
        for task in tasks
        if task["task"].startswith(kind)
        for row in task["rows"]
        if row["network"] == network
    ]


def _parameters(network: str) -> int:
    with torch.device("meta"):
        return num_parameters(contender(network).make())


def _least(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f}x" if ratios else "-"


def _ratio(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f}-{values[2]:.2f})"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{1e3 * value:.0f}"


def _mean_and_each(values: Iterable[float], form: str) -> str:
    found = list(values)
    if not found:
        return "-"
    return f"{form.format(fmean(found))} ({', '.join(form.format(v) for v in found)})"

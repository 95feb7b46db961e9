"""Measure how the time of a default `cs-wavelet` call grows with slices, coils, matrix and threads.

    python benchmarks/classical/scaling.py --plot docs/results/images/scaling.png
    python benchmarks/classical/scaling.py volume      200 slices in one file, by one call and by Ray Data

SIMULATED k-space, random columns, R = 4; maps, noise and phase are estimated; 20 iterations for every slice, so that
sizes alone differ. The base is 4 slices of 128x128, 8 coils; of 256x256 where threads vary. Each measure is the median
over rounds, which go through all sizes in turn. "Wall" is the time that passes; "processor" counts the work of all
threads, and depends little on what else the machine does: at one thread it is the wall time of a quiet machine.

The volume is one slice of the sample, resized and repeated, each time with noise of its own. It is reconstructed by one
call of `reconstruct` on the threads of `--threads`, and by Ray Data on as many workers of one thread each, ten slices a
task.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
from speed import full_simulation

import mri_recon as mr
from mri_recon.results.plots import LINES, new_plot, save_plot

app = typer.Typer(add_completion=False)

BASE = {"slices": 4, "coils": 8, "side": 128}
SIZES = {"slices": (1, 2, 4, 8, 16), "coils": (2, 4, 8, 16), "side": (96, 128, 192, 256, 384)}
THREADS_SIDE = 256
"""Side where threads vary: smaller slices gain less."""
ITERATIONS = 20
TASK = 10
"""Slices of one task of Ray."""


def _volume(slices: int, coils: int, side: int) -> tuple[torch.Tensor, mr.ColumnMask]:
    """Simulate undersampled k-space: the same object in every slice, with other noise."""
    kspace, _, _ = full_simulation(side, side, coils, snr=1e6)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(slices, coils, side, side, dtype=torch.complex64, generator=generator) / 40
    mask = mr.random_mask(side, 4, seed=0)
    return mr.undersample(kspace + noise, mask), mask


def _timed(call: Callable[[], Any], threads: int) -> tuple[float, float]:
    """Return seconds that pass, and of the processor."""
    torch.set_num_threads(threads)
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


@app.callback(invoke_without_command=True)
def sizes(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1, help="most threads")] = os.cpu_count() or 1,
    plot: Annotated[Path | None, typer.Option(help="PNG, PDF or SVG")] = None,
) -> None:
    """Print the time by size, and draw it."""
    if context.invoked_subcommand is not None:
        return
    cases = [(axis, number, 1, BASE | {axis: number}) for axis, numbers in SIZES.items() for number in numbers]
    counts = sorted({1, *(n for n in (2, 4, 8, 16, 32) if n < threads), threads})
    cases += [
        ("threads", number, number, BASE | {"slices": 2 * max(counts), "side": THREADS_SIDE}) for number in counts
    ]
    problems = [_volume(**size) for *_, size in cases]
    samples: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        for (axis, number, used, _), (kspace, mask) in zip(cases, problems, strict=True):

            def call(kspace: torch.Tensor = kspace, mask: mr.ColumnMask = mask) -> None:
                mr.reconstruct(kspace, mask, method="cs-wavelet", max_iters=ITERATIONS)

            measured = _timed(call, used)
            if turn:  # the first warms up
                samples.setdefault((axis, number), []).append(measured)
    median = {
        case: tuple(statistics.median(one[i] for one in measured) for i in range(2))
        for case, measured in samples.items()
    }
    typer.echo(f"SIMULATED; {rounds} rounds, load {os.getloadavg()[0]:.1f}; base {BASE}, {ITERATIONS} iterations")
    typer.echo(f"{'':10}{'':>6}{'wall s':>9}{'processor s':>13}{'a slice ms':>12}")
    for (axis, number, _, size), case in zip(cases, median, strict=True):
        wall, processor = median[case]
        typer.echo(f"{axis:10}{number:6}{wall:9.2f}{processor:13.2f}{1e3 * processor / size['slices']:12.1f}")
    if plot is not None:
        _draw(median, plot)


def _draw(median: dict[tuple[str, int], tuple[float, ...]], path: Path) -> None:
    labels = {
        "slices": "slices",
        "coils": "coils",
        "side": "pixels of a slice / 1000",
        "threads": f"threads ({THREADS_SIDE}x{THREADS_SIDE})",
    }
    figure, panels = new_plot(1, len(labels), panel=(3.0, 3.2))
    for panel, (axis, label) in zip(panels[0], labels.items(), strict=True):
        numbers = [number for name, number in median if name == axis]
        x = [number**2 / 1000 if axis == "side" else number for number in numbers]
        if axis == "threads":
            panel.plot(x, [median[axis, n][0] for n in numbers], label="wall", **LINES["wall"].options())
            panel.set_xticks(numbers)
            panel.set_xlim(right=1.1 * max(numbers))
        panel.plot(x, [median[axis, n][1] for n in numbers], label="processor", **LINES["processor"].options())
        panel.set(xlabel=label, ylabel="seconds")
        panel.set_xlim(left=0)
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panels[0][-1].legend(frameon=False)
    figure.suptitle(
        f"cs-wavelet, {ITERATIONS} iterations; SIMULATED, {BASE['slices']} slices of {BASE['side']}x{BASE['side']}, "
        f"{BASE['coils']} coils, where not varied",
        fontsize=10,
    )
    save_plot(figure, path)


@app.command()
def volume(
    slices: Annotated[int, typer.Option(min=TASK)] = 200,
    coils: Annotated[int, typer.Option(min=2)] = 4,
    side: Annotated[int, typer.Option(min=32)] = 128,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Reconstruct a volume from its file: one call, and tasks of Ray Data."""
    kspace, mask = _volume(slices, coils, side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume.h5")
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace.numpy()
        lines = mask.lines
        single = _reconstruct(str(path), 0, slices, lines)
        typer.echo(f"SIMULATED; {slices} slices of {side}x{side}, {coils} coils; load {os.getloadavg()[0]:.1f}")
        start = time.perf_counter()
        by_ray = _RayVolume(path, slices, lines, threads)
        typer.echo(f"Ray starts in {time.perf_counter() - start:.1f} s")
        try:
            if not np.array_equal(by_ray(), single):
                raise SystemExit("expected the same bits from both")
            seconds: dict[str, list[float]] = {"1 thread": [], f"{threads} threads": [], "Ray Data": []}
            for _ in range(rounds):
                for name, number in (("1 thread", 1), (f"{threads} threads", threads)):
                    seconds[name].append(_timed(lambda: _reconstruct(str(path), 0, slices, lines), number)[0])
                seconds["Ray Data"].append(_timed(by_ray, 1)[0])
        finally:
            by_ray.close()
    for name, measured in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["1 thread"], measured, strict=True))
        low, middle, high = np.percentile(measured, (25, 50, 75))
        typer.echo(f"{name:12} {middle:6.1f} s ({low:.1f}-{high:.1f})   {ratio:.2f} times as fast as 1 thread")


def _reconstruct(path: str, first: int, stop: int, lines: Any) -> Any:
    """Read slices of the file and reconstruct them."""
    scan = mr.load(path, slices=range(first, stop))
    kept = mr.undersample(torch.as_tensor(scan.kspace), lines)
    return mr.reconstruct(kept, lines, method="cs-wavelet").image.numpy()


class _RayVolume:
    """Reconstruct the file by Ray Data, on workers that stay."""

    def __init__(self, path: Path, slices: int, lines: Any, workers: int) -> None:
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        self._ray, self._workers = ray, workers
        self._tasks = [
            {"path": str(path), "first": first, "stop": min(first + TASK, slices), "lines": np.asarray(lines)}
            for first in range(0, slices, TASK)
        ]

    def __call__(self) -> Any:
        tasks = self._ray.data.from_items(self._tasks, override_num_blocks=len(self._tasks))
        done = tasks.map(_task, num_cpus=1, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}).take_all()
        return np.concatenate([one["image"] for one in sorted(done, key=lambda one: int(one["first"]))])

    def close(self) -> None:
        self._ray.shutdown()


def _task(row: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"first": row["first"], "image": _reconstruct(row["path"], row["first"], row["stop"], row["lines"])}


if __name__ == "__main__":
    sys.exit(app())

"""Speed and memory of wavelet compressed sensing beside BART and SigPy, on SIMULATED multi-coil k-space.

    python benchmarks/classical/speed.py                                   the table of docs/results/benchmarks.md
    python benchmarks/classical/speed.py --quick                           one shape, few repetitions
    python benchmarks/classical/speed.py --json b.json --plot b.png        keep every number, draw them

BART (Debian package `bart`) is searched for on the PATH, SigPy (`pip install sigpy`) in this Python; what is missing is
left out. Every package runs in processes of its own with the same number of threads, warm, in turns.
docs/results/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
from peers import Bart, Problem, Worker

from mri_recon.embedded_sample import sample_path
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.results.plots import LINES, new_plot, save_plot
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

SHAPES = "320x320x8,320x320x1,320x320x4,320x320x15,128x126x8,640x368x8"
LEVEL = 1e-2
SLOPE_ITERATIONS = 40

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Timing:
    """Median of repetitions, and the quartiles as its accuracy."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Timing:
        low, median, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
        return Timing(median, low, high)

    def text(self, factor: float = 1.0, digits: int = 1) -> str:
        return f"{self.median * factor:.{digits}f} ({self.low * factor:.{digits}f}-{self.high * factor:.{digits}f})"


@dataclass
class Measured:
    """One package on one problem at one weight."""

    package: str
    optimum: float
    iterations: int
    per_iteration: Timing
    to_level: Timing
    start_up: Timing
    marks: list[int] = field(default_factory=list)
    objective: list[float] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def suboptimality(self) -> list[float]:
        return [value / self.optimum - 1 for value in self.objective]


def simulate(
    h: int, w: int, coils: int, *, slices: int = 1, image: str = "sample", snr: float = 40.0, seed: int = 0
) -> Problem:
    """The embedded sample (bicubic), or the Shepp-Logan phantom, at `(h, w)` with phase, coils and noise; R = 4."""
    kspace, maps, _ = full_simulation(h, w, coils, image=image, snr=snr, seed=seed)
    mask = random_mask(w, 4.0, seed=seed)
    sampled = undersample(kspace, mask)[None].expand(slices, -1, -1, -1).contiguous()
    return Problem(sampled.numpy(), mask.tensor().numpy(), maps.numpy())


def full_simulation(
    h: int, w: int, coils: int, *, image: str = "sample", snr: float = 40.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The fully sampled k-space `(coil, h, w)`, its maps, and the magnitude image without noise."""
    rng = np.random.default_rng(seed)
    magnitude = _magnitude(h, w, image)
    magnitude = magnitude / magnitude[magnitude > 0.2 * magnitude.max()].mean()
    truth = torch.polar(magnitude, torch.from_numpy(smooth_phase((h, w), rng, strength=0.7, max_shift=2.0)))
    maps = torch.from_numpy(coil_maps(coils, (h, w), rng))
    return fft2c(maps * truth + complex_noise((coils, h, w), rng, sigma=1 / snr)), maps, magnitude


def _magnitude(h: int, w: int, image: str) -> torch.Tensor:
    if image == "sample":
        with h5py.File(sample_path()) as file:
            small = torch.from_numpy(file["reconstruction_rss"][1].astype(np.float32))
        resized = torch.nn.functional.interpolate(small[None, None], size=(h, w), mode="bicubic", align_corners=False)
        return resized[0, 0].clamp_min(0)
    if image == "phantom":
        return torch.from_numpy(_shepp_logan(h, w))
    raise typer.BadParameter(f"expected image sample or phantom, got {image!r}")


def _shepp_logan(h: int, w: int) -> Any:
    """The modified phantom: ellipses (value, semi-axes, centre, angle in degrees)."""
    y, x = np.linspace(1, -1, h)[:, None], np.linspace(-1, 1, w)[None, :]
    total = np.zeros((h, w))
    for value, a, b, x0, y0, degrees in (
        (1.0, 0.69, 0.92, 0.0, 0.0, 0),
        (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0),
        (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
        (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
        (0.1, 0.21, 0.25, 0.0, 0.35, 0),
        (0.1, 0.046, 0.046, 0.0, 0.1, 0),
        (0.1, 0.046, 0.046, 0.0, -0.1, 0),
        (0.1, 0.046, 0.023, -0.08, -0.605, 0),
        (0.1, 0.023, 0.023, 0.0, -0.606, 0),
        (0.1, 0.023, 0.046, 0.06, -0.605, 0),
    ):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        u, v = (x - x0) * c + (y - y0) * s, -(x - x0) * s + (y - y0) * c
        total += value * ((u / a) ** 2 + (v / b) ** 2 <= 1)
    return total.clip(min=0).astype(np.float32)


class Bench:
    """The three packages, started once."""

    def __init__(self, threads: int, packages: list[str], long: int, repetitions: int) -> None:
        self.threads, self.long, self.repetitions = threads, long, repetitions
        self.packages: dict[str, Any] = {"ours": Worker("ours", threads)}
        if "bart" in packages and Bart.available():
            self.packages["bart"] = Bart(threads)
        if "sigpy" in packages and importlib.util.find_spec("sigpy") is not None:
            self.packages["sigpy"] = Worker("sigpy", threads)

    def close(self) -> None:
        for package in self.packages.values():
            package.close()

    def load(self, problem: Problem) -> None:
        for package in self.packages.values():
            package.load(problem)

    def compare(self, lam: float) -> dict[str, Measured]:
        """Iterations that each needs, then their times in turns."""
        found = {name: self._iterations(name, lam) for name in self.packages}
        samples: dict[str, dict[str, list[float]]] = {name: {} for name in self.packages}
        certificates: list[dict[str, float]] = []
        for repetition in range(self.repetitions + 1):
            for name in self.packages:
                for key, value in self._time(name, lam, found[name].iterations).items():
                    if repetition > 0:  # the first warms up
                        samples[name].setdefault(key, []).append(value)
            certificate = self.packages["ours"].certified(lam, LEVEL)
            if repetition > 0:
                certificates.append(certificate)
        for name, measured in found.items():
            measured.per_iteration = Timing.of(samples[name]["per_iteration"])
            measured.to_level = Timing.of(samples[name]["to_level"])
            measured.start_up = Timing.of(samples[name]["start_up"])
            # Ratios of neighbours in time: what disturbs the machine for longer than a turn drops out.
            pairs = zip(samples[name]["to_level"], samples["ours"]["to_level"], strict=True)
            measured.extra["times_ours"] = asdict(Timing.of([theirs / ours for theirs, ours in pairs]))
            pairs = zip(samples[name]["to_level"], (c["seconds"] for c in certificates), strict=True)
            measured.extra["times_ours_certified"] = asdict(Timing.of([theirs / ours for theirs, ours in pairs]))
        ours = found["ours"]
        ours.extra["certified"] = {
            "seconds": asdict(Timing.of([c["seconds"] for c in certificates])),
            "iterations": certificates[0]["iterations"],
            "relative_gap": certificates[0]["relative_gap"],
            "true_suboptimality": certificates[0]["objective"] / ours.optimum - 1,
        }
        return found

    def per_iteration(self, name: str, lam: float) -> Timing:
        self._time(name, lam, 1)
        return Timing.of([self._time(name, lam, 1)["per_iteration"] for _ in range(self.repetitions)])

    def _time(self, name: str, lam: float, iterations: int) -> dict[str, float]:
        """Seconds by what they are for.

        BART: the slope between a short and a long call is the iteration, and the call of one iteration less that the
        start-up with reading and writing. SigPy: set-up and `update` calls. Ours: the whole call counts, start-up too.
        """
        package = self.packages[name]
        more = max(iterations, SLOPE_ITERATIONS)
        if name == "sigpy":
            run = package.solve(lam, iterations)
            per_iteration = run["seconds"] / iterations
            return {"per_iteration": per_iteration, "to_level": run["seconds"], "start_up": run["set_up"]}
        call: Callable[[int], float] = (
            (lambda n: package.solve(lam, n)) if name == "bart" else (lambda n: package.solve(lam, n)["seconds"])
        )
        first, last = call(1), call(more + 1)
        slope = (last - first) / more
        to_level = iterations * slope if name == "bart" else call(iterations)
        return {"per_iteration": slope, "to_level": to_level, "start_up": first - slope}

    def _iterations(self, name: str, lam: float) -> Measured:
        """The first iteration within LEVEL of the smallest objective of a long run."""
        package = self.packages[name]
        extra: dict[str, Any] = {}
        if name == "sigpy":
            marks = [*range(1, 201), *range(220, self.long + 1, 20)]
            values = package.trace(lam, [m for m in marks if m <= self.long])
            marks = marks[: len(values)]
            optimum = min(values)
            needed = next(m for m, value in zip(marks, values, strict=True) if value <= (1 + LEVEL) * optimum)
        else:
            known: dict[int, float] = {}

            def value_at(n: int) -> float:
                if n not in known:
                    if name == "bart":
                        known[n], extra["as_returned"] = package.objective(lam, n)
                    else:
                        known[n] = package.trace(lam, [n])[0]
                return known[n]

            grid = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
            optimum = min(value_at(n) for n in (self.long // 2, self.long))
            below, above = 0, self.long
            for n in grid:
                if value_at(n) <= (1 + LEVEL) * optimum:
                    above = n
                    break
                below = n
            optimum = min(known.values())
            while above - below > 1:
                middle = (below + above) // 2
                if value_at(middle) <= (1 + LEVEL) * optimum:
                    above = middle
                else:
                    below = middle
            needed = above
            marks = sorted(known)
            values = [known[n] for n in marks]
            if name == "bart":
                extra["as_returned"] = package.objective(lam, needed)[1] / optimum - 1
        nothing = Timing(0, 0, 0)
        return Measured(name, optimum, needed, nothing, nothing, nothing, marks, values, extra)


def memory(threads: int, names: list[str], problem: Problem, lam: float) -> dict[str, dict[str, float]]:
    """Peak resident MB of a fresh process of each package: after a 32x32 problem, and after ten iterations of this."""
    tiny = simulate(128, 128, 1, image="phantom")  # large enough for the compiled wavelets: they load a compiler
    result = {}
    for name in names:
        package: Any = Bart(threads) if name == "bart" else Worker(name, threads)
        package.load(tiny)
        start = package.peak_memory(1e-3, 2)
        package.load(problem)
        result[name] = {"start_mb": start, "peak_mb": package.peak_memory(lam, 10)}
        package.close()
    return result


def espirit(bench: Bench) -> dict[str, dict[str, float] | None]:
    """Seconds for one set of maps, in turns; None where a package has none."""
    samples: dict[str, list[float]] = {}
    for repetition in range(bench.repetitions + 1):
        for name, package in bench.packages.items():
            value = package.ecalib() - package.start_up() if name == "bart" else package.espirit()
            if repetition > 0 and value is not None:
                samples.setdefault(name, []).append(value)
    return {name: asdict(Timing.of(samples[name])) if name in samples else None for name in bench.packages}


@app.command(help=__doc__)
def main(
    shapes: Annotated[str, typer.Option(help="comma-separated readout x phase x coils")] = SHAPES,
    weights: Annotated[str, typer.Option(help="comma-separated, in units of max |W A^H y|")] = "0.00025,0.001",
    image: Annotated[str, typer.Option(help="sample or phantom")] = "sample",
    snr: Annotated[float, typer.Option(help="mean intensity of the object / sigma of the noise")] = 40.0,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    repetitions: Annotated[int, typer.Option(min=2)] = 9,
    long: Annotated[int, typer.Option(min=100, help="iterations of the run that defines the minimum")] = 2000,
    packages: Annotated[str, typer.Option(help="what to compare with")] = "bart,sigpy",
    scaling: Annotated[bool, typer.Option(help="cost by slices and by coils")] = True,
    calibration: Annotated[bool, typer.Option(help="ESPIRiT")] = True,
    quick: Annotated[bool, typer.Option(help="320x320x8 only, 3 repetitions, 300 iterations as the long run")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="write every number here")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG or SVG")] = None,
) -> None:
    if quick:
        shapes, repetitions, long, scaling = "320x320x8", 3, 300, False
    bench = Bench(threads, packages.split(","), long, repetitions)
    document: dict[str, Any] = {
        "data": f"SIMULATED: {image}, phase, coils, complex noise of sigma {1 / snr:g} at mean intensity 1, R = 4",
        "versions": [package.version() for package in bench.packages.values()],
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "load_at_start": os.getloadavg(),
        "threads": threads,
        "repetitions": repetitions,
        "long": long,
        "level": LEVEL,
        "cases": [],
    }
    typer.echo(f"{document['data']}\n{'; '.join(document['versions'])}; {threads} threads, {repetitions} repetitions")
    typer.echo(f"median (quartiles); true suboptimality {LEVEL:g} against a run of {long} iterations; load average")
    typer.echo(f"at start {document['load_at_start'][0]:.1f}\n\n{_HEADER}")
    for shape in shapes.split(","):
        h, w, coils = map(int, shape.split("x"))
        problem = simulate(h, w, coils, image=image, snr=snr)
        bench.load(problem)
        lambda_max = bench.packages["ours"].lambda_max()
        for weight in map(float, weights.split(",")):
            lam = weight * lambda_max
            results = bench.compare(lam)
            case = {
                "shape": shape,
                "weight": weight,
                "lambda": lam,
                "lambda_in_sigma": lam * snr,
                "results": {name: asdict(result) for name, result in results.items()},
                "memory": memory(threads, list(bench.packages), problem, lam),
            }
            document["cases"].append(case)
            typer.echo(_rows(case, results))
            _write(json_path, document)
    h, w, coils = map(int, shapes.split(",")[0].split("x"))
    weight = float(weights.split(",")[0])
    if calibration:
        bench.load(simulate(h, w, coils, image=image, snr=snr))
        document["espirit"] = espirit(bench)
        typer.echo(f"\nESPIRiT, {h}x{w}x{coils}, one set, ms")
        for name, timing in document["espirit"].items():
            typer.echo(f"{name:6} {Timing(**timing).text(1e3) if timing else 'not there'}")
    if scaling:
        document["scaling"] = _scaling(bench, h, w, coils, weight, image, snr)
    bench.close()
    _write(json_path, document)
    if plot is not None:
        _draw(document, plot)


def _scaling(bench: Bench, h: int, w: int, coils: int, weight: float, image: str, snr: float) -> dict[str, Any]:
    """ms an iteration by coils (all), and by slices in one call (ours; the others take slices one by one)."""
    result: dict[str, Any] = {"coils": {name: {} for name in bench.packages}, "slices": {}}
    typer.echo(f"\nms/iteration by coils, {h}x{w}, one slice")
    for number in (1, 2, 4, 8, 16):
        bench.load(simulate(h, w, number, image=image, snr=snr))
        lam = weight * bench.packages["ours"].lambda_max()
        for name in bench.packages:
            result["coils"][name][number] = asdict(bench.per_iteration(name, lam))
        cells = (f"{name} {Timing(**result['coils'][name][number]).text(1e3)}" for name in bench.packages)
        typer.echo(f"{number:3d} coils   " + "   ".join(cells))
    typer.echo(f"\nours by slices, {h}x{w}x{coils}: ms/iteration of the batch")
    for number in (1, 2, 4, 8):
        ours = bench.packages["ours"]
        ours.load(simulate(h, w, coils, slices=number, image=image, snr=snr))
        lam = weight * ours.lambda_max()
        timing = bench.per_iteration("ours", lam)
        result["slices"][number] = asdict(timing)
        typer.echo(f"{number:3d} slices  {timing.text(1e3)}")
    return result


_HEADER = (
    f"{'problem':12} {'weight':>7} {'lambda':>7} {'/sigma':>6} {'package':7} {'its':>5} {'ms/iteration':>20} "
    f"{'ms to 1e-2':>24} {'times ours':>20} {'start-up, ms':>20} {'MB above start':>16}"
)


def _rows(case: dict[str, Any], results: dict[str, Measured]) -> str:
    lines = []
    for name, result in results.items():
        peak = case["memory"][name]
        lines.append(
            f"{case['shape']:12} {case['weight']:7.1e} {case['lambda']:7.2g} {case['lambda_in_sigma']:6.2f} {name:7} "
            f"{result.iterations:5d} {result.per_iteration.text(1e3):>20} {result.to_level.text(1e3):>24} "
            f"{Timing(**result.extra['times_ours']).text():>20} {result.start_up.text(1e3):>20} "
            f"{peak['peak_mb'] - peak['start_mb']:16.0f}"
        )
    certified = results["ours"].extra["certified"]
    seconds = Timing(**certified["seconds"])
    overhead = seconds.median / results["ours"].to_level.median
    lines.append(
        f"{'':37}ours to its own certificate of {LEVEL:g}: {seconds.text(1e3)} ms, "
        f"{certified['iterations']} iterations, truly "
        f"{certified['true_suboptimality']:.1e}; {overhead:.2f} times the time to the true 1e-2"
    )
    if "bart" in results:
        as_returned = results["bart"].extra["as_returned"]
        lines.append(f"{'':37}bart is thresholded once more; as returned it stands {as_returned:.0%} above its minimum")
    return "\n".join(lines)


def _write(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _draw(document: dict[str, Any], path: Path) -> None:
    panels = 3 if "scaling" in document else 1
    figure, axes = new_plot(1, panels, panel=(4.2, 3.6))
    case = document["cases"][0]
    axis = axes[0, 0]
    for name, result in case["results"].items():
        milliseconds = [1e3 * result["per_iteration"]["median"] * mark for mark in result["marks"]]
        above = [max(value / result["optimum"] - 1, 1e-7) for value in result["objective"]]
        axis.loglog(milliseconds, above, label=name, **LINES[name].options())
    axis.axhline(document["level"], color="0.6", lw=0.8)
    axis.set(xlabel="ms in iterations", ylabel="P / P* - 1", ylim=(1e-6, None))
    axis.set_title(f"{case['shape']}, lambda = {case['weight']:g} lambda_max", fontsize=10)
    axis.legend(frameon=False)
    if "scaling" in document:
        scaling = document["scaling"]
        for name, by_coils in scaling["coils"].items():
            _line(axes[0, 1], by_coils, name)
        axes[0, 1].set(xlabel="coils", ylabel="ms / iteration")
        axes[0, 1].set_title("one slice", fontsize=10)
        axes[0, 1].legend(frameon=False)
        _line(axes[0, 2], scaling["slices"], "ours")
        axes[0, 2].set(xlabel="slices in one call", ylabel="ms / iteration of the batch")
        axes[0, 2].set_title("ours", fontsize=10)
        for axis in axes[0, 1:]:
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
    figure.suptitle(f"SIMULATED k-space, R = 4, {document['threads']} threads", fontsize=10)
    save_plot(figure, path)


def _line(axis: Any, values: dict[Any, dict[str, float]], label: str) -> None:
    numbers = [int(n) for n in values]
    median, low, high = (np.array([1e3 * values[n][key] for n in values]) for key in ("median", "low", "high"))
    axis.errorbar(numbers, median, yerr=(median - low, high - median), label=label, **LINES[label].options())
    axis.set_xticks(numbers)


if __name__ == "__main__":
    sys.exit(app())

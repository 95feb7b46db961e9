"""Measure which part of a default `cs-wavelet` call each of its stages takes.

    python benchmarks/classical/set_up.py
    python benchmarks/classical/set_up.py --shapes 320x320x8,151x127x8 --virtual-coils 8

SIMULATED k-space of one slice, random columns, R = 4; maps, noise and phase are estimated. One thread. Seconds are
those of the processor in this thread, so that other work on the machine counts little: the median of the repetitions,
after one that warms up.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from speed import full_simulation

from mri_recon import reconstruction
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods import _inputs, cs_wavelet, priors
from mri_recon.reconstruction import reconstruct

STAGES: dict[str, list[tuple[Any, str]]] = {
    "coil compression": [(reconstruction, "prepare")],
    "sensitivity maps": [(_inputs, "estimate_maps")],
    "noise": [(cs_wavelet, "_noise")],
    "phase": [(cs_wavelet, "smooth_phase_map")],
    "data term": [(cs_wavelet, "data_term")],
    "virtual coils": [(priors, "of_virtual_coils")],
    "preconditioner": [(priors, "penalised_inverse")],
    "iterations": [(priors, "admm")],
}
"""Functions that make up a stage, less those of other stages that they call. "rest" is what is left: checks, the
objective, the last step."""


def main(
    shapes: Annotated[str, typer.Option(help="comma-separated readout x phase x coils")] = "320x320x8",
    repetitions: Annotated[int, typer.Option(min=1)] = 7,
    virtual_coils: Annotated[int | None, typer.Option(help="compress the coils to this many")] = None,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    typer.echo(f"SIMULATED; 1 thread, processor seconds, median of {repetitions}")
    for shape in shapes.split(","):
        h, w, coils = map(int, shape.split("x"))
        kspace, _, _ = full_simulation(h, w, coils)
        mask = random_mask(w, 4, seed=0)
        sampled = undersample(kspace, mask)[None]

        def call(sampled: torch.Tensor = sampled, mask: Any = mask) -> None:
            reconstruct(sampled, mask, method="cs-wavelet", num_virtual_coils=virtual_coils)

        call()
        found = [_measured(call) for _ in range(repetitions)]
        whole = statistics.median(one["whole"] for one in found)
        typer.echo(f"\n{shape + (f', {virtual_coils} virtual coils' if virtual_coils else ''):22}{'ms':>8}{'share':>8}")
        for stage in (*STAGES, "rest", "whole"):
            value = statistics.median(one[stage] for one in found)
            typer.echo(f"{stage:22}{1e3 * value:8.1f}{value / whole:8.1%}")
        share = 1 - statistics.median((one["iterations"] + one["rest"]) / one["whole"] for one in found)
        typer.echo(f"{'set-up':30}{share:8.1%}   (all but iterations and rest)")


def _measured(call: Callable[[], None]) -> dict[str, float]:
    seconds = dict.fromkeys(STAGES, 0.0)
    inside = [0.0]  # seconds of the stages that each function at work has called

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            inside.append(0.0)
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                whole = time.thread_time() - start
                seconds[stage] += whole - inside.pop()
                inside[-1] += whole

        return run

    with ExitStack() as patches:
        for stage, places in STAGES.items():
            for module, name in places:
                patches.enter_context(patch.object(module, name, timed(stage, getattr(module, name))))
        start = time.thread_time()
        call()
        whole = time.thread_time() - start
    return {**seconds, "rest": whole - sum(seconds.values()), "whole": whole}


if __name__ == "__main__":
    sys.exit(typer.run(main))

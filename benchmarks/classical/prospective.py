"""The prospectively undersampled scan of eight coils: this project and BART, as a picture and in seconds.

    python benchmarks/classical/prospective.py --picture prospective.png

`raw/brain-8ch-undersampled` of the data registry (MRI_RECON_DATA names a local copy): one slice, a 2-D Poisson disc, no
truth. So there is nothing to measure but time: the picture is for looking at. Nothing may be chosen by it, for the
scan is a test scan. Its licence lets no picture of it into the repository.

BART (Debian package `bart`): `ecalib -m1`, then `pics -S -i 100 -R W:3:0:WEIGHT`, random shifts as by default.
"""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from peers import read_cfl, write_cfl
from torch import Tensor

from mri_recon.errors import DataError, MriReconError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.cg_sense import cg_sense
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.methods.networks import unet, unrolled
from mri_recon.methods.zero_filled import zero_filled
from mri_recon_data.registry import files

app = typer.Typer(add_completion=False, help=__doc__)

SET = "brain-8ch-undersampled"
BART_ITERATIONS = 100
WINDOW_PERCENTILE = 99.5
MAX_BYTES = 300_000
COLUMNS = 4

_COARSER = ((64, 1.0), (40, 1.0), (24, 1.0), (64, 0.75), (40, 0.75), (64, 0.5))
"""Grays and scale of the picture, tried in turn until it is small enough."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Panel:
    """A magnitude image, what it is, and the seconds it took, maps included."""

    label: str
    image: FloatArray
    seconds: float | None
    note: str = ""


@app.command()
def main(
    picture: Annotated[Path, typer.Option(help="PNG to write; keep it out of the repository")],
    weights: Annotated[str, typer.Option(help="comma-separated weights of ours, lambda / sigma or auto")] = "auto",
    prior: Annotated[str, typer.Option(help="of ours; empty stands for the default")] = "",
    bart_weights: Annotated[str, typer.Option(help="comma-separated weights for BART")] = "0.002,0.01,0.05",
) -> None:
    """Reconstruct, print the seconds, draw the picture."""
    (file,) = files(name=SET)
    kspace = file.load().kspace
    mask = as_mask((kspace != 0).any(dim=1).any(dim=0), kspace.shape)
    pattern = mask.tensor().numpy()
    typer.echo(f"{file.name}: {tuple(kspace.shape)}, {pattern.mean():.1%} of the positions sampled")
    panels = [Panel("sampling", pattern.astype(np.float32), None), *_ours(kspace, mask, weights.split(","), prior)]
    panels += _networks(kspace, mask)
    panels += _bart(kspace[0].numpy(), bart_weights.split(","))
    for panel in panels[1:]:
        typer.echo(f"{panel.label:34} {panel.seconds:8.2f} s  {panel.note}")
    content = _draw(panels)
    picture.write_bytes(content)
    typer.echo(f"{picture}: {len(content)} bytes; each image from 0 to its own {WINDOW_PERCENTILE} percentile")


def _ours(kspace: Tensor, mask: Mask, weights: list[str], prior: str) -> list[Panel]:
    cs_wavelet(kspace, mask, max_iters=1)  # the first call of a process loads libraries
    image, info = zero_filled(kspace, mask)
    panels = [_panel("zero-filled (rss)", image, info)]
    image, info = cg_sense(kspace, mask)
    panels.append(_panel("cg-sense", image, info, f"{info['iterations']} iterations, stop {info['stop']}"))
    for weight in weights:
        options: dict[str, Any] = {"prior": prior} if prior else {}
        image, info = cs_wavelet(kspace, mask, reg_weight="auto" if weight == "auto" else float(weight), **options)
        note = (
            f"{info['prior']}, {info['iterations']} iterations, stop {info['stop']}, gap {info['relative_gap']}, "
            f"sigma {info['sigma']:.3g} ({info['sigma_source']})"
        )
        automatic = "auto, " if weight == "auto" else ""
        panels.append(_panel(f"cs-wavelet, {automatic}{info['reg_weight']:g} sigma", image, info, note))
    return panels


def _networks(kspace: Tensor, mask: Mask) -> list[Panel]:
    """The shipped networks; both learned from masks of columns only, and say so."""
    panels = []
    for name, method in (("unet", unet), ("unrolled", unrolled)):
        image, info = method(kspace, mask, device=torch.device("cpu"))
        panels.append(_panel(name, image, info, "; ".join(info["warnings"])))
    return panels


def _panel(label: str, image: Tensor, info: dict[str, Any], note: str = "") -> Panel:
    return Panel(label, image[0].abs().numpy().astype(np.float32), float(info["seconds"]), note)


def _bart(kspace: npt.NDArray[np.complex64], weights: list[str]) -> list[Panel]:
    """One slice `(coil, readout, phase)` at each weight; the seconds hold start-up, files and `ecalib`."""
    size = kspace.shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("kspace", "maps", "image")}
        write_cfl(paths["kspace"], np.moveaxis(kspace, 0, -1)[:, :, None, :])
        calibration = _timed(["bart", "ecalib", "-m1", paths["kspace"], paths["maps"]])
        panels = []
        for weight in weights:
            command = ["bart", "pics", "-S", "-i", str(BART_ITERATIONS), "-R", f"W:3:0:{weight}"]
            seconds = _timed([*command, paths["kspace"], paths["maps"], paths["image"]])
            image = np.abs(read_cfl(paths["image"], size)).astype(np.float32)
            note = f"of it ecalib {calibration:.2f} s"
            panels.append(Panel(f"BART pics, weight {weight}", image, calibration + seconds, note))
    return panels


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    except FileNotFoundError:
        raise DataError("expected BART on the PATH, found none: apt install bart") from None
    if done.returncode != 0:
        raise DataError(f"{' '.join(command[:2])} failed with status {done.returncode}: {done.stdout}{done.stderr}")
    return time.perf_counter() - start


def _draw(panels: list[Panel]) -> bytes:
    """The panels in rows, two dots a pixel, no interpolation: nothing is smoothed or sharpened for the eye."""
    from matplotlib.figure import Figure

    dots = 100
    rows = math.ceil(len(panels) / COLUMNS)
    height, width = (2 * n / dots for n in panels[0].image.shape)
    text = 0.3
    total = (COLUMNS * width, rows * (height + text))
    figure = Figure(figsize=total, dpi=dots, facecolor="black")
    for index, panel in enumerate(panels):
        row, column = divmod(index, COLUMNS)
        bottom = 1 - ((row + 1) * (height + text)) / total[1]
        axes = figure.add_axes((column * width / total[0], bottom, width / total[0], height / total[1]))
        axes.set_axis_off()
        white = float(np.percentile(panel.image, WINDOW_PERCENTILE)) or 1.0
        axes.imshow(panel.image, cmap="gray", vmin=0.0, vmax=white, interpolation="nearest", aspect="auto")
        seconds = "" if panel.seconds is None else f"  ({panel.seconds:.2f} s)"
        middle = (column + 0.5) * width / total[0]
        above = bottom + (height + 0.07) / total[1]
        figure.text(middle, above, panel.label + seconds, color="white", fontsize=11, ha="center", va="bottom")
    return _png(figure)


def _png(figure: Any) -> bytes:
    from PIL import Image

    content = b""
    for grays, scale in _COARSER:
        raw = io.BytesIO()
        figure.savefig(raw, format="png", dpi=figure.dpi * scale, facecolor="black")
        with Image.open(raw) as drawn:
            # Even steps: no dithering, which would paint a noise that is in no image.
            steps = [round(round(n * (grays - 1) / 255) * 255 / (grays - 1)) for n in range(256)]
            coarse = drawn.convert("L").point(steps)
        packed = io.BytesIO()
        coarse.save(packed, format="png", optimize=True)
        content = packed.getvalue()
        if len(content) <= MAX_BYTES:
            return content
    return content


if __name__ == "__main__":
    try:
        app()
    except MriReconError as error:
        sys.exit(f"prospective: error: {error}")

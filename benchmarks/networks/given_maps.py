"""Methods with coil sensitivity maps that a user gives: cropped, scaled, of low resolution, cut into the object.

    python benchmarks/networks/given_maps.py -o given-maps.jsonl [--pictures FOLDER] [--only measured-16coil-4x]
    python benchmarks/networks/given_maps.py -o given-maps.jsonl --table [--only ...] [--methods unet,unrolled]

The scans are simulated, of validation persons. Every kind of maps is given to every method, and the result is compared
with the true magnitude (times the norm of the true maps) over the object inside the crop, and in the ring: the pixels
inside the crop within 3 pixels of its edge. Outside the crop an image with given maps is 0 and nothing is compared.
The same pixels are compared of the image with maps that are not cropped, so that the difference is due to the crop.
The ring index is the mean of (magnitude - truth) in the ring, divided by the mean magnitude of the object.
A row a scan, method and maps is appended as soon as it is there; what is there already is not run again.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import ndimage
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.sensitivity_maps import sens_maps_from_center
from mri_recon.masks.convert import undersample
from mri_recon.masks.types import ColumnMask
from mri_recon.reconstruction import reconstruct
from mri_recon.results.plots import save_plot
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import ValidationScan, validation_scans
from mri_recon_training.markdown import table

METHODS: dict[str, dict[str, Any]] = {
    "cg-sense": {"method": "cg-sense", "reg_weight": 0.01},
    "cs-wavelet": {"method": "cs-wavelet"},
    "unet": {"method": "unet"},
    "unrolled": {"method": "unrolled"},
    "unet-0.1": {"method": "unet", "model": "unet-0.1"},
    "unrolled-0.1": {"method": "unrolled", "model": "unrolled-0.1"},
}
WORLDS = ("measured-16coil-4x", "simulated-8coil-snr40-4x", "simulated-8coil-snr200-8x", "neck-4x")
RING = 3
_CALIBRATION = 24
_OBJECT = 0.05
_FULL, _FULL_ESPIRIT = "true", "ESPIRiT"


@dataclass(frozen=True)
class Given:
    """Maps to give, and how to compare the image.

    Attributes:
        name: of the kind of maps.
        maps: complex `(coil, h, w)`; None for maps that the method estimates.
        crop: where the maps are not zero, bool `(h, w)`.
        factor: the image times `factor` is compared, real `(h, w)` or 1.
        full: name of the maps that are like these but not cropped.
    """

    name: str
    maps: Tensor | None
    crop: Tensor
    factor: Tensor | float = 1.0
    full: str = _FULL


def object_of(scan: ValidationScan) -> Tensor:
    """Find the object, bool `(h, w)`, its dark inside included."""
    blurred = ndimage.uniform_filter(scan.reference.numpy(), 5)
    return torch.from_numpy(ndimage.binary_fill_holes(blurred > _OBJECT * np.percentile(blurred, 99)))


def grown(region: Tensor, pixels: int) -> Tensor:
    """Grow a region by so many pixels, or shrink it by a negative number."""
    change = ndimage.binary_dilation if pixels > 0 else ndimage.binary_erosion
    disc = np.hypot(*np.mgrid[-1:2, -1:2]) < 1.5
    return torch.from_numpy(change(region.numpy(), disc, iterations=abs(pixels)))


def kinds_of_maps(scan: ValidationScan, obj: Tensor) -> Iterator[Given]:
    """Yield every kind of maps of a scan."""
    assert scan.sens_maps is not None
    size = tuple(scan.kspace.shape[-2:])
    everywhere = torch.ones(size, dtype=torch.bool)
    norm = rss(scan.sens_maps)
    true = scan.sens_maps / norm.clamp_min(1e-6)
    full = ColumnMask(np.ones(size[1], dtype=bool))
    options: dict[str, Any] = {"crop": 0.8, "calibration_size": _CALIBRATION}
    found = espirit_maps(scan.kspace[None], full, **{**options, "crop": 0.0}, soft_crop=False)
    espirit, eigenvalues = found.maps[0, 0], found.eigenvalues[0, 0]
    soft = espirit_maps(scan.kspace[None], full, **options).maps[0, 0]
    hard = eigenvalues > 0.8  # bart ecalib -c 0.8
    rows, columns = (torch.linspace(-1, 1, n) for n in size)
    bias = 0.2 + 1.8 * torch.exp(-((rows[:, None] - 0.5).square() + (columns - 0.3).square()))
    center = np.abs(np.arange(size[1]) - size[1] // 2) < 8
    low = sens_maps_from_center(scan.kspace * torch.from_numpy(center), ColumnMask(center))
    yield Given("estimated", None, everywhere, full="estimated")
    yield Given(_FULL, true, everywhere)
    yield Given("true, ESPIRiT's crop", true * hard, hard)
    tight, generous, inside = obj, grown(obj, 5), grown(obj, -5)
    yield Given("true, tight crop", true * tight, tight)
    yield Given("true, generous crop", true * generous, generous)
    yield Given(
        "true, tight crop, another phase", true * tight * torch.polar(torch.tensor(1.0), torch.tensor(2.1)), tight
    )
    yield Given("true, tight crop, times 3", 3 * true * tight, tight, 3.0)
    yield Given("true, tight crop, times a bias", bias * true * tight, tight, bias)
    yield Given(_FULL_ESPIRIT, espirit, everywhere, full=_FULL_ESPIRIT)
    yield Given("ESPIRiT, hard crop", espirit * hard, hard, full=_FULL_ESPIRIT)
    weight = rss(soft)
    yield Given("ESPIRiT, soft crop", soft, weight > 0.1, weight, full=_FULL_ESPIRIT)
    yield Given("low resolution", low, everywhere, full="low resolution")
    yield Given("low resolution, tight crop", low * tight, tight, full="low resolution")
    yield Given("true, crop cuts into the object", true * inside, inside)
    holes = tight & ~_holes(tight)
    yield Given("true, tight crop, holes", true * holes, holes)


def _holes(obj: Tensor) -> Tensor:
    rows, columns = (index.tolist() for index in grown(obj, -8).nonzero(as_tuple=True))
    holes = torch.zeros_like(obj)
    y, x = torch.meshgrid(*(torch.arange(n) for n in obj.shape), indexing="ij")
    for number in range(5):
        at = (2 * number + 1) * len(rows) // 10
        holes |= (y - rows[at]).square() + (x - columns[at]).square() <= 9
    return holes


def ring_of(crop: Tensor) -> Tensor:
    """Find the pixels inside a crop within `RING` pixels of its edge; the border of the image is no edge."""
    distance = ndimage.distance_transform_edt(np.pad(crop.numpy(), RING + 1, mode="edge"))
    inner = slice(RING + 1, -RING - 1)
    return crop & (torch.from_numpy(np.asarray(distance)[inner, inner]) <= RING)


def compare(magnitude: Tensor, truth: Tensor, obj: Tensor, crop: Tensor) -> dict[str, float | None]:
    """Compute PSNR over object and ring, and the ring index."""
    error = magnitude - truth
    ring = ring_of(crop)
    peak = float(truth.max())

    def psnr(region: Tensor) -> float | None:
        return 10 * math.log10(peak**2 / float(error[region].square().mean())) if bool(region.any()) else None

    index = float(error[ring].mean() / truth[obj].mean()) if bool(ring.any()) else None
    return {"psnr_object": psnr(obj & crop), "psnr_ring": psnr(ring), "ring_index": index}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def run(
    path: Path, worlds: set[str], methods: list[str], maps: set[str], each: int, pictures: Path | None, seed: int
) -> None:
    done = {(row["scan"], row["maps"], row["method"]) for row in read(path)}
    slices = RegistrySlices.read("validation")
    count = defaultdict[str, int](int)
    for number, scan in enumerate(validation_scans(slices.raw, slices.images, seed=seed, measured=True)):
        if scan.kind not in worlds or scan.sens_maps is None:
            continue
        count[scan.kind] += 1
        if count[scan.kind] > each:
            continue
        obj, truth = object_of(scan), scan.reference / rss(scan.sens_maps).clamp_min(1e-6)
        kspace = undersample(scan.kspace, scan.mask)[None]
        kinds = list(kinds_of_maps(scan, obj))
        for name in methods:
            full = dict[str, Tensor]()
            todo = [one for one in kinds if (number, one.name, name) not in done and (not maps or one.name in maps)]
            needed = {one.full for one in todo}
            for one in kinds:
                if one not in todo and one.name not in needed:
                    continue
                image = reconstruct(kspace, scan.mask, sens_maps=one.maps, **METHODS[name]).image[0].abs()
                magnitude = image * one.factor
                if one.full == one.name:
                    full[one.name] = magnitude
                if one not in todo:
                    continue
                found: dict[str, Any] = {"scan": number, "world": scan.kind, "maps": one.name, "method": name}
                found |= compare(magnitude, truth, obj, one.crop)
                found |= {f"{key}_full": value for key, value in compare(full[one.full], truth, obj, one.crop).items()}
                with path.open("a") as out:
                    out.write(json.dumps(found) + "\n")
                if pictures is not None:
                    target = pictures / f"{scan.kind}-{number}-{one.name.replace(' ', '_')}-{name}.png"
                    _draw(target, truth, magnitude, full[one.full], one.crop)


def _draw(path: Path, truth: Tensor, magnitude: Tensor, full: Tensor, crop: Tensor) -> None:
    """Draw the image, its error and that without the crop; a green line is the edge of the crop."""
    from matplotlib.figure import Figure  # optional

    figure = Figure(figsize=(15, 5.5), layout="constrained")
    peak = float(truth.max())
    panels = (
        ("image", magnitude, 0.0),
        ("error x 10", magnitude - truth, -0.1),
        ("not cropped: error x 10", full - truth, -0.1),
    )
    for place, (title, values, low) in zip(figure.subplots(1, 3), panels, strict=True):
        high = peak if low == 0 else 0.1 * peak
        place.imshow(values, cmap="gray", vmin=low * peak, vmax=high, interpolation="nearest")
        if low != 0 and not bool(crop.all()):
            place.contour(crop, levels=[0.5], colors="lime", linewidths=0.3)
        place.set(title=title, xticks=[], yticks=[])
    save_plot(figure, path)


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Make the table: the mean change by the crop of PSNR over the object, PSNR in the ring, and ring index."""
    methods = [name for name in METHODS if any(row["method"] == name for row in rows)]
    cells = []
    for maps in dict.fromkeys(row["maps"] for row in rows if row["ring_index"] is not None):
        line = [maps]
        for name in methods:
            those = [row for row in rows if row["maps"] == maps and row["method"] == name]
            changes = []
            for key, form in (("psnr_object", "{:+.2f}"), ("psnr_ring", "{:+.2f}"), ("ring_index", "{:+.3f}")):
                if those:
                    changes.append(form.format(fmean(row[key] - row[f"{key}_full"] for row in those)))
            line.append(", ".join(changes))
        cells.append(line)
    return table(["maps", *methods], cells, text=1)


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Rows, one JSON object a line")],
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of image and error")] = None,
    only: Annotated[str, typer.Option(help="Kinds of scans, separated by commas")] = ",".join(WORLDS),
    methods: Annotated[str, typer.Option(help="Methods, separated by commas")] = ",".join(METHODS),
    maps: Annotated[list[str] | None, typer.Option(help="Kinds of maps; none: all")] = None,
    each: Annotated[int, typer.Option(help="Scans of every kind")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the scans")] = 0,
    show: Annotated[bool, typer.Option("--table", help="Print the table of the rows that are there")] = False,
) -> None:
    """Reconstruct simulated scans with given maps, or print the table."""
    if show:
        rows = [row for row in read(output) if row["world"] in only.split(",") and row["method"] in methods.split(",")]
        print("\n".join(lines([row for row in rows if not maps or row["maps"] in maps])))
    else:
        run(output, set(only.split(",")), methods.split(","), set(maps or []), each, pictures, seed)


if __name__ == "__main__":
    typer.run(main)

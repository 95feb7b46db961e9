"""Compare several methods on the same undersampled scan: rows for a table, a JSON document, images for a picture."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import center_crop
from mri_recon._display import card, show_picture, thumbnail, window_of
from mri_recon._system.jsonable import jsonable, write_json
from mri_recon._system.nearest import did_you_mean
from mri_recon._system.text import printable
from mri_recon.errors import MethodError
from mri_recon.io import Scan, load
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.reading.axes import ORDER
from mri_recon.io.scan import make_scan
from mri_recon.io.writers.result import SIMULATED
from mri_recon.masks.caption import mask_caption
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.table import check_options
from mri_recon.metrics import CONVENTION, FOREGROUND_RULE, evaluate
from mri_recon.progress import OnProgress
from mri_recon.reconstruction import Reconstruction, checked_kspace
from mri_recon.results.recipe import Recipe, run_method, undersampled

if TYPE_CHECKING:  # the records need pydantic, which a comparison does not
    from pandas import DataFrame

    from mri_recon.results.provenance import InputFile, Provenance

__all__ = [
    "METRICS",
    "Comparison",
    "check_methods",
    "compare",
    "compare_recipes",
    "convention",
    "mask_caption",
    "preparation_caption",
    "results_document",
    "scan_name",
    "warning_lines",
]


METRICS = ("nmse", "psnr", "ssim")
"""Metrics of a row, in the order of a table."""

_COLUMNS = ("file", "acceleration", "seed", "method", *METRICS, "seconds")


@dataclass(frozen=True, repr=False)
class Comparison:
    """Hold the images of several methods from one scan, and the error of each against the reference.

    Attributes:
        file: name of the scan.
        receipt: the mask, JSON-able.
        target_source: origin of the reference, or "none"; states if the k-space is simulated.
        rows: one for each method: `file`, `acceleration` (requested; null for a mask from a file), `seed`, `method`,
            `nmse`, `psnr`, `ssim` (null without a reference), `seconds`, `info`; `foreground` with the same metrics on
            the object only, if requested.
        mask: the sampling mask.
        target: reference magnitudes `(slice, h, w)` or None.
        recon_size: height and width of the image from the header.
        reconstructions: method to its result, at full size.
        provenance: method to all data needed to compute its image again; empty if the input was not named.
        simulated: whether the k-space was made from images, as every number from it then states.
        no_pictures: whether pictures of the scan are forbidden, see `mri_recon.io.pictures`.
    """

    file: str
    receipt: dict[str, Any]
    target_source: str
    rows: list[dict[str, Any]]
    mask: Mask
    target: Tensor | None
    recon_size: tuple[int, int]
    reconstructions: dict[str, Reconstruction] = field(default_factory=dict)
    provenance: dict[str, Provenance] = field(default_factory=dict)
    simulated: bool = False
    no_pictures: bool = False

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the compared images: those of the reference, else the header's reconstruction size."""
        if self.target is None:
            return self.recon_size
        return int(self.target.shape[-2]), int(self.target.shape[-1])

    def magnitude(self, method: str) -> Tensor:
        """Magnitudes of a method, `(slice, h, w)`, centre-cropped to `image_size`."""
        return center_crop(self.reconstructions[method].magnitude.cpu(), self.image_size)

    def trust_map(self, method: str) -> Tensor | None:
        """Map of trust of a method, cropped like its magnitudes; None without the hold-out check."""
        found = self.reconstructions[method].trust_map
        return None if found is None else center_crop(found.cpu(), self.image_size)

    @property
    def warnings(self) -> list[str]:
        """Problems of the scan or the results, to print beside the table, see `warning_lines`."""
        return warning_lines(self.rows)

    def document(self) -> dict[str, Any]:
        """Give the content of the JSON file: `convention`, `mask`, `results`, and `provenance` by method if known."""
        document = results_document(self.receipt, self.rows, target_source=self.target_source)
        if self.provenance:
            document["provenance"] = {name: one.model_dump(mode="json") for name, one in self.provenance.items()}
        return document

    def write_json(self, path: str | Path) -> None:
        """Write `document()` in one step, so that no reader sees half a file.

        Raises:
            FormatError: the folder does not exist.
        """
        write_json(path, self.document())

    def to_frame(self) -> DataFrame:
        """Give the rows as a pandas table: file, acceleration, seed, method, NMSE, PSNR, SSIM, seconds.

        `attrs["convention"]` of the table states what the metrics mean.

        Raises:
            MethodError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise MethodError(
                "to_frame needs pandas, which is not installed: pip install pandas, or use the list `rows`"
            ) from error
        frame = DataFrame([{name: row.get(name) for name in _COLUMNS} for row in self.rows], columns=list(_COLUMNS))
        frame.attrs["convention"] = convention(self.target_source)
        return frame

    def save_figure(self, path: str | Path, *, slice_index: int | None = None) -> None:
        """Draw the reference, every image and its error, and save them as PNG, PDF or SVG by the suffix.

        Args:
            path: where to write.
            slice_index: number of the slice to draw; None is the middle one.

        Raises:
            ShapeError: no such slice.
            MethodError: Matplotlib is not installed.
            DataError: pictures of the scan are forbidden.
            OutputError: unknown suffix, or `path` cannot be written.
        """
        from mri_recon.results.figure import comparison_figure

        comparison_figure(self, path, slice_index=slice_index)

    def show(self, slice_index: int | None = None) -> None:
        """Show the picture of `save_figure` in a notebook's cell, else in the desktop's program for pictures.

        Args:
            slice_index: number of the slice; None is the middle one.

        Raises:
            ShapeError, MethodError, DataError: as `save_figure`.
            OutputError: neither a notebook nor a program that shows pictures is there.
        """
        from mri_recon.results.figure import comparison_figure

        drawn = io.BytesIO()
        comparison_figure(self, drawn, slice_index=slice_index)
        show_picture(drawn.getvalue())

    def __repr__(self) -> str:
        scores = [str(row["method"]) + ("" if row["psnr"] is None else f" {row['psnr']:.2f} dB") for row in self.rows]
        made = " (simulated)" if self.simulated else ""
        return f"<Comparison of {printable(self.file)}{made}, {mask_caption(self.receipt)}: {', '.join(scores)}>"

    def _repr_html_(self) -> str:
        """Show the comparison in a notebook: the metrics, the middle slice of every image, the warnings."""
        facts = [("mask", mask_caption(self.receipt))]
        facts += [(str(row["method"]), _measures(row)) for row in self.rows]
        facts.append(("metrics", convention(self.target_source)))
        pictures = [] if self.no_pictures else self._pictures()
        notes = [line.removeprefix("Warning: ") for line in self.warnings]
        if self.simulated:
            notes.insert(0, SIMULATED)
        return card(f"Comparison of {self.file}", facts, pictures=pictures, notes=list(dict.fromkeys(notes)))

    def _pictures(self) -> list[tuple[str, bytes]]:
        images = {} if self.target is None else {"reference": self.target}
        images |= {name: self.magnitude(name) for name in self.reconstructions}
        shown = {name: np.asarray(one[len(one) // 2].cpu()) for name, one in images.items()}
        if not shown:
            return []
        white = window_of(shown["reference"]) if "reference" in shown else max(map(window_of, shown.values()))
        return [(name, thumbnail(one, white=white)) for name, one in shown.items()]


def compare(
    scan: Scan | npt.NDArray[Any] | Tensor | str | Path,
    mask: Mask | npt.NDArray[Any] | Tensor,
    methods: Sequence[str],
    *,
    prewhiten: Tensor | npt.NDArray[Any] | str | None = None,
    num_virtual_coils: int | None = None,
    device: str | torch.device | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    file: str | None = None,
    acceleration: float | None = None,
    seed: int | str | None = None,
    foreground: bool = False,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """Undersample a scan once, reconstruct it with every method, and measure each against the reference.

    Args:
        scan: result of `load`; or k-space in memory, complex `(slice, coil, readout, phase)`, as `reconstruct` takes
            it; or the file of a scan. The reference of fully sampled k-space is its root sum of squares.
        mask: mask to undersample its k-space with; any mask that `reconstruct` takes.
        methods: names of methods; each is run once, in this order.
        prewhiten: noise samples or "edge", for every method, as in `reconstruct`; the reference stays as it is.
        num_virtual_coils: for every method, as in `reconstruct`.
        device: where to compute; None is the CPU, for a tensor its own device.
        options: method name to its options.
        file: name for the rows; None is the name of the scan.
        acceleration: requested acceleration for the rows; None is that of the mask.
        seed: seed of the mask for the rows; None is that of the mask.
        foreground: measure a second time with the background masked, the same for all methods.
        on_progress: called with the progress of every method in turn, as in `reconstruct`.

    Raises:
        MethodError: an unknown method or option, options for a method that is not compared, or no method at all.
        MethodError, ShapeError, FormatError: an impossible preparation, as in `reconstruct`.
        ShapeError, FormatError: k-space that `reconstruct` refuses, or a file that `load` refuses.
        MaskError: the mask does not fit the scan.
    """
    names = list(dict.fromkeys(methods))
    chosen = dict(options or {})
    check_methods(names, chosen)
    device = scan.device if device is None and isinstance(scan, Tensor) else device
    scan = _as_scan(scan)
    mask = as_mask(mask, tuple(scan.samples.shape))
    recipes = [
        Recipe(
            name,
            chosen.get(name, {}),
            mask,
            prewhiten=prewhiten,
            num_virtual_coils=num_virtual_coils,
            device=device,
        )
        for name in names
    ]
    comparison = compare_recipes(scan, recipes, file=file, foreground=foreground, on_progress=on_progress)
    for name, value in (("acceleration", acceleration), ("seed", seed)):
        if value is not None:
            for row in comparison.rows:
                row[name] = value
    return comparison


def compare_recipes(
    scan: Scan,
    recipes: Sequence[Recipe],
    *,
    source: InputFile | None = None,
    file: str | None = None,
    foreground: bool = False,
    on_progress: OnProgress | None = None,
    on_change: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Run recipes of different methods on one undersampled scan, and measure each image against the reference.

    Args:
        scan: the scan.
        recipes: one for each method. They differ only in method and options: all methods use the mask and the noise
            samples of the first recipe, and so the same data.
        source: record of the scan's file; without it the comparison has no provenance.
        file: name for the rows; None is the name of the scan.
        foreground: measure a second time with the background masked.
        on_progress: called with the progress of every method in turn.
        on_change: called with the unfinished comparison before the first method, when it has no rows, and after each
            method. An exception that it raises stops the comparison.

    Raises:
        MethodError, ShapeError, FormatError, MaskError: as `compare`.
    """
    check_methods([one.method for one in recipes], {one.method: one.options for one in recipes})
    data = undersampled(scan, recipes[0])
    receipt = jsonable(data.mask.receipt())
    simulated = bool(scan.meta.get("simulated", False))
    comparison = Comparison(
        file=scan_name(scan) if file is None else file,
        receipt=receipt,
        target_source=f"{scan.target_source}, SIMULATED k-space" if simulated else scan.target_source,
        rows=[],
        mask=data.mask,
        target=scan.target,
        recon_size=scan.recon_size,
        simulated=simulated,
        no_pictures=bool(scan.meta.get(NO_PICTURES, False)),
    )
    shared = {
        "file": comparison.file,
        "acceleration": receipt.get("requested_acceleration"),
        "seed": receipt.get("seed"),
    }
    if on_change is not None:
        on_change(comparison)
    for recipe in recipes:
        run = run_method(data, recipe, source=source, on_progress=on_progress)
        comparison.reconstructions[recipe.method] = run.reconstruction
        comparison.rows.append({**shared, **_row(run.reconstruction, scan.target, foreground=foreground)})
        if run.provenance is not None:
            comparison.provenance[recipe.method] = run.provenance
        if on_change is not None:
            on_change(comparison)
    return comparison


def check_methods(methods: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse unknown methods and options before the first, perhaps long, reconstruction.

    Raises:
        MethodError: see `compare`.
    """
    if not methods:
        raise MethodError("expected at least one method to compare, got none: name some, e.g. zero-filled,cs-wavelet")
    for name in methods:
        check_options(name, options.get(name, {}))
    for name in options:
        if name not in methods:
            raise MethodError(
                f"expected options for one of the compared methods {', '.join(methods)}, got some for {name!r}"
                f"{did_you_mean(name, methods)}: add the method or leave its options out"
            )


def scan_name(scan: Scan) -> str:
    """Name a scan for tables: by its file, or "array" for a scan without a file."""
    return str(scan.meta.get("file", "array"))


def warning_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the warnings of results, one line for each kind of warning.

    A line names the methods that gave the warning, unless all did. Warnings that differ only in their numbers share a
    line with their count.

    Args:
        rows: as `Comparison.rows`, of one or several scans.
    """
    methods = dict.fromkeys(str(row["method"]) for row in rows)
    kinds: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for text in row["info"].get("warnings", []):
            kinds.setdefault(re.sub(r"\d+(\.\d+)?", "", str(text)), []).append((str(row["method"]), str(text)))
    lines = []
    for found in kinds.values():
        warned = dict.fromkeys(method for method, _ in found)
        which = "" if len(warned) == len(methods) else f" ({', '.join(warned)})"
        alike = "" if len({text for _, text in found}) == 1 else f" (and {len(found) - 1} like it, with other numbers)"
        lines.append(f"Warning{which}: {found[0][1]}{alike}")
    return lines


def preparation_caption(info: Mapping[str, Any]) -> str:
    """Describe pre-whitening and compression in one line, from the `info` of any method; "" if neither was done."""
    done = info.get("preparation", {})
    parts = []
    if "prewhiten" in done:
        given, edge = ("", " of the edge of k-space") if done["prewhiten"] == "edge" else ("given ", "")
        parts.append(f"pre-whitened by {done['noise_samples']} {given}noise samples{edge}")
    if "num_virtual_coils" in done:
        kept = f"{100 * done['energy_kept']:.1f} % of the energy"
        parts.append(f"{done['num_coils']} coils compressed to {done['num_virtual_coils']}, {kept}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def convention(target_source: str | None = None, *, foreground: bool = False) -> str:
    """State the convention of all metrics and the source of the reference, to print beside every table."""
    reference = "" if target_source is None else f" Reference: {target_source}."
    return CONVENTION + reference + (f" Second set of metrics: {FOREGROUND_RULE}" if foreground else "")


def results_document(
    mask: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, target_source: str | None = None
) -> dict[str, Any]:
    """Build the document that `compare --json` and `evaluate --json` write."""
    stated = convention(target_source, foreground=any("foreground" in row for row in rows))
    return {"convention": stated, "mask": jsonable(mask), "results": jsonable(rows)}


def _as_scan(scan: Scan | npt.NDArray[Any] | Tensor | str | Path) -> Scan:
    if isinstance(scan, Scan):
        return scan
    if isinstance(scan, str | Path):
        return load(scan)
    kspace = checked_kspace(scan).detach().cpu().numpy()
    return make_scan(kspace, name="the array", meta={"format": "array", "axes": " ".join(ORDER)})


def _row(result: Reconstruction, target: Tensor | None, *, foreground: bool) -> dict[str, Any]:
    info = dict(result.info)
    row: dict[str, Any] = {"method": result.method, **_metrics(result, target, mask_background=False)}
    row["seconds"] = info.pop("seconds")
    row["info"] = jsonable(info)
    if foreground:
        row["foreground"] = _metrics(result, target, mask_background=True)
    return row


def _measures(row: Mapping[str, Any]) -> str:
    seconds = f"{row['seconds']:.2f} s"
    if row["nmse"] is None:
        return f"no reference, {seconds}"
    # The PSNR of an image that equals the reference is infinite, and null in a row.
    psnr = "infinite" if row["psnr"] is None else f"{row['psnr']:.2f} dB"
    return f"NMSE {row['nmse']:.4f}, PSNR {psnr}, SSIM {row['ssim']:.4f}, {seconds}"


def _metrics(result: Reconstruction, target: Tensor | None, *, mask_background: bool) -> dict[str, float | None]:
    if target is None:
        return dict.fromkeys(METRICS)
    values = evaluate(result.image.cpu(), target, mask_background=mask_background).as_dict()
    return {name: jsonable(values[name]) for name in METRICS}

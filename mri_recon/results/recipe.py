"""Describe one reconstruction as data, and run it.

    recipe = Recipe("cs-wavelet", {"reg_weight": 0.01}, MaskChoice(acceleration=4), num_virtual_coils=4)
    run = run_recipe(load_scan("knee.h5", recipe), recipe)
    run.reconstruction.image, run.mask

The command line, the service, `compare` and `replay` build a recipe and call a function of this module. Every one of
them therefore takes the same steps: choose the mask, undersample, reconstruct, add the warnings of the whole scan,
record the provenance. A method that chooses among others is one more name in the table of methods: the recipe and its
provenance keep the requested name, and `info` states the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon.errors import MethodError
from mri_recon.io import Scan, check_holds, load, load_noise, save
from mri_recon.io.masks import choose_mask
from mri_recon.io.writers.dicom_like import read_tags
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.types import Mask
from mri_recon.methods.table import check_options
from mri_recon.progress import OnProgress
from mri_recon.reconstruction import Reconstruction, reconstruct, reconstruct_batch, with_scan_warnings
from mri_recon.results.scan_warnings import scan_warnings

if TYPE_CHECKING:  # the records need pydantic, which `import mri_recon.results.recipe` must not
    from mri_recon.results.provenance import InputFile, Provenance

__all__ = [
    "MaskChoice",
    "Recipe",
    "Run",
    "SavedRun",
    "UndersampledScan",
    "load_scan",
    "reconstruct_file",
    "run_batch",
    "run_method",
    "run_recipe",
    "source_record",
    "undersampled",
]


@dataclass(frozen=True)
class MaskChoice:
    """Choose the mask of a scan: one from a file, one drawn for an acceleration, or by default the scan's own.

    Attributes:
        file: mask file, "file" for the scan's own mask, or "from-zeros" to treat the zeros of k-space as not sampled.
        acceleration: number of lines of the acquired support divided by the number of lines of the drawn mask.
        center_fraction: fraction of the lines in the fully sampled centre of the drawn mask.
        num_low_frequencies: size of the fully sampled centre as a number of lines.
        seed: seed of the drawn mask.
        kind: kind of the drawn mask, "random" or "equispaced".
    """

    file: str | Path | None = None
    acceleration: float | None = None
    center_fraction: float | None = None
    num_low_frequencies: int | None = None
    seed: int = 0
    kind: str = "random"

    def choose(self, scan: Scan, array: npt.NDArray[Any] | None = None) -> Mask:
        """Find the mask of a scan, see `mri_recon.io.masks.choose_mask`.

        Args:
            scan: the scan.
            array: content of `file`, if another process has read it.

        Raises:
            MaskError, FormatError: as `choose_mask`.
        """
        return choose_mask(
            scan,
            mask_file=self.file,
            mask_array=array,
            acceleration=self.acceleration,
            center_fraction=self.center_fraction,
            num_low_frequencies=self.num_low_frequencies,
            seed=self.seed,
            kind=self.kind,
        )


@dataclass(frozen=True)
class Recipe:
    """Describe a reconstruction from the file to the image.

    Attributes:
        method: name of the method.
        options: options of the method; omitted ones keep their defaults.
        mask: how to choose the undersampling mask, or the mask itself.
        prewhiten: how to whiten the noise of the coils: "edge" for the outermost samples of k-space, the path of a file
            of noise samples, or the samples; None for no whitening. A word is a `str`, a file is a `Path`.
        num_virtual_coils: compress the coils to this many; None keeps them.
        check: check of the result, as in `reconstruct`; it does not change the image. None for no check.
        axes: names of the axes of the file's array, as in `load`.
        variable: which array of the file, as in `load`.
        slices: slices to read: one number (-1 is the last), or the first and one after the last; None for all.
        device: where to compute; None is the CPU.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mask: MaskChoice | Mask = MaskChoice()
    _: KW_ONLY
    prewhiten: Tensor | npt.NDArray[Any] | str | Path | None = None
    num_virtual_coils: int | None = None
    check: str | None = None
    axes: str | None = None
    variable: str | None = None
    slices: int | tuple[int, int] | None = None
    device: str | torch.device | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `load`."""
        slices = slice(*self.slices) if isinstance(self.slices, tuple) else self.slices
        return {"axes": self.axes, "variable": self.variable, "slices": slices}


@dataclass(frozen=True)
class Run:
    """Hold the image of a recipe, with its mask and provenance.

    Attributes:
        reconstruction: the image and the report of the method.
        mask: the mask that was used.
        provenance: all data needed to compute the image again; None if the input was not named, or the noise samples
            were an array without a file.
    """

    reconstruction: Reconstruction
    mask: Mask
    provenance: Provenance | None


@dataclass(frozen=True)
class SavedRun(Run):
    """Hold a run whose image was saved.

    Attributes:
        scan: the scan that was read.
        left_out: one sentence about data that the format of the output cannot hold; "" if it holds everything.
    """

    scan: Scan
    left_out: str


@dataclass(frozen=True)
class UndersampledScan:
    """Hold the common input of all methods of a comparison.

    Attributes:
        kspace: complex64 `(slice, coil, readout, phase)`, zero where the mask is False.
        mask: the undersampling mask.
        prewhiten: "edge" or noise samples `(coil, sample)`, as in `reconstruct`; None for no pre-whitening.
        warnings: problems of the whole scan.
        simulated: whether the scan says that its k-space is simulated.
    """

    kspace: Tensor
    mask: Mask
    prewhiten: Tensor | npt.NDArray[Any] | str | None
    warnings: tuple[str, ...]
    simulated: bool = False


def load_scan(path: str | Path, recipe: Recipe) -> Scan:
    """Read the scan of a recipe from its file.

    Raises:
        FormatError: as `load`.
    """
    return load(path, **recipe.reading)


def source_record(path: str | Path, recipe: Recipe, scan: Scan) -> InputFile:
    """Record the file that `load_scan` read: its SHA-256, and how it was read.

    Raises:
        FormatError: the file cannot be read.
    """
    from mri_recon.results.provenance import input_file

    numbers = scan.meta.get("slices")
    slices = None if numbers is None else (numbers[0], numbers[-1] + 1)
    return input_file(path, axes=recipe.axes, variable=recipe.variable, slices=slices)


def undersampled(scan: Scan, recipe: Recipe) -> UndersampledScan:
    """Choose the mask of a recipe and keep its samples; read the noise samples if they are in a file.

    Raises:
        MaskError: as `choose_mask`, or a mask that does not fit the scan.
        FormatError: a mask or noise file that cannot be read.
    """
    choice = recipe.mask
    mask = choice.choose(scan) if isinstance(choice, MaskChoice) else as_mask(choice, tuple(scan.kspace.shape))
    noise = load_noise(recipe.prewhiten) if isinstance(recipe.prewhiten, Path) else recipe.prewhiten
    return UndersampledScan(
        undersample(scan.kspace, mask), mask, noise, tuple(scan_warnings(scan)), bool(scan.meta.get("simulated"))
    )


def run_method(
    data: UndersampledScan, recipe: Recipe, *, source: InputFile | None = None, on_progress: OnProgress | None = None
) -> Run:
    """Run the method of a recipe on a scan that is already undersampled; the recipe's mask is ignored.

    Args and Raises: as `run_recipe`.
    """
    result = reconstruct(
        data.kspace,
        data.mask,
        method=recipe.method,
        prewhiten=data.prewhiten,
        num_virtual_coils=recipe.num_virtual_coils,
        check=recipe.check,
        device=recipe.device,
        on_progress=on_progress,
        **recipe.options,
    )
    return _finished(result, data, recipe, source)


def run_recipe(
    scan: Scan, recipe: Recipe, *, source: InputFile | None = None, on_progress: OnProgress | None = None
) -> Run:
    """Undersample a scan and reconstruct it as a recipe says.

    Args:
        scan: result of `load_scan`, or any other scan.
        recipe: what to do.
        source: record of the scan's file, see `source_record`; without it the run has no provenance.
        on_progress: told of the work, as in `reconstruct`.

    Raises:
        MethodError, ShapeError, FormatError, MaskError: as `reconstruct` and `choose_mask`.
    """
    check_options(recipe.method, recipe.options)
    return run_method(undersampled(scan, recipe), recipe, source=source, on_progress=on_progress)


def run_batch(
    scans: Sequence[Scan], recipes: Sequence[Recipe], *, sources: Sequence[InputFile | None] | None = None
) -> list[Run]:
    """Run recipes of one method together, see `reconstruct_batch`; each image equals that of `run_recipe` to 1e-5.

    Args:
        scans: scans whose k-space has one shape.
        recipes: one for each scan. Only their masks may differ; none may whiten the noise, compress the coils or have a
            check.
        sources: records of the files, one for each scan; without them the runs have no provenance.

    Raises:
        MethodError: the recipes differ in more than their masks, or as `reconstruct_batch`.
        ShapeError, FormatError, MaskError: as `reconstruct_batch` and `choose_mask`.
    """
    if not recipes:
        return []
    first = recipes[0]
    shared = {"method": first.method, "options": dict(first.options), "device": first.device}
    for one in recipes:
        if {"method": one.method, "options": dict(one.options), "device": one.device} != shared:
            raise MethodError(
                f"expected recipes of one method, its options and device, {shared}, got {one.method} with "
                f"{dict(one.options)} on {one.device}: put those that agree in a batch"
            )
        if one.prewhiten is not None or one.num_virtual_coils is not None or one.check is not None:
            raise MethodError(
                "expected recipes without pre-whitening, compression and check, got one with it: run it by itself"
            )
    data = [undersampled(scan, recipe) for scan, recipe in zip(scans, recipes, strict=True)]
    results = reconstruct_batch(
        [(one.kspace, one.mask) for one in data], method=first.method, device=first.device, **first.options
    )
    records = [None] * len(data) if sources is None else sources
    return [
        _finished(result, one, recipe, source, batched=True)
        for result, one, recipe, source in zip(results, data, recipes, records, strict=True)
    ]


def reconstruct_file(
    path: str | Path,
    recipe: Recipe,
    output: str | Path,
    *,
    like: str | Path | None = None,
    on_scan: Callable[[Scan], None] | None = None,
    on_progress: OnProgress | None = None,
) -> SavedRun:
    """Read a file, reconstruct it as a recipe says, and save the image with its provenance.

    Args:
        path: file of k-space.
        recipe: what to do.
        output: file to write, see `save`.
        like: DICOM image of the same examination, see `save`.
        on_scan: called with the scan when it was read, before anything is computed.
        on_progress: told of the work, as in `reconstruct`.

    Raises:
        MethodError, ShapeError, FormatError, MaskError: as `load`, `run_recipe`.
        OutputError: the output cannot be written, or cannot hold the image; raised before the reconstruction if
            possible.
    """
    check_options(recipe.method, recipe.options)
    scan = load_scan(path, recipe)
    if on_scan is not None:
        on_scan(scan)
    data = undersampled(scan, recipe)
    check_holds(output, (scan.num_slices, *scan.kspace.shape[-2:]), scan.meta)
    if like is not None:
        read_tags(like)
    run = run_method(data, recipe, source=source_record(path, recipe, scan), on_progress=on_progress)
    left_out = save(output, run.reconstruction, scan, run.mask, provenance=run.provenance, like=like)
    return SavedRun(run.reconstruction, run.mask, run.provenance, scan, left_out)


def _finished(
    result: Reconstruction, data: UndersampledScan, recipe: Recipe, source: InputFile | None, *, batched: bool = False
) -> Run:
    """Add the warnings of the whole scan, and the provenance if the input is named."""
    result = with_scan_warnings(result, data.warnings)
    noise = recipe.prewhiten
    if source is None or isinstance(noise, Tensor | np.ndarray):
        return Run(result, data.mask, None)
    from mri_recon.results.provenance import describe, input_file

    provenance = describe(
        result,
        source,
        data.mask,
        options=recipe.options,
        prewhiten=input_file(noise) if isinstance(noise, Path) else noise,
        num_virtual_coils=recipe.num_virtual_coils,
        device=recipe.device,
        batched=batched,
        simulated=data.simulated,
    )
    return Run(result, data.mask, provenance)

"""Reconstruct images from undersampled k-space with any method: check, prepare, run, undo."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import as_complex_tensor, as_tensor
from mri_recon._display import card, montage, show_picture, thumbnail, window_of
from mri_recon._system.text import plural
from mri_recon.coils.checks import check_maps_fit, checked_maps
from mri_recon.coils.map_fit import map_warnings
from mri_recon.coils.prepare import Prepared, prepare
from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import FormatError, MaskError, MethodError, ShapeError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_warnings, replace_echo_warnings
from mri_recon.masks.empty_slices import empty_slices, fill_empty, kept_slices, note_empty, of_kept
from mri_recon.masks.types import ColumnMask, Mask
from mri_recon.masks.unsampled import mask_data_warnings
from mri_recon.methods.calling import fixed_arguments
from mri_recon.methods.checks import check_name
from mri_recon.methods.holdout import HoldOutData, hold_out
from mri_recon.methods.holdout_check import check_folds, check_maps, holdout_report
from mri_recon.methods.table import (
    alone_options,
    batch_methods,
    check_options,
    get_batch,
    get_method,
    method_options,
)
from mri_recon.methods.trust import TRUST_MAP, assess
from mri_recon.methods.trust_map import METHODS
from mri_recon.progress import OnProgress, Progress

__all__ = [
    "Reconstruction",
    "UsedModel",
    "checked_kspace",
    "reconstruct",
    "reconstruct_batch",
    "resolve_device",
    "with_scan_warnings",
]


_SHOWN = ("iterations", "stop", "reg_weight", "relative_gap", "model", "chosen", "noise_sigma")
"""Entries of `info` that a notebook shows."""


@dataclass(frozen=True)
class UsedModel:
    """Name the weights of a network.

    Attributes:
        name: name on the model card.
        sha256: SHA-256 of the file of the weights.
        candidate: the candidate of `auto` that has them, e.g. "unrolled"; None for any other method.
    """

    name: str
    sha256: str
    candidate: str | None = None


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """Hold the image that a method made of a scan.

    Attributes:
        image: `(slice, h, w)`, complex64 (float32 if a method yields only magnitudes), on the input's device.
        method: name of the method.
        info: report of the method (iterations, objective, model, ...) and of `reconstruct`: `seconds`, the wall time
            with pre-whitening and compression; `preparation`, the report of these steps, if requested (see
            `mri_recon.coils.prepare`); `sampled_without_data`, the number of sampled columns (of a column mask) or
            positions that are zero in every coil and slice, because the lines are dead or the mask belongs to another
            scan; `empty_slices`, the slices without data, whose images are zero; `warnings`, the list of problems,
            empty if there are none; `holdout`, the report of the hold-out check, if requested
            (see `mri_recon.methods.holdout_check`), and `trust`, what its runs say about the error
            (see `mri_recon.methods.trust`).
        trust_map: map of trust, float32 `(slice, h, w)`, in the units and on the device of the image: on scans like
            those it was fitted on, the error of the magnitude is smaller in 90 % of the object's pixels (see
            `mri_recon.methods.trust_map`). None without the hold-out check,
            and for methods outside `trust_map.METHODS` other than `auto`.
    """

    image: Tensor
    method: str
    info: dict[str, Any] = field(default_factory=dict)
    trust_map: Tensor | None = None

    @property
    def magnitude(self) -> Tensor:
        """Magnitude of the image, float32 `(slice, h, w)`."""
        return self.image.abs().to(torch.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the scan or this result, each with advice: `info["warnings"]`."""
        return tuple(map(str, self.info.get("warnings", ())))

    @property
    def model(self) -> UsedModel | None:
        """The weights of the network; None for a method without a network, and for one that tries several."""
        sha256 = self.info.get("model_sha256")
        return None if sha256 is None else UsedModel(str(self.info["model"]), str(sha256))

    @property
    def models(self) -> tuple[UsedModel, ...]:
        """The weights of all networks: that of `model`, or those that `auto` tried."""
        if self.model is not None:
            return (self.model,)
        return tuple(
            UsedModel(str(one["name"]), str(one["sha256"]), str(one["candidate"]))
            for one in self.info.get("models", ())
        )

    def show(self, slice_index: int | None = None) -> None:
        """Show the magnitude: in the output of a notebook's cell, else in the desktop's program for pictures.

        Args:
            slice_index: number of the slice; None shows all, or 16 of them at equal distances.

        Raises:
            ShapeError: no such slice.
            OutputError: neither a notebook nor a program that shows pictures is there; `mri_recon.save` writes files.
        """
        count = len(self.image)
        if slice_index is not None and not 0 <= slice_index < count:
            raise ShapeError(
                f"expected a slice between 0 and {count - 1}, got {slice_index}: choose one of the {count} slices"
            )
        title = f"{self.method}, {self._shape}"
        show_picture(montage(self._numbers, title=title, notes=self.warnings, slice_index=slice_index))

    def __repr__(self) -> str:
        doubts = f", {plural(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<Reconstruction by {self.method}: {self._shape}{self._seconds}{doubts}>"

    def _repr_html_(self) -> str:
        """Show the result in a notebook: three slices, the main figures of `info`, the warnings."""
        count = len(self.image)
        magnitude = self._numbers
        chosen = sorted({count // 4, count // 2, 3 * count // 4})
        white = window_of(magnitude[chosen])
        facts = [("image", f"{self._shape}, {str(self.image.dtype).removeprefix('torch.')}{self._seconds}")]
        facts += [
            (name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in self.info.items()
            if name in _SHOWN and value is not None
        ]
        pictures = [(f"slice index {one}", thumbnail(magnitude[one], white=white)) for one in chosen]
        return card(f"Reconstruction by {self.method}", facts, pictures=pictures, notes=self.warnings)

    @property
    def _numbers(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.magnitude.detach().cpu())

    @property
    def _shape(self) -> str:
        return f"{plural(len(self.image), 'slice')}, " + " x ".join(map(str, self.image.shape[1:]))

    @property
    def _seconds(self) -> str:
        seconds = self.info.get("seconds")
        return "" if seconds is None else f", {seconds:.2f} s"


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return a device that this machine has; the CPU for None.

    Raises:
        MethodError: not the name of a device, or not available on this machine.
    """
    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(1, device=chosen).cpu()  # "meta" tensors hold no numbers
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise MethodError(
            f"expected a device of this machine such as 'cpu' or 'cuda', got {str(device)!r} ({reason}): choose another"
        ) from error
    return chosen


def reconstruct(
    kspace: Tensor | npt.NDArray[Any],
    mask: Mask | npt.NDArray[Any] | Tensor,
    *,
    method: str,
    sens_maps: Tensor | npt.NDArray[Any] | None = None,
    prewhiten: Tensor | npt.NDArray[Any] | str | None = None,
    num_virtual_coils: int | None = None,
    check: str | None = None,
    device: str | torch.device | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Reconstruction:
    """Reconstruct undersampled k-space with a method of the table.

    The units of the input do not matter: `reconstruct(1e6 * kspace)` is `1e6 * reconstruct(kspace)`. The noise is
    whitened first, then the coils are compressed, then the method estimates the maps it needs. Slices without data come
    back as zeros, with a sentence in `info["warnings"]`.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where `mask` is False.
        mask: undersampling mask: a mask of `mri_recon.masks`, or bool `(phase,)`, `(readout, phase)`.
        method: one of `method_names()`.
        sens_maps: complex `(coil, readout, phase)` or `(slice, coil, readout, phase)`, sum over coils of |S|^2 = 1 on
            the support; None lets the method estimate them. Maps that do not fit the fully sampled centre of `kspace`
            cause a warning, see `mri_recon.coils.map_fit`.
        prewhiten: make the noise equal and independent between the coils, by noise samples, complex `(coil, sample)` in
            the units of `kspace`, or by "edge", the outermost samples of `kspace`; None leaves the noise as it is.
        num_virtual_coils: compress the coils to this many; None keeps them.
        check: "holdout" runs the method three more times without a fifth of the lines outside the fully sampled
            centre, predicts these lines, and compares the prediction with what was measured, see
            `mri_recon.methods.holdout_check`; None for no check. The image is the same.
        device: where to compute; None is the device of `kspace`.
        on_progress: called before the method starts, and by most methods between iterations. An exception from it stops
            the reconstruction and reaches the caller unchanged, see `mri_recon.progress`.
        options: options of the method, see `method_options(method)`.

    Returns:
        `Reconstruction`, its image on the device of `kspace` (the CPU for an array).

    Raises:
        MethodError: unknown method, option, check, word for `prewhiten` or device, a value that an option does not
            allow, an impossible number of virtual coils, or a method that does not return a finite image.
        ShapeError: `kspace`, `sens_maps` or noise samples with the wrong rank, size or dtype.
        FormatError: `kspace` is all zero, or not finite; noise that cannot be whitened; `sens_maps` that are not
            finite, or far from normalised in a slice.
        MaskError: `mask` does not fit, or `kspace` is not zero outside it; with `check`, fewer than six lines (of a
            pattern: samples) outside the fully sampled centre.
    """
    function = get_method(method)
    check_options(method, options)
    check_name(check)
    problem = _checked_problem(kspace, mask)
    target = problem.kspace.device if device is None else resolve_device(device)
    maps = None if sens_maps is None else _checked_maps(sens_maps, problem).to(target)
    noise = as_tensor(prewhiten) if isinstance(prewhiten, np.ndarray | Tensor) else prewhiten
    start = _started(method, on_progress)
    y = problem.kspace.to(target)
    data = prepare(y, problem.mask, maps, prewhiten=noise, num_virtual_coils=num_virtual_coils)
    split = None if check is None else _HoldOut.of(data, problem.mask, function, options)
    told = _noise_option(method, options, data.noise_sigma)
    given = of_kept(options, problem.kept, len(problem.whole)) | told | fixed_arguments(function, target, on_progress)
    if maps is not None:
        problem = replace(problem, warnings=[*problem.warnings, *map_warnings(y, problem.mask, maps)])

    def run(y: Tensor, mask: Mask, **arguments: Any) -> tuple[Tensor, dict[str, Any]]:
        return _checked_result(function(y, mask, **arguments), method, problem)

    image, info = run(data.kspace, problem.mask, sens_maps=data.sens_maps, **given)
    if split is not None:
        info = split.checked(image, problem.mask, info, run, method, given)
    trust = info.pop(TRUST_MAP, None)
    image, info = _completed(data.finish(image), info, problem)
    info |= {"seconds": time.perf_counter() - start, **({"sigma_source": "pre-whitening"} if told else {})}
    info = {**info, "preparation": data.info} if data.info else info
    return Reconstruction(image, method, info, None if trust is None else _whole(data.finish(trust), problem))


def with_scan_warnings(result: Reconstruction, warnings: Sequence[str]) -> Reconstruction:
    """Replace the warnings about the sampled lines by the warnings about the whole scan.

    Args:
        result: result of `reconstruct` for `undersample(kspace, mask)`.
        warnings: `echo.echo_warnings` of all of `kspace`.

    Returns:
        the same result with these warnings in `info["warnings"]`.
    """
    before = result.info.get("warnings", [])
    after = replace_echo_warnings(before, warnings)
    return result if after == before else replace(result, info={**result.info, "warnings": after})


def reconstruct_batch(
    problems: Sequence[tuple[Tensor | npt.NDArray[Any], Mask | npt.NDArray[Any] | Tensor]],
    *,
    method: str,
    device: str | torch.device | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> list[Reconstruction]:
    """Reconstruct several scans of one shape, their slices together in one run of a network.

    Each result equals that of `reconstruct` to within 1e-5 of its largest magnitude, because sums in another order
    differ in the last bits. Small slices, and all slices on a GPU, go through the network together; large slices on a
    CPU gain nothing by that and go one after the other. Every problem has its own scale, coil maps and warnings.

    Args:
        problems: k-space and mask as in `reconstruct`. All k-space has one shape, the masks may differ.
        method: a method for which `mri_recon.methods.table.can_batch` is True.
        device: where to compute; None is the device of the first k-space.
        on_progress: called as in `reconstruct`, with the slices of all problems.
        options: options of the method, the same for all problems; not those for one problem alone, such as `sigma`.

    Returns:
        one `Reconstruction` for each problem, in order; its info has `batch_size`, and `seconds` of all problems
        together.

    Raises:
        MethodError: unknown method, option or device, or a method or an option that takes one problem at a time.
        ShapeError, FormatError, MaskError: as `reconstruct` for any of the problems; ShapeError also if the shapes
            differ.
    """
    function = get_batch(method)
    if function is None:
        raise MethodError(
            f"expected a method that takes several problems at once, one of {', '.join(batch_methods())}, got "
            f"{method!r}: call reconstruct for each problem"
        )
    check_options(method, options)
    if alone := alone_options(function, options):
        raise MethodError(
            f"method {method!r}: expected options that several problems at once can have, got {alone[0]!r}: call "
            "reconstruct for each problem"
        )
    checked = [_checked_problem(kspace, mask) for kspace, mask in problems]
    if not checked:
        return []
    shapes = {tuple(problem.whole.shape) for problem in checked}
    if len(shapes) > 1:
        raise ShapeError(
            f"expected problems of one shape, got k-space of {', '.join(map(str, sorted(shapes)))}: "
            "put those of one shape in a batch"
        )
    target = checked[0].kspace.device if device is None else resolve_device(device)
    start = _started(method, on_progress)
    moved = [(problem.kspace.to(target), problem.mask) for problem in checked]
    found = function(moved, **fixed_arguments(function, target, on_progress), **options)
    results = [
        _completed(*_checked_result(one, method, problem), problem)
        for one, problem in zip(_checked_list(found, method, len(checked)), checked, strict=True)
    ]
    shared = {"seconds": time.perf_counter() - start, "batch_size": len(checked)}
    return [Reconstruction(image, method, info | shared) for image, info in results]


@dataclass(frozen=True)
class _Problem:
    """Hold k-space that passed the checks, without its empty slices.

    Attributes:
        kspace: complex64 `(kept slice, coil, readout, phase)`.
        mask: the undersampling mask.
        whole: the k-space with the empty slices.
        kept: numbers of the slices that hold data.
        empty: numbers of the empty slices.
        without_data: number of sampled columns or positions that are zero everywhere.
        warnings: problems of the k-space or the mask.
    """

    kspace: Tensor
    mask: Mask
    whole: Tensor
    kept: list[int]
    empty: list[int]
    without_data: int
    warnings: list[str]


@dataclass(frozen=True)
class _HoldOut:
    """Hold what the hold-out check of a method needs.

    Attributes:
        data: the folds.
        maps: the maps in whose phase the method's images are.
        sens_maps: the maps that the method receives.
    """

    data: HoldOutData
    maps: ScanMaps
    sens_maps: Tensor | None

    @classmethod
    def of(
        cls, prepared: Prepared, mask: Mask, function: Callable[..., Any], options: Mapping[str, Any]
    ) -> _HoldOut | None:
        """Split the scan. A scan that cannot be split is refused before any work; None if the method checks itself."""
        folds = check_folds(prepared.kspace, mask)
        if getattr(function, "holds_out", False):
            return None
        maps = check_maps(prepared.kspace, mask, prepared.sens_maps, options)
        return cls(hold_out(prepared.kspace, mask, maps.everywhere, folds=folds), maps, prepared.sens_maps)

    def checked(
        self,
        image: Tensor,
        mask: Mask,
        info: dict[str, Any],
        run: Callable[..., tuple[Tensor, dict[str, Any]]],
        method: str,
        given: dict[str, Any],
    ) -> dict[str, Any]:
        """Run the check, and add its report and its warnings, which come first, to `info`.

        Args:
            image: the method's image of all samples.
            mask: the sampling mask.
            info: report of the method.
            run: the method; takes k-space, mask and keyword arguments.
            method: its name.
            given: the keyword arguments.
        """
        on_progress, finished = given.get("on_progress"), 0

        def told(_: Progress | None = None) -> None:
            if on_progress is not None:
                on_progress(Progress(method, "check", finished, len(self.data.folds)))

        def on_run(count: int) -> None:
            nonlocal finished
            finished = count
            told()

        options = given | ({} if on_progress is None else {"on_progress": told})
        told()
        found = holdout_report(
            self.data,
            self.maps,
            lambda y, mask: run(y, mask, sens_maps=self.sens_maps, **options),
            method=method,
            on_run=on_run,
        )
        info = {**info, "holdout": found.report}
        if method in METHODS:
            info[TRUST_MAP], info["trust"] = assess(image, found.images, None, self.data, mask, "one")
        return _with_first_warnings(info, found.warnings)


def _with_first_warnings(info: dict[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    return {**info, "warnings": [*warnings, *info.get("warnings", [])]} if warnings else info


def _checked_problem(kspace: Tensor | npt.NDArray[Any], mask: Mask | npt.NDArray[Any] | Tensor) -> _Problem:
    y = checked_kspace(kspace)
    sampling = as_mask(mask, tuple(y.shape))
    _check_zero_outside(y, sampling)
    empty = empty_slices(y)
    kept = kept_slices(len(y), empty)
    data = y[kept] if empty else y
    warnings = [*echo_warnings(data, sampling), *mask_data_warnings(data, sampling)]
    return _Problem(data, sampling, y, kept, empty, _sampled_without_data(data, sampling), warnings)


def _started(method: str, on_progress: OnProgress | None) -> float:
    """Report the start of the work, and return the time."""
    start = time.perf_counter()
    if on_progress is not None:
        on_progress(Progress(method, "prepare", 0, None))
    return start


def _noise_option(method: str, options: Mapping[str, Any], sigma: float | None) -> dict[str, Any]:
    """Pass the noise known from pre-whitening to a method, unless the caller gave it or it has no such option."""
    if sigma is None or "sigma" in options or "sigma" not in method_options(method):
        return {}
    return {"sigma": sigma}


def _completed(image: Tensor, info: dict[str, Any], problem: _Problem) -> tuple[Tensor, dict[str, Any]]:
    """Insert the empty slices, move the image to the input's device, and add the findings of the checks to `info`."""
    if problem.empty:
        info = note_empty(info, problem.empty, problem.kept, len(problem.whole))
    warnings = [*info.get("warnings", []), *problem.warnings]
    return _whole(image, problem), {**info, "sampled_without_data": problem.without_data, "warnings": warnings}


def _whole(image: Tensor, problem: _Problem) -> Tensor:
    """Insert the empty slices, and move the image to the input's device; a GPU has finished when it is there."""
    if problem.empty:
        image = fill_empty(image, problem.kept, len(problem.whole))
    return image.to(problem.kspace.device)


def checked_kspace(kspace: Tensor | npt.NDArray[Any]) -> Tensor:
    """Check k-space that a caller hands over, and return it as complex64 `(slice, coil, readout, phase)`.

    Raises:
        ShapeError: neither an array nor a tensor, the wrong rank or dtype, or an axis without samples.
        FormatError: not finite, or all zero.
    """
    y = as_complex_tensor(kspace) if isinstance(kspace, np.ndarray | Tensor) else kspace
    if not isinstance(y, Tensor):
        raise ShapeError(f"expected k-space as a tensor or a NumPy array, got {type(kspace).__name__}: convert it")
    shape = tuple(y.shape)
    if y.ndim != 4:
        cure = {
            2: "a single image of one coil is kspace[None, None]",
            3: "one slice of many coils is kspace[None], many slices of one coil are kspace[:, None]",
        }.get(y.ndim, "give it these four axes")
        raise ShapeError(f"expected k-space (slice, coil, readout, phase), got {y.ndim} axes {shape}: {cure}")
    if 0 in shape:
        raise ShapeError(f"expected k-space with at least one sample on every axis, got {shape}: check how it was cut")
    if not y.is_complex():
        raise ShapeError(
            f"expected complex k-space, got {y.dtype}: where real and imaginary part are a last axis of 2, "
            "join them with torch.view_as_complex"
        )
    y = y.to(torch.complex64)
    if not bool(torch.isfinite(torch.view_as_real(y)).all()):
        raise FormatError(
            "expected finite k-space, got infinite or not-a-number samples in complex64: "
            "replace or mask out the damaged samples, or rescale values beyond 1e38"
        )
    if not bool((y != 0).any()):
        raise FormatError("expected k-space with a signal, got only zeros: check the file, the variable and the mask")
    return y


def _check_zero_outside(y: Tensor, mask: Mask) -> None:
    outside = (y != 0) & ~mask.tensor(y.device)
    count = int(outside.any(dim=0).any(dim=0).sum())
    if count:
        raise MaskError(
            f"expected k-space that is zero outside the mask, got samples at {count} of {y.shape[-2] * y.shape[-1]} "
            "positions that the mask excludes: undersample first, undersample(kspace, mask)"
        )


def _sampled_without_data(y: Tensor, mask: Mask) -> int:
    """Count columns (of a column mask) or positions that are sampled but zero in every coil and slice."""
    filled = torch.stack([(one != 0).any(dim=0) for one in y]).any(dim=0)
    sampled = mask.tensor(y.device)
    if isinstance(mask, ColumnMask):
        filled = filled.any(dim=0)
    return int((sampled & ~filled).sum())


def _checked_maps(sens_maps: Tensor | npt.NDArray[Any], problem: _Problem) -> Tensor:
    """Select the maps of the slices that hold data."""
    maps = as_complex_tensor(sens_maps) if isinstance(sens_maps, np.ndarray | Tensor) else sens_maps
    if not isinstance(maps, Tensor):
        raise ShapeError(f"expected sens_maps as a tensor or a NumPy array, got {type(maps).__name__}: convert them")
    check_maps_fit(maps, problem.whole)
    maps = maps.to(torch.complex64).expand(problem.whole.shape)
    return checked_maps(maps[problem.kept] if problem.empty else maps, problem.kspace)


def _checked_list(found: Any, method: str, count: int) -> list[Any]:
    if not isinstance(found, list | tuple) or len(found) != count:
        got = f"{len(found)}" if isinstance(found, list | tuple) else type(found).__name__
        raise MethodError(
            f"method {method!r}: expected a batch to return a list of {count} (image, info), got {got}: repair the "
            "method"
        )
    return list(found)


def _checked_result(result: Any, method: str, problem: _Problem) -> tuple[Tensor, dict[str, Any]]:
    count = len(problem.kept)
    image = result[0] if isinstance(result, tuple) and len(result) == 2 else None
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != count:
        got = f"{type(image).__name__} {tuple(image.shape)}" if isinstance(image, Tensor) else type(result).__name__
        raise MethodError(
            f"method {method!r}: expected it to return (image ({count}, h, w), info), got {got}: repair the method"
        )
    _check_finite(image, method)
    info = dict(result[1])
    if not isinstance(info.get("warnings", []), list | tuple):
        raise MethodError(
            f"method {method!r}: expected info['warnings'] to be a list of sentences, got "
            f"{type(info['warnings']).__name__}: repair the method, which may leave it out"
        )
    return image, info


def _check_finite(image: Tensor, method: str) -> None:
    """Refuse an image that is not finite, or whose magnitude exceeds float32."""
    for number, one in enumerate(image):
        if not bool(torch.isfinite(one.abs()).all()):
            raise MethodError(
                f"method {method!r}: expected a finite image, got one with infinite or not-a-number pixels in slice "
                f"{number}: correct its options, or rescale k-space with values near the limits of single precision"
            )

"""Reconstruct images from undersampled k-space with any method: check, prepare, run, undo."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import as_complex_tensor, as_tensor
from mri_recon.coils.checks import check_maps_fit
from mri_recon.coils.prepare import prepare
from mri_recon.errors import FormatError, MaskError, MethodError, ShapeError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_warnings, replace_echo_warnings
from mri_recon.masks.empty_slices import empty_slices, fill_empty, kept_slices, note_empty, of_kept
from mri_recon.masks.types import ColumnMask, Mask
from mri_recon.masks.unsampled import mask_data_warnings
from mri_recon.methods.table import BATCHES, can_batch, check_options, get_method, method_options
from mri_recon.progress import OnProgress, Progress

__all__ = [
    "Reconstruction",
    "reconstruct",
    "reconstruct_batch",
    "resolve_device",
    "with_scan_warnings",
]


@dataclass(frozen=True)
class Reconstruction:
    """What a method made of a scan.

    Attributes:
        image: `(slice, h, w)`, complex64 (float32 where a method yields magnitudes only), on the input's device.
        method: name of the method.
        info: what the method tells of itself (iterations, objective, model, ...); `seconds`, the wall time with
            pre-whitening and compression; `preparation`, what these did, where asked for (see `preparation.prepare`);
            `sampled_without_data`, columns (of a column mask) or positions that the mask has and that are zero in every
            coil and slice: dead ones, or a mask of another scan; `empty_slices`, where there are some, whose image is
            zero; `warnings`, a list of what looks wrong, where there is something (a network's list is always there).
    """

    image: Tensor
    method: str
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def magnitude(self) -> Tensor:
        """|image|, float32 `(slice, h, w)`."""
        return self.image.abs().to(torch.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks wrong with the scan or this result, and what to do about it: `info["warnings"]`."""
        return tuple(map(str, self.info.get("warnings", ())))


def resolve_device(device: str | torch.device | None) -> torch.device:
    """A device that this machine has; the processor for None.

    Raises:
        MethodError: not the name of a device, or not available here.
    """
    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(1, device=chosen).cpu()  # "meta" holds no numbers to bring back
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
    device: str | torch.device | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Reconstruction:
    """Reconstruct undersampled k-space with a method of the table.

    No method depends on the units of its input: `reconstruct(1e6 * kspace)` is `1e6 * reconstruct(kspace)`. The order
    is: whiten the noise, compress the coils, then let the method estimate the maps it needs. Slices without any sample
    are left out and come back as zeros, with a sentence in `info["warnings"]`.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where `mask` is False.
        mask: what was sampled: a mask of `mri_recon.masks`, or bool `(phase,)`, `(readout, phase)`.
        method: one of `method_names()`.
        sens_maps: complex `(coil, readout, phase)` or `(slice, coil, readout, phase)`, sum over coils of |S|^2 = 1 on
            the support; None: the method estimates what it needs.
        prewhiten: make the noise equal and independent between the coils: noise samples, complex `(coil, sample)` in
            the units of `kspace`, or "edge" to take the outermost samples of `kspace` for noise; None: as it is.
        num_virtual_coils: compress the coils to this many; None: keep them.
        device: where to compute; None: where `kspace` is.
        on_progress: called before the method starts, and by a method that tells of its work between its iterations;
            what it raises ends the work and reaches the caller unchanged, see `mri_recon.progress`.
        options: the method's own, see `method_options(method)`.

    Returns:
        `Reconstruction`, its image on the device of `kspace` (the processor for an array).

    Raises:
        MethodError: unknown method, option, word for `prewhiten` or device, a value that an option may not have, a
            number of virtual coils that cannot be, or a method that does not return an image, or not a finite one.
        ShapeError: `kspace`, `sens_maps` or noise samples with the wrong rank, size or dtype.
        FormatError: `kspace` is all zero, or not finite; noise that cannot be whitened.
        MaskError: `mask` does not fit, or `kspace` is not zero outside it.
    """
    function = get_method(method)
    check_options(method, options)
    y, sampling = _checked_problem(kspace, mask)
    home, num_slices, empty = y.device, int(y.shape[0]), empty_slices(y)
    kept = kept_slices(num_slices, empty)
    target_device = home if device is None else resolve_device(device)
    maps = None if sens_maps is None else _checked_maps(sens_maps, y)
    noise = as_tensor(prewhiten) if isinstance(prewhiten, np.ndarray | Tensor) else prewhiten
    if empty:
        y, options, maps = y[kept], of_kept(options, kept, num_slices), None if maps is None else maps[kept]
    maps = None if maps is None else maps.to(target_device)
    without_data = _sampled_without_data(y, sampling)
    looks_wrong = [*echo_warnings(y, sampling), *mask_data_warnings(y, sampling)]
    start = time.perf_counter()
    if on_progress is not None:
        on_progress(Progress(method, "prepare", 0, None))
    data = prepare(y.to(target_device), sampling, maps, prewhiten=noise, num_virtual_coils=num_virtual_coils)
    given: dict[str, Any] = {"sens_maps": data.sens_maps, **options}
    if _wants_device(function):
        given["device"] = target_device
    if on_progress is not None and "on_progress" in inspect.signature(function).parameters:
        given["on_progress"] = on_progress
    told = data.noise_sigma is not None and "sigma" not in options and "sigma" in method_options(method)
    if told:
        given["sigma"] = data.noise_sigma
    result = function(data.kspace, sampling, **given)
    image, info = _checked_result(result, method, num_slices=len(kept))
    image = data.finish(image)
    if empty:
        image, info = fill_empty(image, kept, num_slices), note_empty(info, empty, kept, num_slices)
    image = image.to(home)  # inside the measured time: a GPU has not finished before its result is here
    info |= {"sampled_without_data": without_data, "seconds": time.perf_counter() - start}
    if looks_wrong:
        info["warnings"] = [*info.get("warnings", []), *looks_wrong]
    if told:
        info["sigma_source"] = "pre-whitening"
    if data.info:
        info["preparation"] = data.info
    return Reconstruction(image=image, method=method, info=info)


def with_scan_warnings(result: Reconstruction, warnings: Sequence[str]) -> Reconstruction:
    """Put what looks wrong with the whole scan in place of what looked wrong with the lines that a mask kept of it.

    Args:
        result: what `reconstruct` returned for `undersample(kspace, mask)`.
        warnings: `echo.echo_warnings` of all of `kspace`.

    Returns:
        the same result with these in `info["warnings"]`.
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

    Each result is that of `reconstruct` for its problem alone to within 1e-5 of its largest magnitude: what is added in
    another order differs in the last bits. On a GPU, and where they are small, the slices go
    through the network together; large ones on a processor gain nothing by that and go one after the other. Scale, coil
    maps and warnings are each problem's own.

    Args:
        problems: k-space and mask as in `reconstruct`; the k-space of equal shapes, the masks as they are.
        method: one that `can_batch`.
        device: where to compute; None: where the first k-space is.
        on_progress: told of the slices of all problems, as in `reconstruct`.
        options: the method's own, the same for all.

    Returns:
        one `Reconstruction` a problem, in order; its info has `batch_size`, and `seconds` of all together.

    Raises:
        MethodError: unknown method, option or device, or a method that takes one problem at a time.
        ShapeError, FormatError, MaskError: as `reconstruct` for any of the problems; ShapeError also where the shapes
            differ.
    """
    if not can_batch(method):
        raise MethodError(
            f"expected a method that takes several problems at once, one of {', '.join(BATCHES)}, got {method!r}: "
            "call reconstruct for each problem"
        )
    check_options(method, options)
    checked = [_checked_problem(kspace, mask) for kspace, mask in problems]
    if not checked:
        return []
    shapes = {tuple(y.shape) for y, _ in checked}
    if len(shapes) > 1:
        raise ShapeError(
            f"expected problems of one shape, got k-space of {', '.join(map(str, sorted(shapes)))}: "
            "put those of one shape in a batch"
        )
    target_device = checked[0][0].device if device is None else resolve_device(device)
    without_data = [_sampled_without_data(y, sampling) for y, sampling in checked]
    looks_wrong = [[*echo_warnings(y, sampling), *mask_data_warnings(y, sampling)] for y, sampling in checked]
    start = time.perf_counter()
    told = {} if on_progress is None else {"on_progress": on_progress}
    if on_progress is not None:
        on_progress(Progress(method, "prepare", 0, None))
    empty = [empty_slices(y) for y, _ in checked]
    kept = [kept_slices(int(y.shape[0]), without) for (y, _), without in zip(checked, empty, strict=True)]
    moved = [
        ((y[those] if without else y).to(target_device), sampling)
        for (y, sampling), those, without in zip(checked, kept, empty, strict=True)
    ]
    found = BATCHES[method]()(moved, device=target_device, **told, **options)
    for image, _ in found:
        _check_finite(image, method)
    found = [
        _with_empty(one, without, those, int(y.shape[0]))
        for one, without, those, (y, _) in zip(found, empty, kept, checked, strict=True)
    ]
    images = [image.to(y.device) for (image, _), (y, _) in zip(found, checked, strict=True)]
    shared = {"seconds": time.perf_counter() - start, "batch_size": len(checked)}
    return [
        Reconstruction(
            image=image,
            method=method,
            info={
                **info,
                **({"warnings": [*info.get("warnings", []), *wrong]} if wrong else {}),
                "sampled_without_data": dead,
                **shared,
            },
        )
        for image, (_, info), dead, wrong in zip(images, found, without_data, looks_wrong, strict=True)
    ]


def _with_empty(
    found: tuple[Tensor, dict[str, Any]], empty: list[int], kept: list[int], num_slices: int
) -> tuple[Tensor, dict[str, Any]]:
    if not empty:
        return found
    image, info = found
    return fill_empty(image, kept, num_slices), note_empty(info, empty, kept, num_slices)


def _wants_device(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters
    return "device" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _checked_problem(kspace: Tensor | npt.NDArray[Any], mask: Mask | npt.NDArray[Any] | Tensor) -> tuple[Tensor, Mask]:
    y = _checked_kspace(kspace)
    sampling = as_mask(mask, tuple(y.shape))
    _check_zero_outside(y, sampling)
    return y, sampling


def _checked_kspace(kspace: Tensor | npt.NDArray[Any]) -> Tensor:
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
    """Columns of a column mask, positions of a pattern, that are sampled and zero in every coil and slice."""
    filled = torch.stack([(one != 0).any(dim=0) for one in y]).any(dim=0)
    sampled = mask.tensor(y.device)
    if isinstance(mask, ColumnMask):
        filled = filled.any(dim=0)
    return int((sampled & ~filled).sum())


def _checked_maps(sens_maps: Tensor | npt.NDArray[Any], y: Tensor) -> Tensor:
    maps = as_complex_tensor(sens_maps) if isinstance(sens_maps, np.ndarray | Tensor) else sens_maps
    if not isinstance(maps, Tensor):
        raise ShapeError(f"expected sens_maps as a tensor or a NumPy array, got {type(maps).__name__}: convert them")
    check_maps_fit(maps, y)
    return maps.to(torch.complex64).expand(y.shape)


def _checked_result(result: Any, method: str, *, num_slices: int) -> tuple[Tensor, dict[str, Any]]:
    image = result[0] if isinstance(result, tuple) and len(result) == 2 else None
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != num_slices:
        got = f"{type(image).__name__} {tuple(image.shape)}" if isinstance(image, Tensor) else type(result).__name__
        raise MethodError(
            f"method {method!r}: expected it to return (image ({num_slices}, h, w), info), got {got}: repair the method"
        )
    _check_finite(image, method)
    return image, dict(result[1])


def _check_finite(image: Tensor, method: str) -> None:
    """Never give a picture with holes, or one whose magnitude no float32 holds, for a result."""
    for number, one in enumerate(image):
        if not bool(torch.isfinite(one.abs()).all()):
            raise MethodError(
                f"method {method!r}: expected a finite image, got one with infinite or not-a-number pixels in slice "
                f"{number}: correct its options, or rescale k-space with values near the limits of single precision"
            )

"""Reconstruction without learning: zero-filled, CG-SENSE and wavelet compressed sensing.

Each method takes k-space `(slice, coil, readout, phase)` that is zero outside `mask`, and returns the image
`(slice, h, w)` with what is known about it. The solvers work on slices scaled to a largest zero-filled magnitude near 1
and undo the scale, so `1e6 * kspace` gives `1e6 * image`; double precision in gives double precision out.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from mri_recon.coils import adaptive_combine, combine, rss, sens_maps_from_center
from mri_recon.errors import FormatError, MethodError, ShapeError
from mri_recon.espirit import espirit_maps
from mri_recon.fourier import ifft2c
from mri_recon.masks import Mask, as_mask
from mri_recon.operators import SenseOperator
from mri_recon.solvers import conjugate_gradient, fista
from mri_recon.wavelets import WaveletTransform, default_levels, padded_size

__all__ = ["auto_reg_weight", "cg_sense", "cs_wavelet", "zero_filled"]

# Best mean PSNR on the validation persons at R = 4 and R = 8: `benchmarks/classical_quality.py tune`.
_AUTO_ONE_COIL = (3e-5, 1e-5)
_AUTO_MANY_COILS = (2.5e-4, 4e-3)

_MAPS = ("espirit", "center")
_COMBINATIONS = ("rss", "adaptive")


def auto_reg_weight(num_coils: int, acceleration: float) -> float:
    """The relative weight that `reg_weight="auto"` stands for.

    Chosen on validation persons at accelerations 4 and 8, for one coil and for several; between them the weight is
    interpolated, log lambda linear in log R, and outside them the nearer one is kept.

    One coil without shift-invariance leaves sparsity little to recover: its best weight is so small that `max_iters`
    ends the iteration before the minimiser, and stopping early is part of the regularisation. `stop` and `relative_gap`
    say so in every result.

    Args:
        num_coils: number of coils.
        acceleration: realised acceleration of the mask.
    """
    at_four, at_eight = _AUTO_ONE_COIL if num_coils == 1 else _AUTO_MANY_COILS
    share = min(1.0, max(0.0, math.log2(acceleration) - 2))
    return float(at_four ** (1 - share) * at_eight**share)


def zero_filled(
    kspace: Tensor, mask: Mask | Tensor, sens_maps: Tensor | None = None, *, combination: str = "rss"
) -> tuple[Tensor, dict[str, Any]]:
    """Inverse FFT of the samples, with zeros for the rest.

    One coil: `F^-1 y`. Several coils with maps: `sum_c conj(S_c) F^-1 y_c`. Several coils without maps: the
    root sum of squares `sqrt(sum_c |F^-1 y_c|^2)`, which is real, or the adaptive combination, which is complex and
    lets in less noise where there is little signal (`coils.adaptive_combine`).

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` as above.
        combination: of several coils without maps, "rss" or "adaptive".

    Returns:
        image `(slice, readout, phase)`, complex or (root sum of squares) real; info with `combination` ("sens_maps",
        "none" for one coil, "rss" or "adaptive") and `seconds`.

    Raises:
        ShapeError: k-space or maps of the wrong shape or type.
        MaskError: a mask that does not fit the k-space.
        FormatError: k-space that is not finite, or a slice without a signal.
        MethodError: an unknown combination.
    """
    start = time.perf_counter()
    _check_name("combination", combination, _COMBINATIONS)
    _checked(kspace)
    as_mask(mask, kspace.shape)
    coil_images = ifft2c(kspace)
    if sens_maps is not None:
        image, combination = combine(coil_images, _checked_maps(sens_maps, kspace)), "sens_maps"
    elif kspace.shape[1] == 1:
        image, combination = coil_images[:, 0], "none"
    elif combination == "adaptive":
        image = adaptive_combine(coil_images)
    else:
        image, combination = rss(coil_images), "rss"
    return image, {"combination": combination, "seconds": time.perf_counter() - start}


def cg_sense(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None = None,
    *,
    maps: str = "espirit",
    reg_weight: float = 1e-2,
    tol: float = 1e-4,
    max_iters: int = 50,
) -> tuple[Tensor, dict[str, Any]]:
    """SENSE with a small quadratic penalty, solved by conjugate gradients.

        minimise 1/2 ||A x - y||^2 + mu/2 ||x||^2,   (A^H A + mu) x = A^H y,   A = P F S

    With one coil `A^H A` is a projection, and the solution is the zero-filled image divided by `1 + mu`.

    With estimated maps the image is `sqrt(sum |S|^2) x`, the combination of the coil images `S x`. That is `x` on the
    support; in its rim, where ESPIRiT's maps fade, it is what the coils saw and not what would have to be there; and
    0 outside. With given maps the image is `x`, which is 0 where they all are.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` estimates them from the dense centre.
        maps: how they are estimated then: "espirit" (its first set) or "center" (`coils.sens_maps_from_center`).
        reg_weight: `mu >= 0`, in units of `||A||^2`, which is 1 for maps with sum |S|^2 = 1: no unit of the data in it.
        tol: relative residual of the normal equations to stop at.
        max_iters: most iterations.

    Returns:
        complex image `(slice, readout, phase)`; info with `iterations`, `relative_residual`, `reg_weight`, `stop`
        ("tol" or "max_iters"), `maps` ("given", "espirit", "center" or "one coil"), `seconds`. Over several slices the
        worst of them counts.

    Raises:
        ShapeError, MaskError, FormatError: as `zero_filled`; MaskError also without a dense centre to take maps from,
            of two columns at least for "espirit"; FormatError also where the centre of a slice gives no maps.
        MethodError: an option out of range, or an unknown way to estimate maps.

    Source: Pruessmann et al., Magn Reson Med 2001.
    """
    start = time.perf_counter()
    if not 0 <= reg_weight < math.inf:
        raise MethodError(f"expected reg_weight >= 0, got {reg_weight}: 0.01 is a common start")
    operator, source = _operator(kspace, mask, sens_maps, maps)
    mu = reg_weight * operator.norm_bound
    rhs, scale = _scaled(operator.adjoint(kspace))
    solution = conjugate_gradient(lambda x: operator.normal(x) + mu * x, rhs, tol=tol, max_iters=max_iters)
    info = {
        "iterations": int(solution.iterations.max()),
        "relative_residual": float(solution.relative_residual.max()),
        "reg_weight": reg_weight,
        "stop": "tol" if bool(solution.converged.all()) else "max_iters",
        "maps": source,
    }
    image = _seen(solution.x, operator, source) * scale
    info["seconds"] = time.perf_counter() - start
    return image, info


def cs_wavelet(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None = None,
    *,
    maps: str = "espirit",
    wavelet: str = "db4",
    levels: int | None = None,
    reg_weight: float | str = "auto",
    gap_tol: float = 1e-2,
    max_iters: int = 200,
    final_step: bool = True,
) -> tuple[Tensor, dict[str, Any]]:
    """Compressed sensing with an l1 penalty on orthonormal wavelet coefficients, solved by restarted FISTA.

        minimise over u  1/2 ||A u - y||^2 + lambda ||W u||_1,   A = P F S C,   image = C u

    `W` is the periodised transform, and all its bands are penalised, the approximation too. Sides that `2^levels` does
    not divide are padded: the unknown `u` is the padded image and the crop `C` belongs to `A`, so that objective,
    proximal map and duality gap speak of one problem.

    By default the image is the minimiser after one more gradient step of the data term, `u + A^H (y - A u) / ||A||^2`,
    as in BART, whose FISTA ends on it. It takes back what shrinkage took from the samples that are known. With one coil
    it is data consistency: the measured samples stand in the k-space of the image. `objective` and `relative_gap`
    are those of the minimiser. Where no coil sees anything, the image is 0 in place of what the wavelets spread there;
    with estimated maps it is weighted as in `cg_sense`.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` estimates them from the dense centre.
        maps: how they are estimated then: "espirit" (its first set) or "center" (`coils.sens_maps_from_center`).
        wavelet: an orthogonal wavelet of PyWavelets.
        levels: of the transform; `None` takes `wavelets.default_levels`.
        reg_weight: `lambda` of each slice in units of `max |W A^H y|` of that slice, in (0, 1), for at 1 the solution
            is 0; "auto" is `auto_reg_weight`, chosen on validation persons.
        gap_tol: relative duality gap to stop at.
        max_iters: most iterations.
        final_step: end on the gradient step; without it the image is the minimiser itself.

    Returns:
        complex image `(slice, readout, phase)`; info with `iterations`, `objective` (in the squared units of the
        k-space), `relative_gap`, `reg_weight`, `reg_weight_unit`, `stop` ("gap" or "max_iters"), `wavelet`, `levels`,
        `padded_size`, `final_step`, `maps` (as `cg_sense`), `seconds` and the lists `per_slice`. Over several slices:
        the worst gap, the most iterations and the sum of objectives.

    Raises:
        ShapeError, MaskError, FormatError: as `cg_sense`.
        MethodError: an unknown wavelet or way to estimate maps, or an option out of range.

    Source: Lustig, Donoho and Pauly, Magn Reson Med 2007.
    """
    start = time.perf_counter()
    _checked(kspace)
    weight = _checked_weight(reg_weight, kspace.shape[1], as_mask(mask, kspace.shape).realised_acceleration)
    size = (kspace.shape[-2], kspace.shape[-1])
    levels = default_levels(*size) if levels is None else _checked_levels(levels, size)
    padded = padded_size(*size, levels)
    transform = WaveletTransform(wavelet, levels, padded, kspace.device)
    operator, source = _operator(kspace, mask, sens_maps, maps, image_size=padded)
    start_image, scale = _scaled(operator.adjoint(kspace))
    lam = weight * transform.forward(start_image).abs().flatten(1).amax(dim=1)
    solution = fista(
        lambda c: operator.forward(transform.inverse(c)),
        lambda r: transform.forward(operator.adjoint(r)),
        kspace / scale[:, None],
        lam,
        step=1.0 / operator.norm_bound,
        gap_tol=gap_tol,
        max_iters=max_iters,
    )
    objective = solution.objective * scale.flatten().to(torch.float64) ** 2
    info = {
        "iterations": int(solution.iterations.max()),
        "objective": float(objective.sum()),
        "relative_gap": float(solution.relative_gap.max()),
        "reg_weight": weight,
        "reg_weight_unit": "max |W A^H y| of the slice",
        "stop": "gap" if bool(solution.converged.all()) else "max_iters",
        "wavelet": wavelet,
        "levels": levels,
        "padded_size": list(padded),
        "final_step": final_step,
        "maps": source,
        "per_slice": {
            "iterations": solution.iterations.tolist(),
            "objective": objective.tolist(),
            "relative_gap": solution.relative_gap.tolist(),
        },
    }
    unknown = transform.inverse(solution.x)
    if final_step:
        residual = kspace / scale[:, None] - operator.forward(unknown)
        unknown = unknown + operator.adjoint(residual) / operator.norm_bound
    image = _seen(operator.crop(unknown), operator, source) * scale
    info["seconds"] = time.perf_counter() - start
    return image, info


def _checked(kspace: Tensor) -> None:
    """Refuse what would become an image without meaning."""
    if kspace.ndim != 4 or not kspace.is_complex() or 0 in kspace.shape:
        raise ShapeError(
            f"expected complex k-space (slice, coil, readout, phase), got {kspace.dtype} {tuple(kspace.shape)}: "
            "a single image of one coil is kspace[None, None]"
        )
    if not bool(torch.isfinite(torch.view_as_real(kspace)).all()):
        raise FormatError("expected finite k-space, got infinite or not-a-number samples: repair or mask them out")
    empty = (kspace == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if empty:
        raise FormatError(f"expected a signal in every slice, got only zeros in slices {empty}: leave them out")


def _checked_maps(sens_maps: Tensor, kspace: Tensor) -> Tensor:
    if tuple(sens_maps.shape) not in (tuple(kspace.shape), tuple(kspace.shape[1:])) or not sens_maps.is_complex():
        raise ShapeError(
            f"expected complex sens_maps {tuple(kspace.shape[1:])} or {tuple(kspace.shape)}, got {sens_maps.dtype} of "
            f"shape {tuple(sens_maps.shape)}: give one map a coil"
        )
    if not bool(torch.isfinite(torch.view_as_real(sens_maps)).all()) or not bool((sens_maps != 0).any()):
        raise FormatError("expected finite sens_maps that are not all zero: estimate them again")
    return sens_maps.to(device=kspace.device, dtype=kspace.dtype).expand(kspace.shape)


def _checked_levels(levels: int, size: tuple[int, int]) -> int:
    most = max(1, math.ceil(math.log2(max(size))))
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= most:
        raise MethodError(f"expected wavelet levels between 1 and {most} for an image of {size}, got {levels!r}")
    return levels


def _checked_weight(reg_weight: float | str, num_coils: int, acceleration: float) -> float:
    if reg_weight == "auto":
        return auto_reg_weight(num_coils, acceleration)
    if isinstance(reg_weight, bool) or not isinstance(reg_weight, int | float) or not 0 < reg_weight < 1:
        raise MethodError(
            f'expected reg_weight "auto" or a number in (0, 1), got {reg_weight!r}: it is relative to max |W A^H y|, '
            "where the solution becomes 0; without a weight use cg-sense"
        )
    return float(reg_weight)


def _check_name(option: str, name: str, valid: tuple[str, ...]) -> None:
    if name not in valid:
        raise MethodError(f"expected {option} to be one of {', '.join(valid)}, got {name!r}: choose one of them")


def _operator(
    kspace: Tensor, mask: Mask | Tensor, sens_maps: Tensor | None, maps: str, image_size: tuple[int, int] | None = None
) -> tuple[SenseOperator, str]:
    """A, and where its maps come from."""
    _check_name("maps", maps, _MAPS)
    _checked(kspace)
    checked_mask = as_mask(mask, kspace.shape)
    if sens_maps is not None:
        found, source = _checked_maps(sens_maps, kspace), "given"
    elif kspace.shape[1] == 1:
        found, source = torch.ones_like(kspace), "one coil"
    elif maps == "espirit":
        found, source = _espirit(kspace, checked_mask), maps
    else:
        found, source = sens_maps_from_center(kspace, checked_mask), maps
    return SenseOperator(checked_mask.tensor(kspace.device), found, image_size), source


def _espirit(kspace: Tensor, mask: Mask) -> Tensor:
    found = espirit_maps(kspace, mask).maps[:, 0]
    nowhere = (found == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if nowhere:
        raise FormatError(
            f"expected coils that agree on an object, got none in the centre of slices {nowhere}: "
            'leave them out, or give maps="center" or sens_maps'
        )
    return found


def _seen(image: Tensor, operator: SenseOperator, source: str) -> Tensor:
    """The image as the coils see it: weighted by estimated maps, 0 where given ones are 0."""
    if source == "one coil":
        return image
    weight = rss(operator.sens_maps)
    return image * ((weight > 0) if source == "given" else weight)


def _scaled(image: Tensor) -> tuple[Tensor, Tensor]:
    """The image of each slice brought to a largest magnitude in [0.5, 1), and the factor that undoes it.

    The factor is a power of two: dividing by it rounds nothing, so the solver sees the same digits at every such scale.
    """
    largest = image.abs().flatten(1).amax(dim=1)[:, None, None]
    if not bool((largest > 0).all()):
        raise FormatError(
            "expected k-space samples on the mask, got a slice without any: the mask belongs to another scan"
        )
    scale = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent)
    return image / scale, scale

"""A network as a reconstruction method: combine the coils, scale, run, undo the scale.

The same three functions make a network's training examples and its input at inference, so that the two cannot differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mri_recon._arrays import quotient
from mri_recon.checkpoint import LoadedModel, load_named
from mri_recon.coils.combine import rss
from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.map_extension import extend_maps
from mri_recon.coils.noise import estimate_sigma, sigma_from_below
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.data_consistency import exact_data_consistency, weighted_data_consistency
from mri_recon.errors import FormatError, MethodError
from mri_recon.masks.types import Mask
from mri_recon.models import Cascade, Measurement, Unrolled, concatenate, measure, run_continued
from mri_recon.option_values import Between, OneOf
from mri_recon.progress import OnProgress, Progress

__all__ = [
    "SCALE_PERCENTILE",
    "apply_network",
    "apply_network_to_batch",
    "image_scale",
    "method_of",
    "network_measurement",
    "run_network",
    "unet",
    "unet_batch",
    "unit_maps",
    "unrolled",
    "unrolled_batch",
    "wrap_margin",
]

SCALE_PERCENTILE = 99.0
"""A network sees an image divided by this percentile of its magnitude."""

_WRAP_COLUMNS = 32
_EDGE_COLUMNS = 4
_EDGE_SHARE = 0.4
_FAINT = 0.1
_SLICES_AT_ONCE = 8
"""Most slices that a network takes at once: memory grows with them."""

_PIXELS_AT_ONCE = 1 << 16
"""The same in pixels, on a processor: more are no faster than one slice after the other, and leave its caches."""
_DATA_CONSISTENCY = ("weighted", "learned", "exact")
_Consistency = Annotated[str, OneOf(*_DATA_CONSISTENCY)]
_Sigma = Annotated[float, Between(0, 1e38, open_below=True, cure="it is sqrt(E|n|^2) of one k-space sample")] | None


def network_measurement(
    kspace: Tensor, mask: Mask, sens_maps: Tensor | None = None, *, sigma: float | None = None
) -> tuple[Measurement, Tensor]:
    """The measurement y = P F S p x, the smooth phase p of the image put into the maps, and p.

    An image's smooth phase is an accident of coil and echo; without it nearly all of the signal is in the real channel,
    and a network need not learn every phase there is. |p| = 1, so the image is p times the network's answer.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; absent: one coil S = 1, several by ESPIRiT without a crop, so that
            sum |S|^2 = 1 at every pixel.
        sigma: noise sqrt(E|n|^2) of one sample; absent: `noise.sigma_from_below`.

    Returns:
        the measurement with maps S p and its noise level, and p, complex `(slice, h, w)`.

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    maps = espirit_maps(kspace, mask, crop=0.0, soft_crop=False).maps[:, 0] if sens_maps is None else sens_maps
    phase = smooth_phase_map(kspace, mask, maps)
    if sigma is None:
        level = sigma_from_below(kspace, mask)
    else:
        level = torch.full((kspace.shape[0], 1, 1), sigma, dtype=kspace.real.dtype, device=kspace.device)
    return measure(kspace, mask.tensor(kspace.device), maps * phase.unsqueeze(1), level), phase


def run_network(network: nn.Module, measurement: Measurement, margin: int = 0) -> Tensor:
    """The image that a network makes of a scaled measurement, `(batch, h, w)`; differentiable.

    A cascade and an unrolled network have their own data consistency. A U-Net gets the zero-filled image z = A^H y,
    and what it answers is made consistent with the samples by one step: u = z + N(z), x = u - A^H (A u - y). For one
    coil this puts every sampled line back exactly as it was measured.

    Args:
        network: `Cascade`, `Unrolled`, or `(batch, 2, h, w)` to `(batch, 2, h, w)`.
        measurement: scaled as `image_scale` says.
        margin: columns of periodic continuation, see `wrap_margin`.
    """
    if isinstance(network, Cascade | Unrolled):
        image: Tensor = network(measurement, margin)
        return image
    zero_filled = measurement.adjoint()
    out = run_continued(network, torch.view_as_real(zero_filled).movedim(-1, 1), margin)
    answer = torch.complex(out[:, 0], out[:, 1])
    return answer - (measurement.normal(answer) - zero_filled)


def image_scale(image: Tensor) -> Tensor:
    """The scale of each slice: the 99th percentile of its magnitude, `(slice, 1, 1)`; 1 for an empty slice.

    Proportional to the image, so that a network behind it does not depend on the units of k-space. The percentile is
    the nearest rank: the k-th smallest of n magnitudes, k = ceil(0.99 n).
    """
    magnitude = image.abs().flatten(start_dim=-2)
    count = magnitude.shape[-1]
    rank = max(1, min(count, -int(-count * SCALE_PERCENTILE // 100)))
    scale = magnitude.kthvalue(rank, dim=-1).values
    # A slice of almost only zeros still has a largest value; an empty one stays empty whatever it is divided by.
    scale = torch.where(scale > 0, scale, magnitude.amax(dim=-1))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale[..., None, None]


def wrap_margin(image: Tensor) -> int:
    """Columns by which one slice is continued at both ends of the phase axis: 32 where the object crosses it, else 0.

    The image of a discrete Fourier transform is periodic: what leaves the field of view on one side comes back on the
    other. A convolution that ends at the edge breaks such an object apart. It counts as crossing where the four columns
    at either edge hold more than 0.4 of the mean magnitude. Both numbers were chosen on the raw validation scans, as
    they are, shifted and folded along the phase axis (`benchmarks/field_of_view.py`): with empty edges the
    continuation is of no use and costs a little.

    Args:
        image: complex `(1, h, w)`.
    """
    magnitude = image.abs()
    edges = torch.cat([magnitude[..., :_EDGE_COLUMNS], magnitude[..., -_EDGE_COLUMNS:]], dim=-1)
    crossing = bool(edges.mean() > _EDGE_SHARE * magnitude.mean())
    return widest_margin(int(image.shape[-1])) if crossing else 0


def apply_network(
    network: nn.Module, measurement: Measurement, *, on_slice: Callable[[int], None] | None = None
) -> Tensor:
    """Run a network on a measurement, a slice at a time: scale, run, undo the scale.

    An object that crosses the edge of the field of view is continued periodically first, see `wrap_margin`.

    Args:
        network: see `run_network`.
        measurement: of all slices.
        on_slice: called with the number of slices done, after every one; what it raises ends the work.

    Returns:
        complex `(slice, h, w)`.
    """
    images = []
    # One slice at a time: memory does not grow with the scan, and a slice's result does not depend on its neighbours.
    for count, one in enumerate(measurement.split(), start=1):
        zero_filled = one.adjoint()
        scale = image_scale(zero_filled)
        images.append(run_network(network, one.scaled(scale), wrap_margin(zero_filled)) * scale)
        if on_slice is not None:
            on_slice(count)
    return torch.cat(images)


def apply_network_to_batch(
    network: nn.Module, measurements: Sequence[Measurement], *, on_slice: Callable[[int], None] | None = None
) -> list[Tensor]:
    """`apply_network` on several measurements of one size, their slices together.

    Those that are continued by the same margin (`wrap_margin`) and whose masks are of one kind go through the network
    at once; on a processor, whose caches a large slice fills alone, only where they are small. A slice still has its
    own scale, and its result is the one that it has alone but for the last bits: sums are done in another order.

    Args:
        network: see `run_network`.
        measurements: equal number of coils, height and width; masks and slices as they are.
        on_slice: as in `apply_network`, after every run of the network.

    Returns:
        one tensor a measurement, complex `(slice, h, w)`.
    """
    slices = [one for measurement in measurements for one in measurement.split()]
    scales, groups = [], dict[tuple[int, tuple[int, ...]], list[int]]()
    for index, one in enumerate(slices):
        zero_filled = one.adjoint()
        scales.append(image_scale(zero_filled))
        slices[index] = one.scaled(scales[-1])
        groups.setdefault((wrap_margin(zero_filled), one.dims), []).append(index)
    images: dict[int, Tensor] = {}
    for (margin, _), indices in groups.items():
        size = _slices_at_once(slices[indices[0]].maps)
        for first in range(0, len(indices), size):
            chunk = indices[first : first + size]
            found = run_network(network, concatenate([slices[index] for index in chunk]), margin)
            images |= zip(chunk, torch.split(found, 1), strict=True)
            if on_slice is not None:
                on_slice(len(images))
    in_order = torch.cat([images[index] * scale for index, scale in enumerate(scales)])
    return list(torch.split(in_order, [len(measurement.samples) for measurement in measurements]))


def _slices_at_once(maps: Tensor) -> int:
    if maps.device.type != "cpu":
        return _SLICES_AT_ONCE
    return slices_at_once(maps.shape[-2], maps.shape[-1])


def slices_at_once(height: int, width: int) -> int:
    """Count the slices of a batch that a network takes at once on a processor, at most."""
    return max(1, min(_SLICES_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


def widest_margin(width: int) -> int:
    """Count the columns by which `wrap_margin` continues an image at most."""
    return min(_WRAP_COLUMNS, width)


def unet(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    device: torch.device,
    model: str = "unet",
    data_consistency: _Consistency = "weighted",
    sigma: _Sigma = None,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with a U-Net: u = s (z/s + N(z/s)), x = p (u - A^H (A u - y)).

    z = A^H y is the zero-filled image without its smooth phase p (`network_measurement`), s its scale (`image_scale`),
    N the network without its residual connection.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; estimated by ESPIRiT when absent. Given ones are divided by their
            root sum of squares n and the image by n again, 0 where n is below a tenth of its largest value; for the
            network they are continued smoothly there (`map_extension.extend_maps`).
        device: where to run.
        model: name of shipped weights, or the path of a `.safetensors` file beside its model card.
        data_consistency: what follows the network. "weighted": several coils are brought closer to their samples the
            less noise there is (`weighted_data_consistency`), one coil is left as it is; "learned": nothing, as the
            network was trained; "exact": the nearest image whose samples are the measured ones
            (`exact_data_consistency`). A cascade follows the noise by itself: "weighted" is "learned" there.
        sigma: noise sqrt(E|n|^2) of one sample of the k-space; absent: estimated. Pre-whitening gives its own.
        on_progress: told of every slice, see `mri_recon.progress`.

    Returns:
        complex64 image `(slice, h, w)`; info: `model`, `model_sha256`, `parameters`, `scale`, `data_consistency`,
        `warnings` (what of this input the network has not seen in training), `seconds`.

    Raises:
        MethodError: the model is of another architecture, or an unknown data consistency.
        CheckpointError: unknown model, or damaged weights.
        MaskError: the mask has no fully sampled centre: the phase needs one, and so do maps.
        FormatError: no maps can be found in a slice, for example an empty one of several coils.
    """
    return _run_method("unet", kspace, mask, sens_maps, device, model, data_consistency, sigma, on_progress)


def unet_batch(
    problems: Sequence[tuple[Tensor, Mask]],
    *,
    device: torch.device,
    model: str = "unet",
    data_consistency: _Consistency = "weighted",
    on_progress: OnProgress | None = None,
) -> list[tuple[Tensor, dict[str, Any]]]:
    """`unet` of several problems of one size in one run of the network, see `apply_network_to_batch`.

    Args:
        problems: k-space, complex64 `(slice, coil, readout, phase)` of equal shapes, and its mask.
        device, model, data_consistency: as in `unet`.
        on_progress: told of the slices of all problems.

    Returns:
        what `unet` returns, of each problem; `seconds` are those of all together.

    Raises:
        MethodError, CheckpointError, MaskError, FormatError: as `unet`, whichever problem it is.
    """
    return _run_batch("unet", problems, device, model, data_consistency, on_progress)


def unrolled(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    device: torch.device,
    model: str = "unrolled",
    data_consistency: _Consistency = "weighted",
    sigma: _Sigma = None,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with an unrolled network, x = p s U(y / s): steps of data consistency around learned refinements.

    U is `models.Unrolled`; it sees the samples divided by the scale s of the zero-filled image, and maps that hold the
    image's smooth phase p. Arguments, result and errors are those of `unet`.
    """
    return _run_method("unrolled", kspace, mask, sens_maps, device, model, data_consistency, sigma, on_progress)


def unrolled_batch(
    problems: Sequence[tuple[Tensor, Mask]],
    *,
    device: torch.device,
    model: str = "unrolled",
    data_consistency: _Consistency = "weighted",
    on_progress: OnProgress | None = None,
) -> list[tuple[Tensor, dict[str, Any]]]:
    """`unrolled` of several problems of one size in one run; arguments, result and errors are those of `unet_batch`."""
    return _run_batch("unrolled", problems, device, model, data_consistency, on_progress)


def _run_method(
    architecture: str,
    kspace: Tensor,
    mask: Mask,
    sens_maps: Tensor | None,
    device: torch.device,
    model: str,
    data_consistency: str,
    sigma: float | None,
    on_progress: OnProgress | None,
) -> tuple[Tensor, dict[str, Any]]:
    loaded = _loaded(architecture, model, data_consistency, device)
    start = time.perf_counter()
    with torch.no_grad():  # not inference mode: the image is the caller's to change
        maps, weight = (None, None) if sens_maps is None else unit_maps(sens_maps.to(device))
        if on_progress is not None and maps is None and kspace.shape[1] > 1:
            on_progress(Progress(architecture, "maps", 0, None))
        measurement, phase = network_measurement(kspace.to(device), mask, maps, sigma=sigma)
        on_slice = None if on_progress is None else _slice_counter(on_progress, architecture, kspace.shape[0])
        image = apply_network(loaded.network, measurement, on_slice=on_slice)
        sigmas = _sigmas(kspace, mask) if sigma is None else [sigma] * kspace.shape[0]
        image = _consistent(_following(loaded, data_consistency), measurement, image, sigmas) * phase
        if weight is not None:
            image = quotient(image, weight)
    seconds = time.perf_counter() - start
    return image, _info(loaded, kspace, mask, image, sigmas, data_consistency) | {"seconds": seconds}


def _run_batch(
    architecture: str,
    problems: Sequence[tuple[Tensor, Mask]],
    device: torch.device,
    model: str,
    data_consistency: str,
    on_progress: OnProgress | None,
) -> list[tuple[Tensor, dict[str, Any]]]:
    loaded = _loaded(architecture, model, data_consistency, device)
    start = time.perf_counter()
    with torch.no_grad():
        if on_progress is not None and any(kspace.shape[1] > 1 for kspace, _ in problems):
            on_progress(Progress(architecture, "maps", 0, None))
        known = [network_measurement(kspace.to(device), mask) for kspace, mask in problems]
        num_slices = sum(kspace.shape[0] for kspace, _ in problems)
        on_slice = None if on_progress is None else _slice_counter(on_progress, architecture, num_slices)
        sigmas = [_sigmas(kspace, mask) for kspace, mask in problems]
        images = apply_network_to_batch(loaded.network, [measurement for measurement, _ in known], on_slice=on_slice)
        images = [
            _consistent(_following(loaded, data_consistency), measurement, image, noise) * phase
            for (measurement, phase), image, noise in zip(known, images, sigmas, strict=True)
        ]
    seconds = time.perf_counter() - start
    return [
        (image, _info(loaded, kspace, mask, image, noise, data_consistency) | {"seconds": seconds})
        for (kspace, mask), image, noise in zip(problems, images, sigmas, strict=True)
    ]


def _following(loaded: LoadedModel, data_consistency: str) -> str:
    """What follows the network: a cascade has weighted its samples by their noise already."""
    if isinstance(loaded.network, Cascade) and data_consistency == "weighted":
        return "learned"
    return data_consistency


def _consistent(how: str, measurement: Measurement, image: Tensor, sigmas: Sequence[float]) -> Tensor:
    if how == "learned" or (how == "weighted" and measurement.maps.shape[1] == 1):
        return image
    scale = image_scale(measurement.adjoint())
    scaled = measurement.scaled(scale)
    if how == "exact":
        return exact_data_consistency(scaled, image / scale) * scale
    sigma = torch.tensor(sigmas, dtype=scale.dtype, device=scale.device)[:, None, None]
    return weighted_data_consistency(scaled, image / scale, sigma / scale) * scale


def _sigmas(kspace: Tensor, mask: Mask) -> list[float]:
    """The noise of each slice; 0 where none is found, as in an empty one."""
    sigmas = []
    for y in torch.split(kspace, 1):
        try:
            sigmas.append(float(estimate_sigma(y, mask).sigma))
        except FormatError:
            sigmas.append(0.0)
    return sigmas


def _loaded(architecture: str, model: str, data_consistency: str, device: torch.device) -> LoadedModel:
    if data_consistency not in _DATA_CONSISTENCY:
        raise MethodError(
            f"method {architecture}: expected data_consistency to be one of {', '.join(_DATA_CONSISTENCY)}, got "
            f"{data_consistency!r}: choose one"
        )
    loaded = load_named(model, device=device)
    if method_of(loaded.card.architecture, loaded.network) != architecture:
        raise MethodError(
            f"method {architecture}: expected weights of {architecture}, got those of {loaded.card.architecture} in "
            f"{model!r}: choose another model, or the method {method_of(loaded.card.architecture, loaded.network)}"
        )
    return loaded


def method_of(architecture: str, network: nn.Module) -> str:
    """Name the method that runs a network: a cascade of one refinement is a U-Net with data consistency."""
    if isinstance(network, Cascade):
        return "unet" if network.config.num_cascades == 1 else "unrolled"
    return architecture


def _info(
    loaded: LoadedModel, kspace: Tensor, mask: Mask, image: Tensor, sigmas: Sequence[float], data_consistency: str
) -> dict[str, Any]:
    return {
        "model": loaded.card.name,
        "model_sha256": loaded.sha256,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "scale": f"{SCALE_PERCENTILE:g}th percentile of the zero-filled magnitude of each slice",
        "data_consistency": data_consistency,
        "warnings": loaded.card.envelope.departures(mask, num_coils=kspace.shape[1], snr=_lowest_snr(image, sigmas)),
    }


def _slice_counter(on_progress: OnProgress, method: str, num_slices: int) -> Callable[[int], None]:
    def on_slice(count: int) -> None:
        on_progress(Progress(method, "network", count, num_slices))

    on_slice(0)
    return on_slice


def unit_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise maps of a user for a network: S / n, continued smoothly where n is faint, and n.

    n is the root sum of squares of the maps, 0 below a tenth of its largest value. Networks know maps with
    sum |S|^2 = 1 only. A x = P F (S / n) (n x), so the image is theirs over n. Maps that are cropped outside the object
    would have them draw the crop's outline.

    Args:
        maps: complex `(slice, coil, h, w)`.

    Returns:
        maps of the same shape with sum |S|^2 = 1, and n, real `(slice, h, w)`.
    """
    weight = rss(maps)
    weight = torch.where(weight > _FAINT * weight.amax(dim=(-2, -1), keepdim=True), weight, torch.zeros_like(weight))
    return extend_maps(quotient(maps, weight.unsqueeze(1)), weight > 0), weight


def _lowest_snr(image: Tensor, sigmas: Sequence[float]) -> float | None:
    """The bright signal (`image_scale`) over the noise sqrt(E|n|^2) of one sample, of the slice where it is least."""
    signals = image_scale(image).flatten().tolist()
    return min((signal / sigma for signal, sigma in zip(signals, sigmas, strict=True) if sigma), default=None)

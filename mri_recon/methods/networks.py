"""Run the trained networks as reconstruction methods: `unet` and `unrolled`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mri_recon._arrays import quotient
from mri_recon._system.nearest import did_you_mean
from mri_recon.coils.checks import checked_maps
from mri_recon.coils.noise import estimate_sigma
from mri_recon.errors import FormatError, MethodError
from mri_recon.masks.types import Mask
from mri_recon.methods.adaptation import MOST_STEPS, adapt_network
from mri_recon.methods.data_consistency import exact_data_consistency, weighted_data_consistency
from mri_recon.methods.option_values import Between, OneOf
from mri_recon.models import Cascade, Measurement
from mri_recon.models.checkpoint import LoadedModel, load_named
from mri_recon.models.inference import (
    SCALE_PERCENTILE,
    apply_network,
    apply_network_to_batch,
    image_scale,
    network_measurement,
    unit_maps,
)
from mri_recon.progress import OnProgress, Progress

__all__ = [
    "method_of",
    "unet",
    "unet_batch",
    "unrolled",
    "unrolled_batch",
]


_DATA_CONSISTENCY = ("weighted", "learned", "exact")

_Consistency = Annotated[str, OneOf(*_DATA_CONSISTENCY)]

_Sigma = Annotated[float, Between(0, 1e38, open_below=True, cure="it is sqrt(E|n|^2) of one k-space sample")] | None

_Steps = Annotated[int, Between(0, MOST_STEPS, cure="0 leaves the weights as they are, 100 is a common choice")]

_Seed = Annotated[int, Between(0, 2**63 - 1, cure="choose another")]


def unet(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    device: torch.device,
    model: str = "unet",
    data_consistency: _Consistency = "weighted",
    sigma: _Sigma = None,
    adapt: _Steps = 0,
    adapt_seed: _Seed = 0,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with a U-Net: u = s (z/s + N(z/s)), x = p (u - A^H (A u - y)).

    z = A^H y is the zero-filled image without its smooth phase p (`network_measurement`), s is its scale
    (`image_scale`), and N is the network without its residual connection.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; estimated by ESPIRiT when absent. Maps you pass are normalised to
            unit root sum of squares n, and the image is divided by n again. Pixels with n below 10 % of its 99th
            percentile are set to 0; for the network, the maps are extended smoothly to these pixels
            (`map_extension.extend_maps`).
        device: where to run.
        model: name of shipped weights, or the path of a `.safetensors` file beside its model card.
        data_consistency: the step after the network. "weighted": with several coils, the image is corrected towards the
            samples, more strongly the less noise they have (`weighted_data_consistency`); with one coil there is no
            step. "learned": no step, as in training. "exact": the nearest image that reproduces the measured samples
            (`exact_data_consistency`). A cascade weights its samples by the noise itself, so that "weighted" equals
            "learned".
        sigma: noise sqrt(E|n|^2) of one sample of the k-space; estimated when absent. After pre-whitening,
            `reconstruct` passes the value known from it.
        adapt: largest number of steps by which a copy of the weights is adapted to this scan first (`adapt_network`);
            0: none. The copy is used only if it predicts samples that were kept from it better than the weights as
            they are.
        adapt_seed: seed of the adaptation. Equal seeds give equal images on the same machine and threads.
        on_progress: called after every slice and every step of the adaptation, see `mri_recon.progress`.

    Returns:
        complex64 image `(slice, h, w)`; info: `model`, `model_sha256`, `parameters`, `scale`, `data_consistency`,
        `warnings` (properties of this input that the network has not seen in training), `seconds`, and with `adapt` the
        report of `adapt_network` as `adaptation`.

    Raises:
        MethodError: the model has another architecture, or `data_consistency` is unknown.
        CheckpointError: unknown model, or damaged weights.
        MaskError: the mask has no fully sampled centre, which the estimates of phase and maps need; with `adapt`, too
            few samples outside it.
        ShapeError: given maps that do not fit the k-space.
        FormatError: no maps can be estimated for a slice, for example an empty slice of several coils; or given maps
            that are not finite, or far from normalised (`coils.checks.checked_maps`).
    """
    way = _Way(model, data_consistency, sigma, adapt, adapt_seed)
    return _run_method("unet", kspace, mask, sens_maps, device, way, on_progress)


def unet_batch(
    problems: Sequence[tuple[Tensor, Mask]],
    *,
    device: torch.device,
    model: str = "unet",
    data_consistency: _Consistency = "weighted",
    on_progress: OnProgress | None = None,
) -> list[tuple[Tensor, dict[str, Any]]]:
    """Reconstruct several problems of one size by `unet` in one run of the network, see `apply_network_to_batch`.

    Args:
        problems: pairs of k-space, complex64 `(slice, coil, readout, phase)`, and its mask; all k-space of one shape.
        device, model, data_consistency: as in `unet`.
        on_progress: called with the number of finished slices, counted over all problems.

    Returns:
        the result of `unet` for each problem; `seconds` is the time of all problems together.

    Raises:
        MethodError, CheckpointError, MaskError, FormatError: as `unet`, for any of the problems.
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
    adapt: _Steps = 0,
    adapt_seed: _Seed = 0,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with an unrolled network, x = p s U(y / s): steps of data consistency around learned refinements.

    U is the network of the weights: `models.Cascade`, or `models.Unrolled` for those of version 0.1. Its input is the
    samples divided by the scale s of the zero-filled image, and maps that include the smooth phase p of the image.
    Arguments, result and errors are those of `unet`.
    """
    way = _Way(model, data_consistency, sigma, adapt, adapt_seed)
    return _run_method("unrolled", kspace, mask, sens_maps, device, way, on_progress)


def unrolled_batch(
    problems: Sequence[tuple[Tensor, Mask]],
    *,
    device: torch.device,
    model: str = "unrolled",
    data_consistency: _Consistency = "weighted",
    on_progress: OnProgress | None = None,
) -> list[tuple[Tensor, dict[str, Any]]]:
    """Reconstruct several problems by `unrolled` in one run; arguments, result and errors are those of `unet_batch`."""
    return _run_batch("unrolled", problems, device, model, data_consistency, on_progress)


@dataclass(frozen=True)
class _Way:
    """Hold the options of `unet` and `unrolled`."""

    model: str
    data_consistency: str
    sigma: float | None
    adapt: int
    adapt_seed: int


def _run_method(
    architecture: str,
    kspace: Tensor,
    mask: Mask,
    sens_maps: Tensor | None,
    device: torch.device,
    way: _Way,
    on_progress: OnProgress | None,
) -> tuple[Tensor, dict[str, Any]]:
    loaded = _loaded(architecture, way.model, way.data_consistency, device)
    start = time.perf_counter()
    network, report = loaded.network, dict[str, Any]()
    with torch.no_grad():  # not inference mode: the caller may change the image
        maps, weight = (None, None) if sens_maps is None else unit_maps(checked_maps(sens_maps, kspace).to(device))
        if on_progress is not None and maps is None and kspace.shape[1] > 1:
            on_progress(Progress(architecture, "maps", 0, None))
        y = kspace.to(device)
        measurement, phase = network_measurement(y, mask, maps, sigma=way.sigma)
        if way.adapt:
            options: dict[str, Any] = {"steps": way.adapt, "seed": way.adapt_seed, "sigma": way.sigma}
            on_step = None if on_progress is None else _step_counter(on_progress, architecture, way.adapt)
            network, report = adapt_network(network, y, mask, measurement.maps, **options, on_step=on_step)
        on_slice = None if on_progress is None else _slice_counter(on_progress, architecture, kspace.shape[0])
        image = apply_network(network, measurement, on_slice=on_slice)
        sigmas = _sigmas(kspace, mask) if way.sigma is None else [way.sigma] * kspace.shape[0]
        image = _consistent(_following(loaded, way.data_consistency), measurement, image, sigmas) * phase
        if weight is not None:
            image = quotient(image, weight)
    info = _info(loaded, kspace, mask, image, sigmas, way.data_consistency)
    if report:
        info["adaptation"] = report
        if not report["kept_step"]:
            info["warnings"].append(
                f"adaptation did not help: in {report['steps']} steps no weights predicted the held-out samples better "
                "than the given ones, which made this image unchanged"
            )
    return image, info | {"seconds": time.perf_counter() - start}


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
    """Choose the step after the network: a cascade weights its samples itself and gets no weighted step."""
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
    """Estimate the noise of each slice; 0 where the estimate fails, for example in an empty slice."""
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
            f"{data_consistency!r}{did_you_mean(data_consistency, _DATA_CONSISTENCY)}: choose one"
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


def _step_counter(on_progress: OnProgress, method: str, num_steps: int) -> Callable[[int], None]:
    def on_step(count: int) -> None:
        on_progress(Progress(method, "adapt", count, num_steps))

    on_step(0)
    return on_step


def _lowest_snr(image: Tensor, sigmas: Sequence[float]) -> float | None:
    """Compute the lowest ratio, over the slices, of bright signal (`image_scale`) to noise sqrt(E|n|^2)."""
    signals = image_scale(image).flatten().tolist()
    return min((signal / sigma for signal, sigma in zip(signals, sigmas, strict=True) if sigma), default=None)

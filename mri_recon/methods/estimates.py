"""Estimate the memory (an upper bound) and the time of a reconstruction before it begins.

For k-space of `n` points in slices of `c` coils and `p` pixels, a method's working memory is at most

    fixed + a 8 n + s b 8 c p' + d 8 n / c + s e 8 p'

`8 n` are the bytes of the k-space as complex64. `a` counts copies of the k-space, `b` arrays of the coils of a slice,
`d` images of all slices and `e` images of one slice. p' is the number of pixels of the padded image. s is the number of
slices that the threads of this process compute at the same time (`_system.threads.num_side_by_side`).
Compressed sensing is counted in double precision, which it uses where there is hardly any noise, and by its prior: a
stationary transform holds all of its bands. Where its transforms are compiled, the compiler's libraries are counted
as well. A network adds the working memory of its configuration (`models.footprint`), and its weights: 6 times their
file while they are read (as bytes, in half and in single precision, and the network), afterwards 4.5 times, with the
copies that the processor's library makes. An adaptation (`adapt`) adds its copies of the weights and everything that
gradients need (`models.footprint.adaptation_bytes`). `auto` takes what its largest candidate takes, all weights, the
maps, a fold and the predictions. The constants were fitted to peaks of the resident memory, with a
margin. `benchmarks/service/memory.py` measures them on random cases, first calls in a process, later calls and batches.

The time is `rate * slices * p * (coils + w)`, where `w` is the work done once for each slice instead of once for each
coil. Rates were measured on one core and rounded up. They then follow the observed times.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mri_recon._system.threads import num_side_by_side
from mri_recon.errors import MriReconError
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.checks import HOLDOUT, num_runs
from mri_recon.methods.priors import choose_prior
from mri_recon.methods.table import method_options
from mri_recon.models.checkpoint import read_card, weights_file
from mri_recon.models.footprint import adaptation_bytes, working_bytes
from mri_recon.models.inference import slices_at_once, widest_margin
from mri_recon.solvers.compiled_haar import MIN_SIDE

__all__ = ["Estimates"]

_ITEM_BYTES = 8  # complex64
_MIB = 1 << 20
_WEIGHT_OF_THE_NEWEST = 0.3

_COMPILER_BYTES = 112 * _MIB
_READ_WEIGHTS, _KEPT_WEIGHTS = 6.0, 4.5
_ADAPTED_KSPACES, _ADAPTED_SLICES = 4.0, 40.0
"""Arrays of all slices and of one slice, all coils, that an adaptation takes besides the network's own."""


@dataclass(frozen=True)
class _Cost:
    """The constants of a method in the formulas above."""

    fixed: int
    kspaces: float
    slice_kspaces: float = 0.0
    images: float = 0.0
    slice_images: float = 0.0
    work_per_slice: float = 0.0
    rate: float | None = None  # seconds for a pixel of one coil


_COSTS: dict[str, _Cost] = {
    "zero-filled": _Cost(32 * _MIB, kspaces=11, images=4, rate=1e-7),
    "cg-sense": _Cost(40 * _MIB, kspaces=9, slice_kspaces=5, images=10, rate=6e-7),
    "cs-wavelet": _Cost(40 * _MIB, kspaces=12, slice_kspaces=6, images=12, slice_images=20, rate=1e-5),
    "unet": _Cost(36 * _MIB, kspaces=23, images=6, work_per_slice=1, rate=3e-6),
    "unrolled": _Cost(36 * _MIB, kspaces=23, images=6, work_per_slice=6, rate=2.2e-6),
    "auto": _Cost(16 * _MIB, kspaces=6, images=6),  # besides its candidates
}
_UNKNOWN = _Cost(256 * _MIB, kspaces=32, images=12, slice_images=150)

_BAND_IMAGES = {"stationary": 11.0, "stationary-synthesis": 48.0}
"""Images that each band of a stationary transform takes: L levels have 3 L + 1 of them."""
_PRIOR_IMAGES = {"cycle-spinning": 100.0, "orthonormal": 90.0, "tv": 100.0}

_COMPARED_KSPACES, _COMPARED_IMAGES, _IMAGES_A_METHOD = 3.0, 10.0, 3.0
"""Arrays that a comparison holds besides: the reference, its metrics, the file of one method, and every image."""

_CHECKED_KSPACES = 4.0
"""Arrays like the k-space that a check holds besides the method: maps of two kinds, a fold, predictions."""

_TRUST_IMAGES = 10.0
"""Images that a map of trust takes while it is made: the images of the folds, features and their averages."""

_FOLD_IMAGES_A_CANDIDATE = 4.5
"""Images that `auto` holds for each candidate: magnitudes of three folds, and differences while the map is made."""


class Estimates:
    """Estimates for k-space of shape `(slice, coil, readout, phase)`. Observed times improve them. Thread-safe."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {name: cost.rate for name, cost in _COSTS.items() if cost.rate is not None}
        self._observed: set[str] = set()
        self._lock = threading.Lock()

    @staticmethod
    def decoded_bytes(shape: Sequence[int]) -> int:
        """Count the bytes of k-space of a shape as complex64."""
        return math.prod(shape) * _ITEM_BYTES

    @staticmethod
    def largest_scan(memory: int) -> int:
        """Bound the bytes of k-space that some built-in method can reconstruct within a number of bytes."""
        return int(memory / min(cost.kspaces for name, cost in _COSTS.items() if name != "auto"))

    @staticmethod
    def memory_bytes(
        method: str, shape: Sequence[int], options: Mapping[str, Any] | None = None, *, check: str | None = None
    ) -> int:
        """Bound the bytes that a method will hold at once, its input included.

        Several requests in one batch take no more than their sum.

        Args:
            method: name of the method. For an unknown name the estimate is generous, but no bound.
            shape: shape of the k-space, `(slice, coil, readout, phase)`.
            options: the method's options.
            check: check of the result. It holds the maps, a fold and the predictions, and runs CG-SENSE.
        """
        options = options or {}
        if check is not None and method != "auto":
            both = {"cg-sense": {}, method: options}
            most = max(Estimates.memory_bytes(name, shape, given) for name, given in both.items())
            images = _TRUST_IMAGES * math.prod(shape) / shape[1]
            return most + int(_ITEM_BYTES * (_CHECKED_KSPACES * math.prod(shape) + images))
        if method == "auto":
            return _memory_of_auto(options, shape)
        cost = _COSTS.get(method, _UNKNOWN)
        slices, coils, readout, phase = shape
        pixels, own, at_once = readout * phase, 0.0, num_side_by_side(slices)
        if method == "cs-wavelet":
            pixels, own = _compressed_sensing(options, (readout, phase), at_once)
        elif method in ("unet", "unrolled"):
            model, size = str(options.get("model", method)), (slices, coils, readout, phase)
            own = _network(model, size) + (_adaptation(model, size) if options.get("adapt") else 0.0)
        images = slices * readout * phase
        items = cost.kspaces * coils * images + cost.images * images
        items += at_once * (cost.slice_kspaces * coils * pixels + cost.slice_images * pixels)
        return int(cost.fixed + _ITEM_BYTES * items + own)

    @staticmethod
    def comparison_bytes(
        methods: Mapping[str, Mapping[str, Any]], shape: Sequence[int], *, check: str | None = None
    ) -> int:
        """Bound the bytes of a comparison. Its methods run one after the other, and their images stay in memory.

        Args:
            methods: options of each method by its name.
            shape: shape of the k-space, `(slice, coil, readout, phase)`.
            check: check of the results.
        """
        most = max(Estimates.memory_bytes(name, shape, options, check=check) for name, options in methods.items())
        slices, coils, readout, phase = shape
        images = _COMPARED_IMAGES + _IMAGES_A_METHOD * len(methods) + _COMPARED_KSPACES * coils
        return int(most + images * _ITEM_BYTES * slices * readout * phase)

    def seconds(self, method: str, shape: Sequence[int], *, check: str | None = None) -> float | None:
        """Estimate the time of a run with default options. None: an unknown method that was never observed.

        `auto` takes the time of its candidates, each of which runs `num_runs("holdout")` times, until it is observed.
        With a check, any other method runs that often.
        """
        with self._lock:
            rate = self._rates.get(method)
        if rate is None and method == "auto":
            times = [self.seconds(one.method, shape) for one in _candidates({})]
            return num_runs(HOLDOUT) * math.fsum(time for time in times if time is not None)
        runs = 1 if method == "auto" else num_runs(check)
        return None if rate is None else runs * rate * _work(method, shape)

    def observe(self, method: str, shape: Sequence[int], seconds: float) -> None:
        """Learn from a run with default options. The first run replaces the built-in rate; later runs are averaged."""
        work = _work(method, shape)
        if work <= 0 or not seconds > 0:
            return
        rate = seconds / work
        with self._lock:
            if method in self._observed:
                known = math.log(self._rates[method])
                rate = math.exp(known + _WEIGHT_OF_THE_NEWEST * (math.log(rate) - known))
            self._observed.add(method)
            self._rates[method] = rate


def _candidates(options: Mapping[str, Any]) -> list[Candidate]:
    """List the candidates of `auto`; none if they are invalid, because the request will be refused."""
    try:
        return parse_candidates(options.get("candidates", method_options("auto")["candidates"]))
    except MriReconError:
        return []


def _memory_of_auto(options: Mapping[str, Any], shape: Sequence[int]) -> int:
    """Bound the bytes of `auto`: its candidates run one after the other, beside the maps, a fold and predictions."""
    candidates = _candidates(options)
    most = max((Estimates.memory_bytes(one.method, shape, one.options) for one in candidates), default=0)
    weights = sum(_weights_bytes(str(one.options.get("model", one.method))) for one in candidates)
    slices, coils, readout, phase = shape
    cost = _COSTS["auto"]
    held = (_IMAGES_A_METHOD + _FOLD_IMAGES_A_CANDIDATE) * len(candidates)
    items = slices * readout * phase * (cost.kspaces * coils + cost.images + _TRUST_IMAGES + held)
    return int(cost.fixed + most + _KEPT_WEIGHTS * weights + _ITEM_BYTES * items)


def _weights_bytes(model: str) -> int:
    """Count the bytes of a file of weights; 0 if there is none, as for a classical method."""
    try:
        return weights_file(model).stat().st_size
    except (OSError, MriReconError):
        return 0


def _work(method: str, shape: Sequence[int]) -> float:
    slices, coils, readout, phase = shape
    return slices * readout * phase * (coils + _COSTS.get(method, _UNKNOWN).work_per_slice)


def _compressed_sensing(options: Mapping[str, Any], size: tuple[int, int], at_once: int) -> tuple[int, float]:
    """Count the pixels of the padded image, and the bytes of the prior for the slices computed at the same time.

    Invalid options count as the largest prior.
    """
    try:
        prior = choose_prior(
            options.get("prior", "stationary"),
            phase="auto",
            wavelet=options.get("wavelet"),
            levels=options.get("levels"),
            size=size,
        )
    except (MriReconError, TypeError):
        return math.prod(size), at_once * _ITEM_BYTES * math.prod(size) * max(_PRIOR_IMAGES.values())
    pixels = math.prod(prior.size)
    images = _PRIOR_IMAGES.get(prior.name, 0.0) + _BAND_IMAGES.get(prior.name, 0.0) * (3 * (prior.levels or 0) + 1)
    # Transforms that are not compiled are matrices of the sides.
    matrices = 3 * sum(side * side for side in prior.size) if prior.wavelet else 0
    compiler = _COMPILER_BYTES if min(prior.size) >= MIN_SIDE else 0
    return pixels, at_once * _ITEM_BYTES * (images * pixels + matrices) + compiler


def _network(model: str, shape: tuple[int, int, int, int]) -> float:
    """Count the bytes of a network and its weights. 0: an unknown model, whose request will be refused."""
    slices, coils, readout, phase = shape
    path = weights_file(model)
    try:
        status = path.stat()
        architecture, config = _description(path, status.st_mtime_ns)
        working = working_bytes(architecture, config, (coils, readout, phase), widest_margin(phase))
    except (OSError, MriReconError, ValidationError):
        return 0.0
    if working is None:
        return float(_UNKNOWN.fixed)
    at_once = min(slices, slices_at_once(readout, phase))
    return max(_READ_WEIGHTS * status.st_size, _KEPT_WEIGHTS * status.st_size + at_once * working)


def _adaptation(model: str, shape: tuple[int, int, int, int]) -> float:
    """Count the bytes of the adaptation of a network: copies of k-space and maps, weights, what gradients need."""
    slices, coils, readout, phase = shape
    path = weights_file(model)
    try:
        status = path.stat()
        architecture, config = _description(path, status.st_mtime_ns)
        single = 2 * status.st_size  # files are in half precision
        needed = adaptation_bytes(architecture, config, (coils, readout, phase), widest_margin(phase), single)
    except (OSError, MriReconError, ValidationError):
        return 0.0
    kspaces = (_ADAPTED_KSPACES + _ADAPTED_SLICES / slices) * _ITEM_BYTES * math.prod(shape)
    return float(_UNKNOWN.fixed if needed is None else needed) + kspaces


@lru_cache(maxsize=32)
def _description(path: Path, stamp: int) -> tuple[str, dict[str, Any]]:
    card = read_card(path.with_suffix(".json"))
    return card.architecture, card.config

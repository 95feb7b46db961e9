"""What a reconstruction will need, before it is begun: bytes of memory and seconds.

For k-space of `n` points in slices of `p` pixels, a method's working memory is taken to be at most

    fixed + a 8 n + b p

where `8 n` are the bytes of the k-space as complex64: `a` counts its copies, `b` is what one slice needs while it is
worked on. The time is `rate * slices * p * (coils + w)`; `w` is the part of the work that is done once a slice and not
once a coil. The constants of the built-in methods were measured on one core and rounded up; rates follow what is
observed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimates"]

_ITEM_BYTES = 8  # complex64
_FIXED_BYTES = 32 << 20
_WEIGHT_OF_THE_NEWEST = 0.3


@dataclass(frozen=True)
class _Cost:
    copies: float
    pixel_bytes: float
    work_per_slice: float = 0.0
    rate: float | None = None  # seconds for a pixel of one coil


_COSTS: dict[str, _Cost] = {
    "zero-filled": _Cost(copies=10, pixel_bytes=0, rate=1e-7),
    "cg-sense": _Cost(copies=22, pixel_bytes=0, rate=6e-7),
    "cs-wavelet": _Cost(copies=10, pixel_bytes=800, rate=1e-5),
    "unet": _Cost(copies=14, pixel_bytes=1200, work_per_slice=1, rate=3e-6),
    "unrolled": _Cost(copies=14, pixel_bytes=600, work_per_slice=6, rate=2.2e-6),
}
_UNKNOWN = _Cost(copies=32, pixel_bytes=1200)


class Estimates:
    """Estimates for k-space of shape `(slice, coil, readout, phase)`; those of time learn. Safe between threads."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {name: cost.rate for name, cost in _COSTS.items() if cost.rate is not None}
        self._observed: set[str] = set()
        self._lock = threading.Lock()

    @staticmethod
    def decoded_bytes(shape: Sequence[int]) -> int:
        """Bytes of k-space of this shape as complex64."""
        return math.prod(shape) * _ITEM_BYTES

    @staticmethod
    def memory_bytes(method: str, shape: Sequence[int]) -> int:
        """Most memory that a method will hold at once, its input included; generous for a method unknown here."""
        cost = _COSTS.get(method, _UNKNOWN)
        _, _, readout, phase = shape
        return int(_FIXED_BYTES + cost.copies * Estimates.decoded_bytes(shape) + cost.pixel_bytes * readout * phase)

    def seconds(self, method: str, shape: Sequence[int]) -> float | None:
        """Time of a run with the method's default options; None for a method that is unknown and was never observed."""
        with self._lock:
            rate = self._rates.get(method)
        return None if rate is None else rate * _work(method, shape)

    def observe(self, method: str, shape: Sequence[int], seconds: float) -> None:
        """Learn from a run with default options; the first one replaces the built-in rate, later ones are averaged."""
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


def _work(method: str, shape: Sequence[int]) -> float:
    slices, coils, readout, phase = shape
    return slices * readout * phase * (coils + _COSTS.get(method, _UNKNOWN).work_per_slice)

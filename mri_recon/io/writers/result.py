"""A reconstruction as files hold it: arrays, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mri_recon._system.files import Content

__all__ = ["NOTICE", "Encoded", "SavedResult", "Writer"]

NOTICE = "Research only: not a medical device, not for diagnosis or treatment."
"""What every file that is written says of itself."""


@dataclass(frozen=True)
class SavedResult:
    """What `save` hands to the writer of a format.

    Attributes:
        image: `(slice, h, w)`, complex64; float32 magnitudes where the method yields no phase.
        magnitude: float32 `(slice, h, w)`.
        metadata: plain JSON values and texts that UTF-8 can hold: `method`, `info`, `mask` (its receipt), `recon_size`,
            `source_file`, `acquisition`, `patient_id`, `provenance`, `notice`, `software`, as far as known.
        mask: what was sampled, bool `(phase,)` or `(readout, phase)`.
        recon_size: height and width of the picture that the scan asks for.
    """

    image: npt.NDArray[Any]
    magnitude: npt.NDArray[np.float32]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mask: npt.NDArray[np.bool_] | None = None
    recon_size: tuple[int, int] | None = None


class Encoded(NamedTuple):
    """The bytes of a file, and in one sentence what its format leaves out; empty where it holds everything."""

    content: Content
    left_out: str = ""


@dataclass(frozen=True)
class Writer:
    """A format that `save` writes.

    Attributes:
        suffixes: of its files, lower case, with the dot.
        encode: makes the file.
        max_bytes: largest image that the format can hold; None: any.
        is_picture: whether the file shows the image to whoever opens it.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[SavedResult], Encoded]
    max_bytes: int | None = None
    is_picture: bool = False

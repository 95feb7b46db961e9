"""Define a reconstruction as files hold it: arrays and their description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mri_recon._system.files import Content
from mri_recon.io.geometry import Geometry

__all__ = ["NOTICE", "SIMULATED", "Encoded", "SavedResult", "Writer", "notice_of", "software"]

NOTICE = "Research only: not a medical device, not for diagnosis or treatment."
"""Notice in every written file."""

SIMULATED = "The k-space is SIMULATED, no measurement: numbers and images from it show no scanner and no patient."
"""Warning about k-space that was made from images, and about every result of it."""


def notice_of(metadata: Mapping[str, Any]) -> str:
    """Return the notice for a file of a result: `NOTICE`, behind `SIMULATED` where its k-space says so."""
    return f"{SIMULATED} {NOTICE}" if metadata.get("simulated") else NOTICE


def software() -> str:
    """Return the name and version of this program, as written files hold them."""
    try:
        return f"mri-recon {version('mri-recon')}"
    except PackageNotFoundError:  # run from a copy that is not installed
        return "mri-recon"


@dataclass(frozen=True)
class SavedResult:
    """Hold the data that `save` passes to the writer of a format.

    Attributes:
        image: `(slice, h, w)`, complex64; float32 magnitudes if the method yields no phase.
        magnitude: float32 `(slice, h, w)`.
        metadata: plain JSON values and texts that UTF-8 can hold: `method`, `info`, `mask` (its receipt), `recon_size`,
            `source_file`, `acquisition`, `patient_id`, `geometry`, `provenance`, `notice`, `software`, as far as known.
        mask: the sampling mask, bool `(phase,)` or `(readout, phase)`.
        recon_size: height and width of the picture, from the scan.
        geometry: voxel size, position and orientation of the slices; None if they are not known.
        tags: values of an accompanying DICOM image by keyword, see `mri_recon.io.writers.dicom_like`.
        trust_map: map of trust, float32 `(slice, h, w)`; None without the hold-out check.
        identity: text that names this result among all others. DICOM identifiers are derived from it, so that the same
            result gets the same ones again; if empty, they are random.
        made: when the image was made; None for now.
    """

    image: npt.NDArray[Any]
    magnitude: npt.NDArray[np.float32]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mask: npt.NDArray[np.bool_] | None = None
    recon_size: tuple[int, int] | None = None
    geometry: Geometry | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    trust_map: npt.NDArray[np.float32] | None = None
    identity: str = ""
    made: datetime | None = None


class Encoded(NamedTuple):
    """Hold the bytes of a file.

    Attributes:
        content: the file.
        left_out: one sentence about data that the format cannot hold; empty if it holds everything.
        beside: further files of the format, by the suffix that replaces that of the file.
    """

    content: Content
    left_out: str = ""
    beside: Mapping[str, Content] = MappingProxyType({})


@dataclass(frozen=True)
class Writer:
    """Describe a format that `save` writes.

    Attributes:
        suffixes: suffixes of its files, lower case, with the dot.
        encode: function that makes the file.
        max_bytes: largest image that the format can hold; None for no limit.
        is_picture: whether the file is a picture of the image.
        max_side: largest height or width that the format can hold; None for no limit.
        beside: suffixes of further files that are written with it, see `Encoded.beside`.
        needs: libraries that the format needs, all in the extra `clinical`.
        check: function that refuses a geometry that the format cannot hold, before the work; None if it holds any.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[SavedResult], Encoded]
    max_bytes: int | None = None
    is_picture: bool = False
    max_side: int | None = None
    beside: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    check: Callable[[Geometry], None] | None = None

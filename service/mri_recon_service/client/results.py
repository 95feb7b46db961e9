"""Hold results in memory: arrays and metadata, read from the npz file of the service."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["Comparison", "Image", "Part", "parts_of", "read_comparison", "read_image", "read_part"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """A reconstruction.

    Attributes:
        image: `(slice, h, w)`, complex64, or float32 magnitudes where the method yields no phase.
        mask: the sampled columns, bool `(phase,)`, or points `(readout, phase)`.
        trust_map: the map of trust, float32 `(slice, h, w)`, between 0 and 1; None without one.
        method: name of the method.
        info: the method's report: iterations, stop reason, model, seconds, warnings.
        warnings: what looks wrong about scan, mask or image, the worst first.
        receipt: how the mask was made, with its realised acceleration.
        provenance: the record from which `mri-recon replay` repeats the result.
        recon_size: height and width of the part that pictures show, in the middle of the image.
        metadata: all metadata, as the service sent it.
    """

    image: Array
    mask: npt.NDArray[np.bool_]
    trust_map: Array | None
    method: str
    info: dict[str, Any]
    warnings: list[str]
    receipt: dict[str, Any]
    provenance: dict[str, Any]
    recon_size: tuple[int, int]
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.image.shape))
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"{type(self).__name__}({self.method}, {size} (slice x h x w), {self.image.dtype}{warned})"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Several methods on the same samples.

    Attributes:
        images: magnitudes by method, float32 `(slice, h, w)`, cropped to the reconstruction size.
        phases: phases by method in radians, float32 `(slice, h, w)` to 1.2 degrees, where a method yields phase.
        reference: magnitudes of the reference; None without one.
        trust_maps: maps of trust by method, where there are any.
        mask: as `Image.mask`.
        kspace: decadic logarithm of the sampled k-space over its maximum, float32 `(slice, readout, phase)`.
        results: for each method `nmse`, `psnr`, `ssim` (None without a reference), `seconds`, `info`.
        warnings: warnings of each method.
        receipt: as `Image.receipt`.
        provenance: as `Image.provenance`, for each method.
        convention: what the metrics mean.
        metadata: all metadata, as the service sent it.
    """

    images: dict[str, Array]
    phases: dict[str, Array]
    reference: Array | None
    trust_maps: dict[str, Array]
    mask: npt.NDArray[np.bool_]
    kspace: Array
    results: list[dict[str, Any]]
    warnings: dict[str, list[str]]
    receipt: dict[str, Any]
    provenance: dict[str, dict[str, Any]]
    convention: str
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        told = ", ".join(
            name if row["psnr"] is None else f"{name} {row['psnr']:.2f} dB"
            for name, row in zip(self.images, self.results, strict=True)
        )
        return f"{type(self).__name__}({told})"


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """A part of a comparison that may still run: the scan's, or that of one method. What it has not is None.

    Attributes:
        name: "scan", or the name of a method.
        image: magnitudes of the method, float32 `(slice, h, w)`, cropped to the reconstruction size.
        phase: phase in radians, where the method yields one.
        trust_map: the map of trust, where there is one.
        result: `nmse`, `psnr`, `ssim` (None without a reference), `seconds` and `info` of the method.
        reference: of the scan: magnitudes of the reference.
        mask: of the scan: as `Image.mask`.
        kspace: of the scan: as `Comparison.kspace`.
        metadata: all metadata, as the service sent it.
    """

    name: str
    image: Array | None
    phase: Array | None
    trust_map: Array | None
    result: dict[str, Any] | None
    reference: Array | None
    mask: npt.NDArray[np.bool_] | None
    kspace: Array | None
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        shown = self.image if self.image is not None else self.reference if self.reference is not None else self.kspace
        size = "" if shown is None else f", {' x '.join(map(str, shown.shape))} (slice x h x w)"
        return f"Part({self.name}{size})"


SCAN = "scan"
"""Name of the part with what belongs to no method."""


def read_image(file: IO[bytes]) -> Image:
    """Read the npz file of a reconstruction."""
    arrays, about = _read(file)
    info = about["info"]
    return Image(
        image=arrays["image"],
        mask=arrays["mask"].astype(bool),
        trust_map=arrays.get("trust_map"),
        method=about["method"],
        info=info,
        warnings=list(info.get("warnings", [])),
        receipt=about["mask"],
        provenance=about["provenance"],
        recon_size=(int(about["recon_size"][0]), int(about["recon_size"][1])),
        metadata=about,
    )


def read_comparison(file: IO[bytes]) -> Comparison:
    """Read the npz file of a comparison."""
    arrays, about = _read(file)
    rows = about["results"]
    return Comparison(
        images=_named(arrays, "image."),
        phases={name: _radians(levels) for name, levels in _named(arrays, "phase.").items()},
        reference=arrays.get("reference"),
        trust_maps=_named(arrays, "trust."),
        mask=arrays["mask"].astype(bool),
        kspace=arrays["kspace"],
        results=rows,
        warnings={row["method"]: list(row["info"].get("warnings", [])) for row in rows},
        receipt=about["mask"],
        provenance=about["provenance"],
        convention=about["convention"],
        metadata=about,
    )


def read_part(file: IO[bytes], name: str) -> Part:
    """Read the npz file of a part of a comparison."""
    arrays, about = _read(file)
    return _part(name, arrays, about)


def parts_of(comparison: Comparison) -> list[Part]:
    """Take a comparison apart, into the scan's part and one for each method."""
    scan = _part(SCAN, {"mask": comparison.mask, "kspace": comparison.kspace}, comparison.metadata)
    return [
        replace(scan, reference=comparison.reference),
        *(
            Part(
                name=name,
                image=image,
                phase=comparison.phases.get(name),
                trust_map=comparison.trust_maps.get(name),
                result=_row(comparison.metadata, name),
                reference=None,
                mask=None,
                kspace=None,
                metadata=comparison.metadata,
            )
            for name, image in comparison.images.items()
        ),
    ]


def _part(name: str, arrays: dict[str, Array], about: dict[str, Any]) -> Part:
    phase, mask = arrays.get(f"phase.{name}"), arrays.get("mask")
    return Part(
        name=name,
        image=None if name == SCAN else arrays[f"image.{name}"],
        phase=None if phase is None else _radians(phase),
        trust_map=arrays.get(f"trust.{name}"),
        result=_row(about, name),
        reference=arrays.get("reference"),
        mask=None if mask is None else mask.astype(bool),
        kspace=arrays.get("kspace"),
        metadata=about,
    )


def _row(about: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((row for row in about["results"] if row["method"] == name), None)


def _named(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _radians(levels: Array) -> Array:
    """Turn levels, which divide the circle from -pi into 256 parts, into radians."""
    return (levels.astype(np.float32) / 256 * 2 - 1) * np.float32(np.pi)


def _read(file: IO[bytes]) -> tuple[dict[str, Array], dict[str, Any]]:
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays.pop("metadata").tobytes())

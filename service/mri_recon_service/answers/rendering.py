"""What goes back to a client: HDF5, npy, npz, PNG, and the JSON of a comparison with its pictures.

A result is kept as arrays and metadata (`Bundle`), from which every representation but HDF5 is made when it is asked
for; HDF5 is the file that the library writes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mri_recon._arrays import center_crop
from mri_recon._system.jsonable import jsonable
from mri_recon.coils.combine import rss
from mri_recon.io import encode_result
from mri_recon.masks.convert import undersample
from mri_recon.masks.types import ColumnMask
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.reconstruction import Reconstruction
from mri_recon.results.comparison import Comparison
from mri_recon.results.provenance import Provenance
from mri_recon_service.answers.png import gray_png
from mri_recon_service.job import Kind
from mri_recon_service.schemas import ComparisonAnswer, Images, MethodImages
from mri_recon_service.work import Outcome

__all__ = [
    "HDF5",
    "JSON",
    "NPY",
    "NPZ",
    "OFFERS",
    "PNG",
    "Bundle",
    "Rendered",
    "answer",
    "bundle_of",
    "hdf5_of",
    "read_bundle",
    "render",
    "write_bundle",
]

HDF5, NPY, NPZ, PNG = "application/x-hdf5", "application/x-npy", "application/x-npz", "image/png"
JSON = "application/json"

OFFERS: Mapping[Kind, Sequence[str]] = {"reconstruction": (HDF5, NPY, NPZ, PNG), "comparison": (JSON, NPZ)}
"""Representations of a result; the first is the default."""

WINDOW_PERCENTILE = 99.0
"""White is this percentile of the shown slice: of the reference where there is one."""

ERROR_PERCENTILE = 99.5
"""White in an error map is the largest of this percentile over the methods."""

FAINTEST = -6.0
"""k-space is shown as the decadic logarithm of its magnitude over the largest one, and this where it is less."""

_LONGEST_HEADER = 12_000  # bytes: clients and proxies bound what they read

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """A result as arrays and JSON-able metadata, what an npz file of it holds.

    A reconstruction has `image`, complex64 or float32 `(slice, h, w)`. A comparison has `image.METHOD` and, where it is
    known, `reference`: float32 magnitudes `(slice, h, w)` of the size that is shown; and `kspace`, float32
    `(slice, readout, phase)`, the decadic logarithm of what was kept (root sum of squares over coils, over its largest
    value), at least -6. Both have `mask`, uint8 `(phase,)` or `(readout, phase)`.
    """

    kind: Kind
    arrays: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Rendered:
    """The body of an answer, and what belongs into its headers."""

    content: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


def bundle_of(outcome: Outcome, *, with_kspace: bool = True) -> Bundle:
    """The arrays and metadata of a result."""
    prepared = outcome.prepared
    mask = prepared.mask
    lines = mask.lines if isinstance(mask, ColumnMask) else mask.pattern
    arrays: dict[str, npt.NDArray[Any]] = {"mask": lines.astype(np.uint8)}
    if isinstance(outcome.result, Reconstruction):
        result = outcome.result
        arrays = {"image": result.image.detach().cpu().resolve_conj().numpy(), **arrays}
        metadata = {
            "method": result.method,
            "info": jsonable(result.info),
            "mask": jsonable(mask.receipt()),
            "slice": prepared.slice_index,
            "num_slices": int(result.image.shape[0]),
            "recon_size": list(prepared.scan.recon_size),
            "provenance": outcome.provenance[result.method].model_dump(mode="json"),
            "research_only": RESEARCH_ONLY,
        }
        return Bundle("reconstruction", arrays, metadata)
    comparison = outcome.result
    for name in comparison.reconstructions:
        arrays[f"image.{name}"] = _float_array(comparison.magnitude(name))
    if comparison.target is not None:
        arrays["reference"] = _float_array(comparison.target)
    if with_kspace:
        arrays["kspace"] = _log_kspace(undersample(prepared.scan.kspace, mask))
    metadata = {
        **comparison.document(),
        "images": _picture_numbers(arrays, comparison, prepared.slice_index),
        "research_only": RESEARCH_ONLY,
    }
    return Bundle("comparison", arrays, metadata)


def write_bundle(bundle: Bundle) -> bytes:
    """The npz file of a result: not compressed, so that a browser reads it without further code."""
    buffer = io.BytesIO()
    text = json.dumps(bundle.metadata, allow_nan=False).encode()
    np.savez(buffer, allow_pickle=False, **bundle.arrays, metadata=np.frombuffer(text, np.uint8))
    return buffer.getvalue()


def read_bundle(kind: Kind, path: Path) -> Bundle:
    """What `write_bundle` wrote, of this service's own disk."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return Bundle(kind, arrays, json.loads(arrays.pop("metadata").tobytes()))


def hdf5_of(outcome: Outcome, bundle: Bundle) -> bytes:
    """The file that `mri_recon.save` writes for a reconstruction, with the provenance of its bundle."""
    assert isinstance(outcome.result, Reconstruction)
    provenance = Provenance.model_validate(bundle.metadata["provenance"])
    prepared = outcome.prepared
    return bytes(encode_result(".h5", outcome.result, prepared.scan, prepared.mask, provenance=provenance).content)


def render(bundle: Bundle, media_type: str, *, hdf5: Callable[[], bytes]) -> Rendered:
    """A result in one of `OFFERS`.

    Args:
        bundle: the result.
        media_type: of the wanted representation.
        hdf5: gives the HDF5 file, where that is wanted.
    """
    content, extra = _content(bundle, media_type, hdf5)
    suffix = {HDF5: "h5", NPY: "npy", NPZ: "npz", PNG: "png", JSON: "json"}[media_type]
    headers = {} if media_type == JSON else {"Content-Disposition": f'attachment; filename="{bundle.kind}.{suffix}"'}
    headers |= {"Vary": "Accept", **extra}
    if bundle.kind == "reconstruction":
        headers["X-Mask-Receipt"] = _mask_header(bundle)
        headers["X-Reconstruction-Info"] = _info_header(bundle.metadata["info"])
        headers["X-Provenance"] = _provenance_header(bundle.metadata["provenance"])
    return Rendered(content, media_type, headers)


def answer(bundle: Bundle) -> ComparisonAnswer:
    """The JSON document of a comparison, with pictures of one slice."""
    return ComparisonAnswer.model_validate({**bundle.metadata, "images": _images(bundle)})


def _content(bundle: Bundle, media_type: str, hdf5: Callable[[], bytes]) -> tuple[bytes, dict[str, str]]:
    if media_type == HDF5:
        return hdf5(), {}
    if media_type == NPZ:
        return write_bundle(bundle), {}
    if media_type == NPY:
        buffer = io.BytesIO()
        np.save(buffer, bundle.arrays["image"], allow_pickle=False)
        return buffer.getvalue(), {}
    if media_type == PNG:
        return _png(bundle)
    return answer(bundle).model_dump_json().encode(), {}


def _png(bundle: Bundle) -> tuple[bytes, dict[str, str]]:
    """The magnitude of one slice, centre-cropped to the scan's reconstruction size, with its window stated."""
    about = bundle.metadata
    magnitude = torch.from_numpy(bundle.arrays["image"][about["slice"]]).abs()
    height, width = about["recon_size"]
    image = _float_array(center_crop(magnitude, (height, width)))
    high = float(np.percentile(image, WINDOW_PERCENTILE))
    window = f"0 {high:.6g}"
    text = {
        "Title": f"{about['method']}, slice {about['slice']}",
        "Window": window,
        "Mask": json.dumps(about["mask"]),
        "Provenance": json.dumps(about["provenance"]),
        "Disclaimer": RESEARCH_ONLY,
    }
    headers = {"X-Preview-Slice": str(about["slice"]), "X-Preview-Window": window}
    return gray_png(image, high=high, text=text), headers


def _mask_header(bundle: Bundle) -> str:
    """The receipt as JSON on one line, the lines by the SHA-256 of their packed bits: a header has little room."""
    receipt = dict(bundle.metadata["mask"])
    if receipt.pop("lines", None) is not None:
        receipt["sha256"] = hashlib.sha256(np.packbits(bundle.arrays["mask"].astype(bool)).tobytes()).hexdigest()
    return json.dumps(receipt)


def _provenance_header(provenance: Mapping[str, Any]) -> str:
    """The provenance as JSON on one line; the points of a large pattern are left to the files."""
    text = json.dumps(provenance, separators=(",", ":"))
    if len(text) <= _LONGEST_HEADER:
        return text
    mask = {**provenance["mask"], "pattern": None}
    return json.dumps({**provenance, "mask": mask}, separators=(",", ":"))


def _info_header(info: Mapping[str, Any]) -> str:
    """What the method tells of itself as JSON on one line; lists are left to the HDF5, but for what it warns of."""
    return json.dumps(
        {
            name: value
            for name, value in info.items()
            if name in ("notes", "warnings") or not isinstance(value, dict | list)
        }
    )


def _log_kspace(kspace: torch.Tensor) -> FloatArray:
    magnitude = torch.stack([rss(one) for one in kspace])
    shown = torch.log10(magnitude / magnitude.max()).clamp_min(FAINTEST)
    return _float_array(shown)


def _picture_numbers(arrays: Mapping[str, npt.NDArray[Any]], comparison: Comparison, index: int) -> dict[str, Any]:
    images = {name: arrays[f"image.{name}"][index] for name in comparison.reconstructions}
    reference = arrays["reference"][index] if "reference" in arrays else None
    shown = list(images.values()) if reference is None else [reference]
    high = max(float(np.percentile(image, WINDOW_PERCENTILE)) for image in shown)
    errors = [] if reference is None else [np.abs(image - reference) for image in images.values()]
    limit = max((float(np.percentile(error, ERROR_PERCENTILE)) for error in errors), default=0.0)
    first = next(iter(images.values()))
    return {
        "slice": index,
        "num_slices": int(next(iter(comparison.reconstructions.values())).image.shape[0]),
        "size": [int(first.shape[0]), int(first.shape[1])],
        "window": [0.0, high],
        "error_window": None if reference is None else [0.0, limit],
    }


def _images(bundle: Bundle) -> Images:
    numbers = bundle.metadata["images"]
    index, high = numbers["slice"], numbers["window"][1]
    limit = 0.0 if numbers["error_window"] is None else numbers["error_window"][1]
    reference = bundle.arrays["reference"][index] if "reference" in bundle.arrays else None

    def picture(title: str, image: FloatArray, top: float) -> str:
        text = {"Title": f"{title}, slice {index}", "Window": f"0 {top:.6g}", "Disclaimer": RESEARCH_ONLY}
        return base64.b64encode(gray_png(image, high=top, text=text)).decode("ascii")

    methods = {}
    for row in bundle.metadata["results"]:
        name = row["method"]
        image = bundle.arrays[f"image.{name}"][index]
        error = None if reference is None else picture(f"error of {name}", np.abs(image - reference), limit)
        methods[name] = MethodImages(image=picture(name, image, high), error=error)
    return Images.model_validate(
        {
            **numbers,
            "reference": None if reference is None else picture("reference", reference, high),
            "methods": methods,
        }
    )


def _float_array(image: Any) -> FloatArray:
    return np.asarray(image.detach().cpu().numpy(), dtype=np.float32)

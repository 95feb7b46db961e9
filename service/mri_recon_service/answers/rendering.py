"""Render a result for a client: HDF5, npy, npz, PNG, the files of `image_files`, or the JSON of a comparison.

npy, npz, PNG and JSON are made from a `Bundle` when a client asks for them. HDF5 and the other files are the library's
own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from mri_recon._arrays import center_window
from mri_recon.errors import OutputError
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.answers.bundle import Bundle, FloatArray, write_bundle
from mri_recon_service.answers.image_files import IMAGE_FILES, installed_image_files
from mri_recon_service.answers.png import gray_png
from mri_recon_service.job import Kind
from mri_recon_service.problems import Problem
from mri_recon_service.schemas import ComparisonAnswer, Images, MethodImages

if TYPE_CHECKING:
    from mri_recon.io.writers.result import Encoded

__all__ = [
    "HDF5",
    "JSON",
    "METHOD_OFFERS",
    "NPY",
    "NPZ",
    "OFFERS",
    "PNG",
    "Encode",
    "Rendered",
    "answer",
    "headers_of",
    "not_held",
    "render",
]

HDF5, NPY, NPZ, PNG = "application/x-hdf5", "application/x-npy", "application/x-npz", "image/png"
JSON = "application/json"
_SUFFIXES = {HDF5: "h5", NPY: "npy", NPZ: "npz", PNG: "png", JSON: "json"}

OFFERS: Mapping[Kind, Sequence[str]] = {
    "reconstruction": (HDF5, NPY, NPZ, PNG, *installed_image_files()),
    "comparison": (JSON, NPZ),
}
"""Representations of a result; the first is the default."""

METHOD_OFFERS: Sequence[str] = (HDF5, *installed_image_files())
"""Files of one method of a comparison; the first is the default."""

WINDOW_PERCENTILE = 99.0
"""Percentile of the shown slice that is displayed as white. A comparison takes it from its reference, if any."""

_LONGEST_HEADER = 12_000  # bytes: clients and proxies limit the length of headers


@dataclass(frozen=True)
class Rendered:
    """The body, in memory or in an open file, and the headers of an answer."""

    content: bytes | IO[bytes]
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


class Encode(Protocol):
    """Make a file of the library from a result."""

    def __call__(self, suffix: str) -> Encoded:
        """Make the file of a suffix.

        Raises:
            OutputError: an image that the format cannot hold.
        """
        ...


def render(bundle: Bundle, media_type: str, *, hdf5: Callable[[], bytes], encode: Encode) -> Rendered:
    """Render a result in one of `OFFERS`.

    Args:
        bundle: the result.
        media_type: the wanted representation.
        hdf5: reads or makes the HDF5 file; called only for that representation.
        encode: makes the file of a format of `image_files`; called only for these.

    Raises:
        Problem: not-acceptable, for an image that the format cannot hold.
    """
    if media_type in IMAGE_FILES:
        try:
            encoded = encode(IMAGE_FILES[media_type].suffix)
        except OutputError as error:
            raise not_held(media_type, error) from error
        content = bytes(encoded.content)
        # Headers hold ASCII; the sentence names what the format leaves out, and sides that nobody verified.
        extra = {"X-Left-Out": encoded.left_out.encode("ascii", "replace").decode()} if encoded.left_out else {}
    else:
        content, extra = _content(bundle, media_type, hdf5)
    return Rendered(content, media_type, {**headers_of(bundle, media_type), **extra})


def headers_of(bundle: Bundle, media_type: str) -> dict[str, str]:
    """Make the headers that describe a result. Of its arrays, `mask` is enough."""
    suffix = IMAGE_FILES[media_type].suffix.lstrip(".") if media_type in IMAGE_FILES else _SUFFIXES[media_type]
    headers = {} if media_type == JSON else {"Content-Disposition": f'attachment; filename="{bundle.kind}.{suffix}"'}
    headers["Vary"] = "Accept"
    if bundle.kind == "reconstruction":
        headers["X-Mask-Receipt"] = _mask_header(bundle)
        headers["X-Reconstruction-Info"] = _info_header(bundle.metadata["info"])
        headers["X-Provenance"] = _provenance_header(bundle.metadata["provenance"])
    return headers


def not_held(media_type: str, error: OutputError, offers: Sequence[str] | None = None) -> Problem:
    """Make the problem of an image that the format of a media type cannot hold; `offers` are all that there are."""
    valid = [one for one in offers or OFFERS["reconstruction"] if one != media_type]
    return Problem("not-acceptable", f"{error}; or ask by Accept for another type", valid=valid)


def answer(bundle: Bundle) -> ComparisonAnswer:
    """Make the JSON document of a comparison, with pictures of one slice."""
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
    """Draw the magnitude of one slice, centre-cropped to the scan's reconstruction size, and state its window."""
    about = bundle.metadata
    image: FloatArray = np.abs(bundle.arrays["image"][about["slice"]])
    image = image[center_window(image.shape, about["recon_size"])]
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
    """Write the receipt as one line of JSON. The SHA-256 of the packed lines replaces the lines, to keep it short."""
    receipt = dict(bundle.metadata["mask"])
    if receipt.pop("lines", None) is not None:
        receipt["sha256"] = hashlib.sha256(np.packbits(bundle.arrays["mask"].astype(bool)).tobytes()).hexdigest()
    return json.dumps(receipt)


def _provenance_header(provenance: Mapping[str, Any]) -> str:
    """Write the provenance as one line of JSON, without the points of a large pattern."""
    text = json.dumps(provenance, separators=(",", ":"))
    if len(text) <= _LONGEST_HEADER:
        return text
    mask = {**provenance["mask"], "pattern": None}
    return json.dumps({**provenance, "mask": mask}, separators=(",", ":"))


def _info_header(info: Mapping[str, Any]) -> str:
    """Write the method's report as one line of JSON; of its lists and objects, notes, warnings and the check alone."""
    return json.dumps(
        {
            name: value
            for name, value in info.items()
            if name in ("notes", "warnings", "holdout") or not isinstance(value, dict | list)
        }
    )


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

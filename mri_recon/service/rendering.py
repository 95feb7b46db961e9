"""What goes back to a client: HDF5, npy, PNG, and the JSON of a comparison with its pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.center import center_crop
from mri_recon.checkpoint import RESEARCH_ONLY
from mri_recon.compare import Comparison, jsonable
from mri_recon.io import save
from mri_recon.masks import ColumnMask, Mask
from mri_recon.service.pipeline import Outcome
from mri_recon.service.png import gray_png
from mri_recon.service.schemas import ComparisonAnswer, Images, MethodImages

__all__ = ["HDF5", "NPY", "PNG", "RENDERERS", "Rendered", "answer", "mask_header"]

HDF5, NPY, PNG = "application/x-hdf5", "application/x-npy", "image/png"

WINDOW_PERCENTILE = 99.0
"""White is this percentile of the shown slice: of the reference where there is one."""

ERROR_PERCENTILE = 99.5
"""White in an error map is the largest of this percentile over the methods."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rendered:
    """The body of an answer, and what belongs into its headers."""

    content: bytes
    filename: str
    headers: dict[str, str] = field(default_factory=dict)


def as_hdf5(outcome: Outcome) -> Rendered:
    """The file that `mri_recon.save` writes."""
    with tempfile.TemporaryDirectory(prefix="mri-recon-") as folder:
        path = Path(folder) / "reconstruction.h5"
        save(path, outcome.reconstruction, outcome.scan, outcome.mask)
        return Rendered(path.read_bytes(), path.name)


def as_npy(outcome: Outcome) -> Rendered:
    """`Reconstruction.image` as it is in Python, `(slice, h, w)`."""
    buffer = io.BytesIO()
    np.save(buffer, outcome.reconstruction.image.cpu().resolve_conj().numpy(), allow_pickle=False)
    return Rendered(buffer.getvalue(), "reconstruction.npy")


def as_png(outcome: Outcome) -> Rendered:
    """The magnitude of one slice, centre-cropped to the scan's reconstruction size, with its window stated."""
    magnitude = center_crop(outcome.reconstruction.magnitude[outcome.slice_index].cpu(), outcome.scan.recon_size)
    image = _float_array(magnitude)
    high = float(np.percentile(image, WINDOW_PERCENTILE))
    window = f"0 {high:.6g}"
    text = {
        "Title": f"{outcome.reconstruction.method}, slice {outcome.slice_index}",
        "Window": window,
        "Mask": json.dumps(jsonable(outcome.mask.receipt())),
        "Disclaimer": RESEARCH_ONLY,
    }
    headers = {"X-Preview-Slice": str(outcome.slice_index), "X-Preview-Window": window}
    return Rendered(gray_png(image, high=high, text=text), "reconstruction.png", headers)


RENDERERS: dict[str, Callable[[Outcome], Rendered]] = {HDF5: as_hdf5, NPY: as_npy, PNG: as_png}
"""Media type to renderer; the first is the default."""


def mask_header(mask: Mask) -> str:
    """The receipt as JSON on one line, the lines by the SHA-256 of their packed bits: a header has little room."""
    receipt = jsonable(mask.receipt())
    if isinstance(mask, ColumnMask):
        del receipt["lines"]
        receipt["sha256"] = hashlib.sha256(np.packbits(mask.lines).tobytes()).hexdigest()
    return json.dumps(receipt)


def info_header(info: dict[str, Any]) -> str:
    """What the method tells of itself as JSON on one line; lists a slice are left to the HDF5."""
    plain = jsonable(info)
    return json.dumps(
        {name: value for name, value in plain.items() if name == "notes" or not isinstance(value, dict | list)}
    )


def answer(comparison: Comparison, slice_index: int) -> ComparisonAnswer:
    """The JSON document of a comparison, with pictures of one slice."""
    return ComparisonAnswer.model_validate({**comparison.document(), "images": _images(comparison, slice_index)})


def _images(comparison: Comparison, index: int) -> Images:
    images = {name: _float_array(comparison.magnitude(name)[index]) for name in comparison.reconstructions}
    reference = None if comparison.target is None else _float_array(comparison.target[index])
    shown = list(images.values()) if reference is None else [reference]
    high = max(float(np.percentile(image, WINDOW_PERCENTILE)) for image in shown)
    errors = {} if reference is None else {name: np.abs(image - reference) for name, image in images.items()}
    limit = max((float(np.percentile(error, ERROR_PERCENTILE)) for error in errors.values()), default=0.0)

    def picture(title: str, image: FloatArray, top: float) -> str:
        text = {"Title": f"{title}, slice {index}", "Window": f"0 {top:.6g}", "Disclaimer": RESEARCH_ONLY}
        return base64.b64encode(gray_png(image, high=top, text=text)).decode("ascii")

    first = next(iter(images.values()))
    return Images(
        slice=index,
        num_slices=int(next(iter(comparison.reconstructions.values())).image.shape[0]),
        size=(int(first.shape[0]), int(first.shape[1])),
        window=(0.0, high),
        error_window=None if reference is None else (0.0, limit),
        reference=None if reference is None else picture("reference", reference, high),
        methods={
            name: MethodImages(
                image=picture(name, image, high),
                error=picture(f"error of {name}", errors[name], limit) if name in errors else None,
            )
            for name, image in images.items()
        },
    )


def _float_array(image: Any) -> FloatArray:
    return np.asarray(image.detach().cpu().numpy(), dtype=np.float32)

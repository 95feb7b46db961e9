"""Read a result in HDF5 or .npz back with everything that describes it, to write it in another format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon._system.hashes import file_sha256
from mri_recon.errors import FormatError
from mri_recon.io.formats.numpy_arrays import npz_arrays
from mri_recon.io.geometry import make_geometry
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.reading.access import check_regular
from mri_recon.io.reading.hdf5 import get_dataset, hdf5_errors, open_hdf5, read_array, read_attribute
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.writers.hdf5 import TRUST_MAP
from mri_recon.io.writers.result import SavedResult, software

__all__ = ["identified", "is_result", "read_saved", "read_saved_npz"]

_TEXTS = ("method", "source_file", "acquisition", "patient_id", "notice", "software", "simulated", NO_PICTURES)
_RECORDS = ("info", "mask", "geometry")
_MAX_WIDTH = 2**20
_FIRST_YEAR = 1980


def is_result(path: Path) -> bool:
    """Tell whether a file is HDF5 with a reconstruction and no k-space; False also for a file that cannot be read."""
    try:
        with open_hdf5(path, scan=False, foreign=True) as file, hdf5_errors(path):
            return "reconstruction" in file and "kspace" not in file
    except FormatError:
        return False


def read_saved(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> SavedResult:
    """Read a result that `save` wrote to HDF5; its provenance, which belongs to that file, is left out.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    with open_hdf5(path) as file:
        real, phased = get_dataset(file, "reconstruction"), get_dataset(file, "reconstruction_complex")
        if real is None:
            raise FormatError(f"expected a dataset 'reconstruction' in {path.name}, found none: it is no result")
        magnitude = read_array(real, max_bytes=max_bytes)
        image = magnitude if phased is None else read_array(phased, max_bytes=max_bytes)
        bound = get_dataset(file, TRUST_MAP)
        trust_map = None if bound is None else read_array(bound, max_bytes=max_bytes)
        metadata: dict[str, Any] = {}
        for name in _TEXTS:
            value = read_attribute(file, name)
            if value is not None:
                metadata[name] = value
        metadata |= {name: record for name in _RECORDS if (record := _record(file, name, path)) is not None}
        made = _made(file, path)
        recon_size = _recon_size(file, path)
    result = _result(path, magnitude, image, trust_map, metadata, recon_size)
    return replace(result, mask=_mask(metadata.get("mask")), made=made)


def read_saved_npz(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> SavedResult:
    """Read a result in `.npz`, of `save` or of the service; its provenance is left out.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    check_regular(path, "a saved reconstruction")
    arrays = npz_arrays(path, _npz_names(path), max_bytes=max_bytes)
    try:
        described = json.loads(arrays["metadata"].astype(np.uint8, casting="safe").tobytes())
    except (ValueError, RecursionError, TypeError) as error:
        raise FormatError(f"expected JSON in 'metadata' of {path.name}, got other data: save it again") from error
    if not isinstance(described, dict):
        raise FormatError(f"expected a record in 'metadata' of {path.name}, got another value: save it again")
    metadata = {name: described[name] for name in _TEXTS if isinstance(described.get(name), str | int | float)}
    metadata |= {name: described[name] for name in _RECORDS if isinstance(described.get(name), dict)}
    image = arrays["image"]
    with np.errstate(all="ignore"):
        magnitude = np.abs(image) if image.dtype.kind in "cfiu" else image
    size = described.get("recon_size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(isinstance(one, int) and one > 0 for one in size)
    ):
        raise FormatError(f"expected two whole numbers as recon_size of {path.name}, got others: save it again")
    recon_size = None if size is None else (size[0], size[1])
    result = _result(path, magnitude, image, arrays.get(TRUST_MAP), metadata, recon_size)
    mask = arrays["mask"] > 0 if "mask" in arrays else _mask(metadata.get("mask"))
    return replace(result, mask=mask, made=_created(described.get("provenance")))


def identified(result: SavedResult, path: Path) -> SavedResult:
    """Give a result the identity and the time of the file that holds it.

    The same file, written twice with the same accompanying tags by the same version, then becomes the same DICOM
    instances, which a PACS recognises.

    Args:
        result: read from the file, with the tags to write.
        path: the file.
    """
    named = json.dumps([file_sha256(path), software(), {key: str(value) for key, value in sorted(result.tags.items())}])
    made = result.made or datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    return replace(result, identity=hashlib.sha256(named.encode()).hexdigest(), made=made)


def _npz_names(path: Path) -> Callable[[Sequence[str]], Sequence[str]]:
    def choose(names: Sequence[str]) -> Sequence[str]:
        if not {"image", "metadata"} <= set(names):
            raise FormatError(
                f"expected the arrays 'image' and 'metadata' of a reconstruction in {path.name}, found "
                f"{', '.join(names[:8]) or 'none'}: it is no result"
            )
        return [name for name in ("image", "metadata", "mask", TRUST_MAP) if name in names]

    return choose


def _result(
    path: Path,
    magnitude: npt.NDArray[Any],
    image: npt.NDArray[Any],
    trust_map: npt.NDArray[Any] | None,
    metadata: dict[str, Any],
    recon_size: tuple[int, int] | None,
) -> SavedResult:
    """Check that the parts of a file fit each other."""
    if magnitude.ndim != 3 or magnitude.dtype.kind not in "iuf" or image.shape != magnitude.shape:
        raise FormatError(
            f"expected images (slice, h, w) in {path.name}, got {magnitude.shape} and {image.shape}: save it again"
        )
    if trust_map is not None and (trust_map.shape != magnitude.shape or trust_map.dtype.kind != "f"):
        raise FormatError(
            f"expected a map of trust of shape {magnitude.shape} in {path.name}, got {trust_map.dtype} "
            f"{trust_map.shape}: save it again"
        )
    geometry = make_geometry(metadata["geometry"]) if "geometry" in metadata else None
    if geometry is not None and geometry.positions is not None and len(geometry.positions) != len(magnitude):
        raise FormatError(
            f"expected a position for each of {len(magnitude)} slices in {path.name}, got {len(geometry.positions)}: "
            "save it again"
        )
    if recon_size is not None:
        metadata["recon_size"] = list(recon_size)
    return SavedResult(
        image=image if image.dtype.kind == "c" else np.abs(image.astype(np.float32)),
        magnitude=magnitude.astype(np.float32, copy=False),
        metadata=metadata,
        recon_size=recon_size,
        geometry=geometry,
        trust_map=None if trust_map is None else trust_map.astype(np.float32, copy=False),
    )


def _made(file: h5py.File, path: Path) -> datetime | None:
    try:
        return _created(_record(file, "provenance", path))
    except FormatError:  # a damaged record of the provenance does not keep the image from being read
        return None


def _created(provenance: Any) -> datetime | None:
    """Read from the record of a provenance when the image was computed; None if it does not say."""
    try:
        made = datetime.fromisoformat(str(provenance["created"]))
        return made if made.tzinfo is not None and made.year >= _FIRST_YEAR else None
    except (TypeError, KeyError, ValueError):
        return None


def _record(file: h5py.File, name: str, path: Path) -> dict[str, Any] | None:
    text = read_attribute(file, name)
    if text is None:
        return None
    try:
        value = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"expected JSON in the attribute {name} of {path.name}, got other text: save it again"
        ) from error
    return value if isinstance(value, dict) else None


def _recon_size(file: h5py.File, path: Path) -> tuple[int, int] | None:
    with hdf5_errors(path):
        if "recon_size" not in file.attrs:
            return None
        attribute = file.attrs.get_id("recon_size")
        if attribute.shape != (2,) or attribute.dtype.kind not in "iu":
            raise FormatError(f"expected two whole numbers as recon_size of {path.name}, got others: save it again")
        height, width = (int(one) for one in file.attrs["recon_size"])
    if min(height, width) < 1:
        raise FormatError(f"expected a positive recon_size in {path.name}, got {height} x {width}: save it again")
    return height, width


def _mask(receipt: Any) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Draw the lines of a mask's receipt again; None for a mask of single points, of which it has only a checksum."""
    try:
        width, lines = int(receipt["width"]), np.asarray(receipt["lines"], dtype=np.int64)
        if not 0 < width <= _MAX_WIDTH or lines.min(initial=0) < 0:
            return None
        mask = np.zeros(width, dtype=np.bool_)
        mask[lines] = True
    except (TypeError, KeyError, ValueError, IndexError, OverflowError):
        return None
    return mask

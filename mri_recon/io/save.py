"""Write reconstructions and scans, whole or not at all, and read results back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon._arrays import is_tensor, to_numpy
from mri_recon._system.files import check_target, unwritable, write_atomically
from mri_recon._system.outputs import check_suffix
from mri_recon._system.text import printable, storable
from mri_recon.errors import FormatError, OutputError, ShapeError
from mri_recon.io.geometry import Geometry, make_geometry
from mri_recon.io.pictures import NO_PICTURES, require_pictures_allowed
from mri_recon.io.reading.access import check_regular
from mri_recon.io.reading.hdf5 import get_dataset, hdf5_errors, open_hdf5, read_array
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.scan import Scan
from mri_recon.io.writers.bart import BART
from mri_recon.io.writers.dicom import DICOM, DICOM_SERIES
from mri_recon.io.writers.dicom_like import read_tags
from mri_recon.io.writers.hdf5 import HDF5, TRUST_MAP, hdf5_content, scan_header, write_dataset
from mri_recon.io.writers.matlab import MAT
from mri_recon.io.writers.mrd import MRD
from mri_recon.io.writers.nifti import NIFTI, NIFTI_GZ
from mri_recon.io.writers.numpy_arrays import NPY, NPZ
from mri_recon.io.writers.png import PNG
from mri_recon.io.writers.result import NOTICE, Encoded, SavedResult, Writer, notice_of, software
from mri_recon.masks.types import Mask

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

    from mri_recon.reconstruction import Reconstruction

__all__ = [
    "NOTICE",
    "RESULT_SUFFIXES",
    "SCAN_SUFFIXES",
    "WRITERS",
    "check_holds",
    "check_path",
    "encode_result",
    "encode_saved",
    "files_beside",
    "load_image",
    "load_result",
    "load_trust_map",
    "save",
    "save_scan",
    "write_encoded",
]

WRITERS: tuple[Writer, ...] = (HDF5, NPY, NPZ, MAT, PNG, DICOM, DICOM_SERIES, NIFTI, NIFTI_GZ, MRD, BART)
"""All formats of a reconstruction."""

RESULT_SUFFIXES = tuple(suffix for writer in WRITERS for suffix in writer.suffixes)
"""Suffixes that `save` accepts; the suffix selects the format."""

SCAN_SUFFIXES = HDF5.suffixes
"""Suffixes that `save_scan` accepts."""

_COMPLEX64 = 8  # bytes
_MAX_PROVENANCE = 16 << 20
"""Maximum length of a provenance in characters; a large 2-D pattern takes some hundred thousand."""


def save(
    path: str | Path,
    reconstruction: Reconstruction,
    scan: Scan | None = None,
    mask: Mask | None = None,
    *,
    provenance: BaseModel | None = None,
    like: str | Path | None = None,
) -> str:
    """Write a reconstruction in the format of the suffix, in one step: a half-written file is never seen.

    `.h5` and `.hdf5` hold everything: datasets `reconstruction`, float32 magnitudes `(slice, h, w)`,
    `reconstruction_complex`, complex64, if the method yields phase, and `trust_map`, float32, if there is one;
    attributes `method`, `info` and `mask` (JSON), `recon_size`, `source_file`, `acquisition`, `patient_id`, `geometry`
    (JSON), `notice`, `software`, and `provenance` (JSON) if given.
    `.npy` holds the image, complex64 if the method yields phase, else float32 magnitudes. `.npz` and `.mat` hold
    `image` (in `.mat` `reconstruction`, `(h, w, slice)`), `mask` and `metadata` (JSON); `.npz` holds `trust_map` too.
    `.png` holds 16-bit gray magnitudes, cropped to the scan's reconstruction size, with white as the largest value and
    the slices side by side.
    `.dcm` (DICOM), `.dcm.zip` (a DICOM series), `.nii`, `.nii.gz` (NIfTI, with a `.json` beside) and `.mrd` (ISMRMRD
    images) are cropped too and hold the geometry of the scan; `.cfl` (BART, with a `.hdr` beside) holds the image.

    Args:
        path: file to write or replace; if it is a symbolic link, its target is written.
        reconstruction: result of `reconstruct`.
        scan: the reconstructed scan, for the file's attributes; its own file is never replaced.
        mask: the mask of the reconstruction, for its receipt.
        provenance: a `mri_recon.results.provenance.Provenance`, from which `mri-recon replay` repeats the result.
        like: DICOM image of the same examination, whose patient, study and sequence a DICOM output takes over.

    Returns:
        One sentence about data that the format cannot hold; "" if it holds everything.

    Raises:
        ShapeError: an image that is not `(slice, h, w)`.
        OutputError: unknown suffix; a path that cannot be written, is the scan's own file, or is not an ordinary file;
            a full disk; an image that the format cannot hold.
        DataError: a `.png` of a scan that may not be pictured.
    """
    source = None if scan is None else scan.source
    check_path(path, RESULT_SUFFIXES, source)
    for one in files_beside(path).values():
        check_path(one, (), source)
    try:
        encoded = encode_result(Path(path).name, reconstruction, scan, mask, provenance=provenance, like=like)
    except OSError as error:
        raise unwritable(path, error) from error
    return write_encoded(path, encoded)


def write_encoded(path: str | Path, encoded: Encoded) -> str:
    """Write a file and those beside it, each in one step, and return what they leave out."""
    beside = files_beside(path)
    for suffix, content in encoded.beside.items():
        write_atomically(beside[suffix], content)
    write_atomically(path, encoded.content)
    return encoded.left_out


def save_scan(
    path: str | Path,
    kspace: Tensor | npt.NDArray[Any],
    *,
    target: Tensor | npt.NDArray[Any] | None = None,
    mask: Mask | None = None,
    recon_size: tuple[int, int] | None = None,
    padding: tuple[int, int] | None = None,
    acquisition: str | None = None,
    patient_id: str | None = None,
    geometry: Geometry | None = None,
    attributes: Mapping[str, str | float | bool] | None = None,
) -> None:
    """Write k-space in fastMRI's layout, in one step; `load` reads it back.

    Args:
        path: file to write or replace, `.h5` or `.hdf5`.
        kspace: complex `(slice, coil, readout, phase)`, or `(slice, readout, phase)` for a single coil.
        target: reference magnitudes `(slice, h, w)`, stored as `reconstruction_rss`, for one coil as
            `reconstruction_esc`.
        mask: the sampling mask, stored as `mask`.
        recon_size: height and width of the image; those of k-space by default.
        padding: first acquired column and the one after the last; all of them by default.
        acquisition: name of the sequence.
        patient_id: pseudonym of the subject, used for splits by subject.
        geometry: voxel size, position and orientation of the slices, stored as JSON in the attribute `geometry`.
        attributes: further attributes of the file.

    Raises:
        ShapeError: k-space that is not complex or has the wrong rank, or a target that does not fit.
        OutputError: unknown suffix; a path that cannot be written or is not an ordinary file; a full disk.
    """
    check_path(path, SCAN_SUFFIXES)
    data = to_numpy(kspace)
    if data.ndim not in (3, 4) or data.dtype.kind != "c":
        raise ShapeError(
            "expected complex k-space (slice, coil, readout, phase) or (slice, readout, phase), "
            f"got {data.dtype} {data.shape}: arrange it so"
        )
    readout, phase = int(data.shape[-2]), int(data.shape[-1])
    left, right = padding or (0, phase)
    if not 0 <= left < right <= phase:
        raise ShapeError(f"expected padding inside the {phase} columns, got {padding}: leave it out for all of them")
    image = None if target is None else _checked_target(to_numpy(target), int(data.shape[0]))
    coils = int(data.shape[1]) if data.ndim == 4 else 1
    extra: dict[str, Any] = {"acquisition": acquisition, "patient_id": patient_id, **(attributes or {})}
    if geometry is not None:
        extra["geometry"] = json.dumps(geometry.as_dict())
    if image is not None:
        extra |= {"max": float(image.max()), "norm": float(np.linalg.norm(image))}

    def fill(file: h5py.File) -> None:
        write_dataset(file, "kspace", data.astype(np.complex64, copy=False))
        header = scan_header((readout, phase), recon_size or (readout, phase), left, right, coils)
        file.create_dataset("ismrmrd_header", data=header)
        if image is not None:
            write_dataset(file, "reconstruction_rss" if coils > 1 else "reconstruction_esc", image)
        if mask is not None:
            file.create_dataset("mask", data=mask.array)
        file.attrs.update({name: _plain(value) for name, value in extra.items() if value is not None})

    _write_hdf5(path, fill)


def _checked_target(image: npt.NDArray[Any], num_slices: int) -> npt.NDArray[np.float32]:
    if image.ndim != 3 or image.shape[0] != num_slices or image.dtype.kind not in "iuf":
        raise ShapeError(
            f"expected a real target ({num_slices}, h, w), got {image.dtype} {image.shape}: give one image a slice"
        )
    return image.astype(np.float32)


def encode_result(
    suffix: str,
    reconstruction: Reconstruction,
    scan: Scan | None = None,
    mask: Mask | None = None,
    *,
    provenance: BaseModel | None = None,
    like: str | Path | None = None,
) -> Encoded:
    """Encode the file that `save` writes for a suffix.

    Raises:
        ShapeError: an image that is not `(slice, h, w)`.
        OutputError: unknown suffix, an image that the format cannot hold, or a library that is not installed.
        FormatError: `like` is no DICOM image.
    """
    image = to_numpy(reconstruction.image)
    if image.ndim != 3:
        raise ShapeError(
            f"expected an image (slice, h, w) to save, got shape {tuple(image.shape)}: add the axis of the slices"
        )
    check_holds(suffix, tuple(image.shape), {} if scan is None else scan.meta)
    metadata: dict[str, Any] = {"method": reconstruction.method, "info": dict(reconstruction.info)}
    if mask is not None:
        metadata["mask"] = mask.receipt()
    if scan is not None:
        metadata["recon_size"] = list(scan.recon_size)
        metadata.update(_from_meta(scan.meta))
    geometry = None if scan is None else scan.geometry
    if geometry is not None:
        metadata["geometry"] = geometry.as_dict()
    if provenance is not None:
        metadata["provenance"] = provenance.model_dump(mode="json")
    return _writer(suffix).encode(
        SavedResult(
            image=image.astype(np.complex64) if image.dtype.kind == "c" else np.abs(image.astype(np.float32)),
            magnitude=to_numpy(reconstruction.magnitude),
            metadata=_plain({**metadata, "notice": notice_of(metadata), "software": software()}),
            mask=None if mask is None else mask.array,
            recon_size=None if scan is None else scan.recon_size,
            geometry=geometry,
            tags={} if like is None else read_tags(like),
            trust_map=None if reconstruction.trust_map is None else to_numpy(reconstruction.trust_map),
        )
    )


def encode_saved(suffix: str | Path, result: SavedResult) -> Encoded:
    """Encode a result that was read back from a file.

    Raises:
        OutputError: unknown suffix, or an image that the format cannot hold.
    """
    return _writer(suffix).encode(result)


def check_holds(path: str | Path, shape: Sequence[int], meta: Mapping[str, Any]) -> None:
    """Refuse an image that the format of a file cannot hold or may not show; best called before the computation.

    Args:
        path: path of the result.
        shape: shape of the image.
        meta: `meta` of the scan.

    Raises:
        OutputError: unknown suffix, an image or geometry that the format cannot hold, or a library that is not
            installed.
        DataError: a picture of a scan that may not be pictured.
    """
    writer = _writer(path)
    size = math.prod(int(n) for n in shape) * _COMPLEX64
    if writer.max_bytes is not None and size > writer.max_bytes:
        raise OutputError(
            f"cannot write {printable(path)}: its format holds at most {writer.max_bytes} bytes an array, the image "
            f"{tuple(shape)} takes {size}: choose {HDF5.suffixes[0]}"
        )
    for library in writer.needs:
        if find_spec(library) is None:
            raise OutputError(
                f"expected the library {library} for {printable(path)}, it is not installed: "
                "pip install 'mri-recon[clinical]'"
            )
    if writer.max_side is not None and max(shape[-2:]) > writer.max_side:
        raise OutputError(
            f"cannot write {printable(path)}: its format holds at most {writer.max_side} rows and columns, the image "
            f"has {shape[-2]} x {shape[-1]}: choose {HDF5.suffixes[0]}"
        )
    if writer.check is not None and meta.get("geometry") is not None:
        writer.check(make_geometry(meta["geometry"]))
    if writer.is_picture:
        require_pictures_allowed(meta, what=f"the {writer.suffixes[0]}")


def load_image(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[np.float32]:
    """Load the magnitudes `(slice, h, w)` of a file that `save` wrote.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        dataset = get_dataset(file, "reconstruction")
        if dataset is None:
            raise FormatError(
                f"expected a dataset 'reconstruction' in {path.name}, found none: k-space is read with load"
            )
        image = read_array(dataset, max_bytes=max_bytes)
    if image.ndim != 3 or image.dtype.kind not in "iuf":
        raise FormatError(
            f"expected real images (slice, h, w) in {path.name}, got {image.dtype} of shape {image.shape}: "
            "save the result again"
        )
    return image.astype(np.float32, copy=False)


def load_trust_map(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[np.float32] | None:
    """Load the map of trust `(slice, h, w)` of a file that `save` wrote; None if it has none.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    path = Path(path)
    check_regular(path, "a saved reconstruction")
    with open_hdf5(path) as file:
        dataset = get_dataset(file, TRUST_MAP)
        if dataset is None:
            return None
        found = read_array(dataset, max_bytes=max_bytes)
    if found.ndim != 3 or found.dtype.kind != "f":
        raise FormatError(
            f"expected a real map of trust (slice, h, w) in {path.name}, got {found.dtype} of shape {found.shape}: "
            "save the result again"
        )
    return found.astype(np.float32, copy=False)


def load_result(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> tuple[npt.NDArray[Any], str | None]:
    """Load the image of a file that `save` wrote, complex64 or, without phase, float32, and the JSON of its provenance.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    path = Path(path)
    check_regular(path, "a saved reconstruction")
    with open_hdf5(path) as file, hdf5_errors(path):
        dataset = get_dataset(file, "reconstruction_complex")
        image = load_image(path, max_bytes=max_bytes) if dataset is None else read_array(dataset, max_bytes=max_bytes)
        if image.ndim != 3 or image.dtype.kind not in "cf":
            raise FormatError(
                f"expected images (slice, h, w) in {path.name}, got {image.dtype} of shape {image.shape}: "
                "save the result again"
            )
        text = file.attrs.get("provenance")
        if text is not None and (not isinstance(text, str) or len(text) > _MAX_PROVENANCE):
            raise FormatError(
                f"expected the provenance of {path.name} as one text, got {type(text).__name__}: rewrite it"
            )
    return image.astype(np.complex64 if dataset is not None else np.float32, copy=False), text


def _writer(path: str | Path) -> Writer:
    name = Path(path).name
    check_suffix(f"x{name}" if name.startswith(".") else name, RESULT_SUFFIXES)
    return next(writer for writer in WRITERS if name.lower().endswith(writer.suffixes))


def files_beside(path: str | Path) -> dict[str, Path]:
    """Return the further files that `save` writes with a file: their suffixes and paths; empty for most formats.

    Raises:
        OutputError: unknown suffix.
    """
    path, writer = Path(path), _writer(path)
    matched = next(suffix for suffix in writer.suffixes if path.name.lower().endswith(suffix))
    return {suffix: path.with_name(path.name[: -len(matched)] + suffix) for suffix in writer.beside}


def check_path(path: str | Path, suffixes: tuple[str, ...], source: Path | None = None) -> None:
    """Refuse, before encoding, each output that `write_atomically` or the format would refuse afterwards.

    Args:
        path: file to write.
        suffixes: allowed suffixes; an empty tuple allows any.
        source: file that must not be replaced.

    Raises:
        OutputError: as above.
    """
    try:
        found = check_target(path)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    check_suffix(path, suffixes)
    if found is not None and source is not None and source.exists() and os.path.samestat(found, source.stat()):
        raise OutputError(
            f"expected the name of a new file, got {printable(path)}, which the scan was loaded from: "
            "choose another name; nothing was written"
        )


def _write_hdf5(path: str | Path, fill: Callable[[h5py.File], None]) -> None:
    try:
        content = hdf5_content(fill)
    except OSError as error:
        raise unwritable(path, error) from error
    write_atomically(path, content)


def _from_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    names = {"file": "source_file", **{name: name for name in ("acquisition", "patient_id", "simulated", NO_PICTURES)}}
    return {new: meta[old] for old, new in names.items() if isinstance(meta.get(old), str | int | float | bool)}


def _plain(value: Any) -> Any:
    """Convert to JSON values: arrays to lists, numbers that are not finite to null, anything else to text."""
    if is_tensor(value) or isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {storable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else storable(str(value))

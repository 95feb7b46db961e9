"""Writing fastMRI-style HDF5: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon.errors import FormatError, ShapeError
from mri_recon.io.access import check_regular
from mri_recon.io.hdf5 import get_dataset, hdf5_errors, open_hdf5, read_array
from mri_recon.io.limits import DEFAULT_MAX_BYTES
from mri_recon.io.scan import Scan
from mri_recon.masks import ColumnMask, Mask

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mri_recon.methods import Reconstruction

__all__ = ["NOTICE", "load_image", "load_result", "save", "save_scan"]

NOTICE = "Research only: not a medical device, not for diagnosis or treatment."
"""What every file that is written says of itself."""


_MAX_PROVENANCE = 16 << 20
"""Most characters of a provenance that are read: a large 2-D pattern takes some hundred thousand."""


def save(
    path: str | Path,
    reconstruction: Reconstruction,
    scan: Scan | None = None,
    mask: Mask | None = None,
    *,
    provenance: BaseModel | None = None,
) -> None:
    """Write a reconstruction as HDF5, in one step: no reader, and no crash, sees half of it.

    Datasets: `reconstruction`, float32 magnitudes `(slice, h, w)`, and `reconstruction_complex`, complex64, where the
    method yields phase. Attributes: `method`, `info` and `mask` (JSON), `recon_size`, `source_file`, `acquisition`,
    `patient_id`, `notice`, `software`, and `provenance` (JSON) where given.

    Args:
        path: file to write or replace.
        reconstruction: what `reconstruct` returned.
        scan: where it came from, for the file's attributes.
        mask: what it was reconstructed from, for its receipt.
        provenance: a `mri_recon.provenance.Provenance`, with which `mri-recon replay` makes the result again.

    Raises:
        ShapeError: an image that is not `(slice, h, w)`.
        FormatError: the folder does not exist or cannot be written to.
    """
    image = reconstruction.image.detach().cpu()
    if image.ndim != 3:
        raise ShapeError(f"expected an image (slice, h, w) to save, got shape {tuple(image.shape)}")
    attributes: dict[str, Any] = {"method": reconstruction.method, "info": _json(reconstruction.info)}
    if mask is not None:
        attributes["mask"] = _json(mask.receipt())
    if scan is not None:
        attributes["recon_size"] = list(scan.recon_size)
        attributes.update(_from_meta(scan.meta))
    if provenance is not None:
        attributes["provenance"] = provenance.model_dump_json()
    with _replacing(Path(path)) as file:
        _write(file, "reconstruction", reconstruction.magnitude.detach().cpu().numpy())
        if image.is_complex():
            _write(file, "reconstruction_complex", image.to(torch.complex64).numpy())
        file.attrs.update({**attributes, "notice": NOTICE, "software": _software()})


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
    attributes: Mapping[str, str | float | bool] | None = None,
) -> None:
    """Write k-space in fastMRI's layout, in one step; `load` reads it back.

    Args:
        path: file to write or replace.
        kspace: complex `(slice, coil, readout, phase)`, or `(slice, readout, phase)` for a single coil.
        target: reference magnitudes `(slice, h, w)`: `reconstruction_rss`, for one coil `reconstruction_esc`.
        mask: what was sampled, stored as `mask`.
        recon_size: height and width of the image; k-space's own by default.
        padding: first acquired column and the one after the last; all of them by default.
        acquisition: name of the sequence.
        patient_id: pseudonym of the person; splits by person go by it.
        attributes: further attributes of the file.

    Raises:
        ShapeError: k-space that is not complex or of another rank, or a target that does not fit.
        FormatError: the folder does not exist or cannot be written to.
    """
    data = _to_numpy(kspace)
    if data.ndim not in (3, 4) or data.dtype.kind != "c":
        raise ShapeError(
            "expected complex k-space (slice, coil, readout, phase) or (slice, readout, phase), "
            f"got {data.dtype} {data.shape}"
        )
    readout, phase = int(data.shape[-2]), int(data.shape[-1])
    left, right = padding or (0, phase)
    if not 0 <= left < right <= phase:
        raise ShapeError(f"expected padding inside the {phase} columns, got {padding}")
    image = None if target is None else _to_numpy(target)
    if image is not None and (image.ndim != 3 or image.shape[0] != data.shape[0] or image.dtype.kind not in "iuf"):
        raise ShapeError(f"expected a real target ({data.shape[0]}, h, w), got {image.dtype} {image.shape}")
    coils = int(data.shape[1]) if data.ndim == 4 else 1
    extra: dict[str, Any] = {"acquisition": acquisition, "patient_id": patient_id, **(attributes or {})}
    with _replacing(Path(path)) as file:
        _write(file, "kspace", data.astype(np.complex64))
        file.create_dataset(
            "ismrmrd_header", data=_header((readout, phase), recon_size or (readout, phase), left, right, coils)
        )
        if image is not None:
            _write(file, "reconstruction_rss" if coils > 1 else "reconstruction_esc", image.astype(np.float32))
            extra |= {"max": float(image.max()), "norm": float(np.linalg.norm(image))}
        if mask is not None:
            file.create_dataset("mask", data=mask.lines if isinstance(mask, ColumnMask) else mask.pattern)
        file.attrs.update({name: value for name, value in extra.items() if value is not None})


def load_image(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[np.float32]:
    """The magnitudes `(slice, h, w)` of a file that `save` wrote.

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
            f"expected real images (slice, h, w) in {path.name}, got {image.dtype} of shape {image.shape}"
        )
    return image.astype(np.float32, copy=False)


def load_result(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> tuple[npt.NDArray[Any], str | None]:
    """The image of a file that `save` wrote, complex64 or, without phase, float32; and the JSON of its provenance.

    Raises:
        FormatError: not such a file, unsafe or damaged.
    """
    path = Path(path)
    check_regular(path, "a saved reconstruction")
    with open_hdf5(path) as file, hdf5_errors(path):
        dataset = get_dataset(file, "reconstruction_complex")
        image = load_image(path, max_bytes=max_bytes) if dataset is None else read_array(dataset, max_bytes=max_bytes)
        if image.ndim != 3 or image.dtype.kind not in "cf":
            raise FormatError(f"expected images (slice, h, w) in {path.name}, got {image.dtype} of shape {image.shape}")
        text = file.attrs.get("provenance")
        if text is not None and (not isinstance(text, str) or len(text) > _MAX_PROVENANCE):
            raise FormatError(
                f"expected the provenance of {path.name} as one text, got {type(text).__name__}: rewrite it"
            )
    return image.astype(np.complex64 if dataset is not None else np.float32, copy=False), text


@contextmanager
def _replacing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file beside `path` that takes its place once it is closed and on the disk."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        os.close(handle)
        temporary = Path(name)
        with h5py.File(temporary, "w") as file:
            yield file
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)  # a temporary file is private; a result is not
        temporary.replace(path)
        temporary = None
    except OSError as error:
        reason = error.strerror or "the disk may be full"
        raise FormatError(f"cannot write {path} ({reason}): choose a file in a folder that exists") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _write(file: h5py.File, name: str, data: npt.NDArray[Any]) -> None:
    """One chunk a slice, so that slices are read alone; checksums, so that damage is found."""
    chunks = (1, *data.shape[1:]) if data.size else None
    file.create_dataset(name, data=data, chunks=chunks, fletcher32=chunks is not None)


def _to_numpy(array: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _from_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    names = {"file": "source_file", "acquisition": "acquisition", "patient_id": "patient_id", "simulated": "simulated"}
    return {new: meta[old] for old, new in names.items() if isinstance(meta.get(old), str | int | float | bool)}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(_plain(content), allow_nan=False)


def _plain(value: Any) -> Any:
    """What JSON can hold: arrays become lists, numbers that are not finite become null, the rest its text."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _software() -> str:
    try:
        return f"mri-recon {version('mri-recon')}"
    except PackageNotFoundError:  # run from a copy that was not installed
        return "mri-recon"


def _header(size: tuple[int, int], recon: tuple[int, int], left: int, right: int, coils: int) -> str:
    """A minimal ISMRMRD header: sizes (x readout, y phase), and limits that make `Header.padding` (left, right)."""
    center, maximum = size[1] // 2 - left, right - left - 1

    def space(name: str, x: int, y: int) -> str:
        field = "<fieldOfView_mm><x>1</x><y>1</y><z>1</z></fieldOfView_mm>"  # not known here; the schema wants it
        return f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>{field}</{name}>"

    limits = f"<minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"<acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{space('encodedSpace', *size)}{space('reconSpace', *recon)}"
        f"<encodingLimits><kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
        f"<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )

"""Describe files of results, for `mri-recon info`: a reconstruction in HDF5 or .npz, DICOM files and series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon._system.text import plural

if TYPE_CHECKING:
    from mri_recon.io.writers.result import SavedResult
    from mri_recon.pacs.instances import Instance

__all__ = ["describe_result"]

_BEGINNING = 132
"""Bytes of a file that tell HDF5, ZIP and DICOM apart."""


def describe_result(path: Path) -> list[tuple[str, str]] | None:
    """List (name, value) pairs to print about a result that this program wrote; None for any other file.

    Raises:
        FormatError: a result that is damaged, or DICOM without the library that reads it.
    """
    from mri_recon.io.saved import is_result, read_saved, read_saved_npz

    try:
        with path.open("rb") as stream:
            head = stream.read(_BEGINNING)
    except (OSError, ValueError):  # the reader of k-space says why
        return None
    if head.startswith(b"PK\x03\x04"):
        names, has_dicom = _inside(path)
        if {"image", "metadata"} <= names:
            return _of_saved(read_saved_npz(path), "NumPy .npz")
        return _of_dicom(path) if has_dicom else None
    if _is_dicom(head):
        return _of_dicom(path)
    return _of_saved(read_saved(path), "HDF5") if is_result(path) else None


def _is_dicom(head: bytes) -> bool:
    return head[128:_BEGINNING] == b"DICM"


def _inside(path: Path) -> tuple[set[str], bool]:
    """Name the arrays of a ZIP file, and tell whether its first file is DICOM; nothing if it cannot be read."""
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            arrays = {one.filename.removesuffix(".npy") for one in members if one.filename.endswith(".npy")}
            if arrays or not members:
                return arrays, False
            with archive.open(members[0]) as stream:
                return arrays, _is_dicom(stream.read(_BEGINNING))
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return set(), False


def _of_saved(result: SavedResult, written: str) -> list[tuple[str, str]]:
    from mri_recon.masks.caption import mask_caption

    known = result.metadata
    count, height, width = result.image.shape
    info = known.get("info", {})
    lines = [
        ("format", f"{written}, a result of mri-recon"),
        ("method", str(known.get("method", "not known"))),
        ("image", f"{plural(count, 'slice')} x {height} x {width}, {result.image.dtype}"),
        *([] if result.recon_size is None else [("reconstruction size", "{} x {}".format(*result.recon_size))]),
        *([("mask", mask_caption(known["mask"]))] if "mask" in known else []),
        *([] if result.geometry is None else result.geometry.describe()),
        ("source", str(known.get("source_file", ""))),
        ("acquisition", str(known.get("acquisition", ""))),
        ("map of trust", "none" if result.trust_map is None else "yes"),
        *([] if result.made is None else [("computed", result.made.isoformat(timespec="seconds"))]),
        ("software", str(known.get("software", ""))),
        *(("warning", str(one)) for one in info.get("warnings", ())),
        ("notice", str(known.get("notice", ""))),
    ]
    return [(name, value) for name, value in lines if value]


def _of_dicom(path: Path) -> list[tuple[str, str]] | None:
    from mri_recon.pacs.instances import ForeignError, collect

    try:
        instances = collect([path]).instances
    except ForeignError:
        return None
    series: dict[str, list[Instance]] = {}
    for one in instances:
        series.setdefault(one.series, []).append(one)
    what = f"{plural(len(instances), 'file')} in {len(series)} series" if len(instances) > 1 else "one file"
    lines = [("format", f"DICOM, {what}, a result of mri-recon")]
    for found in series.values():
        lines += _of_series(found)
    return lines


def _of_series(found: list[Instance]) -> list[tuple[str, str]]:
    data = found[0].dataset()
    frames = int(data.get("NumberOfFrames", 1)) if len(found) == 1 else len(found)
    spacing = data.get("PixelSpacing") or data.get("NominalScannedPixelSpacing")
    rows = [
        ("series", found[0].description),
        ("image", f"{plural(frames, 'slice')} x {data.Rows} x {data.Columns}, {data.BitsStored} bits"),
        ("kind", str(data.SOPClassUID.name)),
        ("pixels", "" if spacing is None else f"{float(spacing[0]):.4g} x {float(spacing[1]):.4g} mm"),
        ("patient", found[0].patient_id),
        ("made", str(data.get("DerivationDescription", ""))),
    ]
    return [(name, value) for name, value in rows if value]

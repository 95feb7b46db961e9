"""Read magnitude images from DICOM: one file, or a folder with the files of one series.

The slices become `(slice, readout, phase)`, sorted along their normal. Phase runs along the columns, unless In-plane
Phase Encoding Direction says COL. DICOM PS3.3 2024e: C.7.6.2 (Image Plane), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.geometry import PATIENT_POSITIONS, Directions, Geometry, Vector
from mri_recon.io.reading.access import cannot_read, check_regular
from mri_recon.io.reading.limits import check_declared
from mri_recon_data.magnitudes.images import MagnitudeImages, finish

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["read_dicom"]

_MAX_FILES = 10_000
_SAME = 1e-3
_KINDS = ("MR", "OT", "SC", "")
_NO_MAGNITUDE = ("P", "PHASE", "R", "REAL", "I", "IMAGINARY", "PHASE MAP")
_ABOUT = (
    "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType", "InstanceNumber", "Rows",
    "Columns", "NumberOfFrames", "BitsAllocated",
)  # fmt: skip


@dataclass(frozen=True)
class _Slice:
    """Hold one slice with its place: position and orientation of DICOM, sizes in mm; None where it has none."""

    pixels: npt.NDArray[np.float32]
    number: int
    corner: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    phase_along: str
    """In-plane Phase Encoding Direction: ROW, COL (COLUMN), or "" where it is not known."""


def read_dicom(path: Path, *, series: str | None, max_bytes: int) -> MagnitudeImages:
    """Read the slices of one series; see `mri_recon_data.magnitudes.images.read_images`.

    Raises:
        FormatError: damaged, no MR magnitudes, slices of several sizes or orientations, or several series.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise FormatError(
            "expected the library pydicom for DICOM, it is not installed: pip install 'mri-recon[clinical]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that break the standard; they are checked here
            return _read_volume(path, series, max_bytes)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # values are decoded at first use, and fail in many ways where they are damaged
        raise _damaged(path.name or str(path)) from error


def _read_volume(path: Path, series: str | None, max_bytes: int) -> MagnitudeImages:
    files = _series(path, series) if path.is_dir() else [path]
    name = path.name or str(path)
    first = _read(files[0], pixels=False)
    count = len(files) * _whole(first, "NumberOfFrames", 1)
    check_declared((count, _whole(first, "Rows", 0), _whole(first, "Columns", 0)), 4, where=name, max_bytes=max_bytes)
    slices: list[_Slice] = []
    for file in files:
        data = _read(file, pixels=True)
        _check_kind(data, file.name)
        slices += _slices(data, file.name)
    sizes = Counter(one.pixels.shape for one in slices)
    if len(sizes) > 1:
        told = ", ".join(f"{number} of {h}x{w}" for (h, w), number in sizes.most_common(4))
        raise FormatError(f"expected slices of one size in {name}, got {told}: keep the files of one volume")
    slices, geometry, notes = _placed(slices, str(first.get("PatientPosition", "")), name)
    magnitude = np.stack([one.pixels for one in slices])
    if slices[0].phase_along.startswith("COL"):
        magnitude = np.ascontiguousarray(magnitude.transpose(0, 2, 1))
        geometry = None if geometry is None else _transposed(geometry)
    acquisition = str(first.get("ProtocolName") or first.get("SeriesDescription") or "")[:64]
    return finish(magnitude, geometry, path, files, notes, "".join(one for one in acquisition if one.isprintable()))


def _series(folder: Path, wanted: str | None) -> list[Path]:
    """Find the files of the series of a folder."""
    found: dict[str, list[tuple[int, Path]]] = {}
    about: dict[str, Any] = {}
    try:
        names = sorted(one for one in folder.rglob("*") if one.is_file())
    except OSError as error:
        raise cannot_read(folder, error) from error
    if len(names) > _MAX_FILES:
        raise FormatError(f"expected at most {_MAX_FILES} files in {folder.name}, got more: keep those of one series")
    for path in names:
        if path.name.upper() == "DICOMDIR" or not _is_dicom(path):
            continue
        data = _read(path, pixels=False)
        uid = str(data.get("SeriesInstanceUID", ""))
        found.setdefault(uid, []).append((_whole(data, "InstanceNumber", 0), path))
        about.setdefault(uid, data)
    if not found:
        raise FormatError(f"expected DICOM images in the folder {folder.name}, found none: name another one, or a file")
    chosen = [uid for uid in found if wanted in (None, uid, str(about[uid].get("SeriesNumber", "")))]
    if len(chosen) == 1:
        return [path for _, path in sorted(found[chosen[0]])]
    listed = "; ".join(_title(uid, about[uid], len(found[uid])) for uid in (chosen or list(found))[:8])
    got = f"{len(chosen)}" if wanted is None or chosen else f"none with the number {wanted}"
    raise FormatError(
        f"expected one series in the folder {folder.name}, got {got}: choose one with --series NUMBER, among {listed}"
    )


def _title(uid: str, data: Dataset, count: int) -> str:
    number, text = data.get("SeriesNumber"), str(data.get("SeriesDescription", ""))[:40]
    return f"{uid if number is None else number} ({text!a}, {count} files)"


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise cannot_read(path, error) from error


def _read(path: Path, *, pixels: bool) -> Dataset:
    from pydicom import dcmread

    check_regular(path, "a DICOM image")
    try:
        data = dcmread(path) if pixels else dcmread(path, stop_before_pixels=True)
        for keyword in _ABOUT:  # values are decoded at first use, which fails for damaged ones
            data.get(keyword)
    except Exception as error:  # pydicom raises errors of many kinds for damaged files
        raise _damaged(path.name) from error
    return data


def _damaged(name: str) -> FormatError:
    return FormatError(f"expected a DICOM image, got {name}, which is none, damaged or cut short: copy it again")


def _check_kind(data: Dataset, name: str) -> None:
    modality = str(data.get("Modality", ""))
    if modality not in _KINDS:
        raise FormatError(f"expected MR images, {name} is of the modality {modality[:16]!a}: name MR magnitudes")
    kinds = [str(one).upper() for one in data.get("ImageType") or ()]
    wrong = next(
        (one for one in (*kinds[2:], str(data.get("ComplexImageComponent", ""))) if one in _NO_MAGNITUDE), None
    )
    if wrong is not None:
        raise FormatError(f"expected magnitudes, {name} is of the image type {wrong}: name the magnitude images")
    if "PixelData" not in data:
        raise FormatError(f"expected pixels in {name}, found none: it holds other data (a report, raw data)")
    if int(data.get("SamplesPerPixel") or 1) != 1:
        raise FormatError(f"expected gray images, {name} is in colour: name the magnitude images")


def _slices(data: Dataset, name: str) -> Iterator[_Slice]:
    """Yield the slices of a file: one, or the frames of a multi-frame image."""
    try:
        pixels = np.asarray(data.pixel_array)
    except Exception as error:  # damaged, or compressed in a way whose decoder is not installed
        syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and getattr(syntax, "is_compressed", False):
            raise FormatError(
                f"expected pixels that can be decoded in {name}, they are compressed ({syntax.name}): decompress them "
                "first, for example with dcmdjpeg or gdcmconv --raw"
            ) from error
        raise _damaged(name) from error
    if pixels.ndim not in (2, 3):
        raise FormatError(f"expected gray images in {name}, got pixels of shape {pixels.shape}: name the magnitudes")
    try:
        shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
        frames = data.get("PerFrameFunctionalGroupsSequence") or []
        for number, plane in enumerate(pixels[None] if pixels.ndim == 2 else pixels):
            groups = [
                one for one in (frames[number] if number < len(frames) else None, shared, data) if one is not None
            ]
            slope = _number(groups, "PixelValueTransformationSequence", "RescaleSlope")
            shift = _number(groups, "PixelValueTransformationSequence", "RescaleIntercept")
            yield _Slice(
                plane.astype(np.float32) * np.float32(1.0 if slope is None else slope) + np.float32(shift or 0.0),
                number if pixels.ndim == 3 else _whole(data, "InstanceNumber", 0),
                _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3),
                _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
                _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2),
                _number(groups, "PixelMeasuresSequence", "SliceThickness"),
                str(_value(groups, "MRFOVGeometrySequence", "InPlanePhaseEncodingDirection") or ""),
            )
    except FormatError:
        raise
    except Exception as error:
        raise _damaged(name) from error


def _value(groups: Sequence[Any], sequence: str, keyword: str) -> Any:
    """Find a value in the functional groups of a frame, those of all frames, or the image itself."""
    for group in groups:
        inner = group.get(sequence)
        for place in (*(inner or ()), group):
            value = place.get(keyword)
            if value not in (None, ""):
                return value
    return None


def _number(groups: Sequence[Any], sequence: str, keyword: str) -> float | None:
    value = _value(groups, sequence, keyword)
    return None if value is None else float(value)


def _numbers(groups: Sequence[Any], sequence: str, keyword: str, count: int) -> tuple[float, ...] | None:
    value = _value(groups, sequence, keyword)
    found = None if value is None else tuple(float(one) for one in value)
    return found if found is not None and len(found) == count else None


def _placed(slices: list[_Slice], position: str, name: str) -> tuple[list[_Slice], Geometry | None, list[str]]:
    """Sort slices by their places and make their geometry; by their numbers where they have no place."""
    position = position if position in PATIENT_POSITIONS else ""
    first = slices[0]
    ordered = sorted(slices, key=lambda one: one.number)
    if first.spacing is None:
        return ordered, None, ["the files have no voxel size and no place in the patient"]
    thickness = first.thickness
    notes = [] if thickness else ["the files have no slice thickness: 1 mm is assumed"]
    voxel = (first.spacing[0], first.spacing[1], thickness or 1.0)
    if first.orientation is None or any(one.corner is None for one in slices):
        return ordered, _sizes_alone(voxel, position), [*notes, "the files have no place in the patient"]
    for one in slices:
        if one.orientation is None or np.abs(np.subtract(one.orientation, first.orientation)).max() > _SAME:
            raise FormatError(f"expected parallel slices in {name}, got several orientations: keep one stack of files")
        if one.spacing is None or np.abs(np.subtract(one.spacing, first.spacing)).max() > _SAME * first.spacing[0]:
            raise FormatError(f"expected pixels of one size in {name}, got several: keep the files of one volume")
    row, column = np.reshape(first.orientation, (2, 3))  # along increasing column, and along increasing row
    normal = np.cross(row, column)
    along = [float(np.dot(normal, one.corner or ())) for one in slices]
    order = np.argsort(along, kind="stable")
    steps = np.diff(np.asarray(along)[order])
    if steps.size and float(steps.min()) < _SAME:
        raise FormatError(
            f"expected one image at each place in {name}, got several (echoes, repetitions or magnitude and phase?): "
            "keep the files of one volume"
        )
    ordered = [slices[int(one)] for one in order]
    h, w = first.pixels.shape
    shift = (h // 2) * voxel[0] * column + (w // 2) * voxel[1] * row
    places = tuple(_vector(np.asarray(one.corner) + shift) for one in ordered)
    if not thickness and steps.size:
        voxel, notes = (*voxel[:2], float(np.median(steps))), ["the slice thickness is taken from the distances"]
    try:
        return ordered, Geometry(voxel, places, (_vector(column), _vector(row), _vector(normal)), position), notes
    except FormatError as error:
        return ordered, _sizes_alone(voxel, position), [*notes, f"the place in the patient is left out ({error})"]


def _sizes_alone(voxel: Vector, position: str) -> Geometry | None:
    try:
        return Geometry(voxel, patient_position=position)
    except FormatError:
        return None


def _transposed(geometry: Geometry) -> Geometry:
    """Exchange readout and phase; the pixel `(h // 2, w // 2)` of a slice stays where it is."""
    x, y, z = geometry.voxel_size
    directions: Directions | None = None
    if geometry.directions is not None:
        directions = (geometry.directions[1], geometry.directions[0], geometry.directions[2])
    return Geometry((y, x, z), geometry.positions, directions, geometry.patient_position)


def _whole(data: Dataset, keyword: str, default: int) -> int:
    try:
        value = data.get(keyword)
        return default if value in (None, "") else int(value)
    except Exception:  # a damaged value
        return default


def _vector(values: Any) -> Vector:
    x, y, z = (float(one) for one in values)
    return x, y, z

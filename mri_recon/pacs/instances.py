"""Find the DICOM instances in results: a file, a folder, a series in a ZIP file, or a result in HDF5 or .npz.

Only images that this program wrote are taken, unless others are asked for: DERIVED, with this program as contributing
equipment, and with the notice that they are for research.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon._system.text import printable
from mri_recon.errors import FormatError
from mri_recon.io.reading.access import cannot_read, check_regular
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.save import check_holds, encode_saved
from mri_recon.io.saved import identified, is_result, read_saved, read_saved_npz
from mri_recon.io.writers.dicom_like import read_tags
from mri_recon.io.writers.result import NOTICE, SavedResult

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Collected", "ForeignError", "Instance", "collect"]

_SERIES = "x.dcm.zip"
_SOFTWARE = "mri-recon"
_PREAMBLE = 132  # bytes, the last four of them DICM
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory: a list of files, no image
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    zlib.error,
)
_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "ImageType", "ImageComments",
    "ContributingEquipmentSequence", "PatientID", "SeriesDescription",
)  # fmt: skip


class ForeignError(FormatError):
    """A DICOM image that another program wrote."""


@dataclass(frozen=True)
class Instance:
    """One DICOM instance that can be sent.

    Attributes:
        name: the file, and its name in a ZIP file or result, for messages.
        sop_class, sop_instance, series, study, transfer_syntax: its unique identifiers.
        description: Series Description.
        patient_id: Patient ID.
        read: reads its bytes, a DICOM file.
    """

    name: str
    sop_class: str
    sop_instance: str
    series: str
    study: str
    transfer_syntax: str
    description: str = ""
    patient_id: str = ""
    read: Callable[[], bytes] = field(default=lambda: b"", repr=False, compare=False)

    def dataset(self) -> Dataset:
        """Read the instance.

        Raises:
            FormatError: it changed or is gone since it was found.
        """
        from pydicom import dcmread

        try:
            data = dcmread(io.BytesIO(self.read()))
            unchanged = data.SOPInstanceUID == self.sop_instance
        except Exception as error:  # pydicom raises errors of many kinds for damaged files
            raise FormatError(f"{self.name} was there and cannot be read any more: check the disk") from error
        if not unchanged:
            raise FormatError(f"{self.name} has changed since it was checked: send it again")
        return data


@dataclass(frozen=True)
class Collected:
    """Instances to send, in order, and what was left out.

    Attributes:
        instances: each once.
        notes: one sentence for each group of files that were left out.
    """

    instances: Sequence[Instance]
    notes: Sequence[str] = ()


def collect(
    results: Iterable[Path], *, like: Path | None = None, foreign: bool = False, max_bytes: int = DEFAULT_MAX_BYTES
) -> Collected:
    """Find the instances in results; nothing is sent and nothing is written.

    A result in HDF5 or `.npz` becomes a series as in `.dcm.zip`. Its identifiers are derived from the content of the
    file, from the image `like` and from the version of this program: sent again, they are the same.

    Args:
        results: DICOM files, folders of them, `.dcm.zip`, `.h5` or `.npz`.
        like: DICOM image of the same examination, for `.h5` and `.npz`, see `save`.
        foreign: whether DICOM that this program did not write is taken too.
        max_bytes: largest file.

    Raises:
        FormatError: no such file, no DICOM and no result, damaged, two instances of one identifier, pydicom is not
            installed, or an image of another program without `foreign`.
        OutputError: a result that DICOM cannot hold.
        DataError: a result of a scan that may not be pictured.
    """
    found: dict[str, Instance] = {}
    notes: list[str] = []
    used_like = False
    for path in results:
        source, made = _sources(path, like, max_bytes, notes)
        used_like = used_like or made
        for name, read in source:
            one = _instance(name, read, foreign=foreign)
            earlier = found.setdefault(one.sop_instance, one)
            if earlier is not one and _digest(earlier) != _digest(one):
                raise FormatError(
                    f"expected one content for each instance, got two of SOP Instance UID {one.sop_instance}: "
                    f"{earlier.name} and {one.name}; send one of them"
                )
    if like is not None and not used_like:
        raise FormatError(
            "expected a result in .h5 or .npz for --like, got DICOM alone, which is sent as it is: leave it out"
        )
    return Collected(tuple(found.values()), tuple(notes))


Source = Iterator[tuple[str, Callable[[], bytes]]]
"""Names of DICOM files, and functions that read them."""


def _sources(path: Path, like: Path | None, max_bytes: int, notes: list[str]) -> tuple[Source, bool]:
    """Find the DICOM files of one result, and tell whether they were made from images."""
    _require_pydicom()
    if path.is_dir():
        return _of_folder(path, max_bytes, notes), False
    check_regular(path, "a DICOM file, a folder of them, .dcm.zip, or a result in .h5 or .npz")
    head = _head(path)
    if _is_dicom(head):
        return iter([(path.name, partial(_read, path, max_bytes))]), False
    if head[:4] == b"PK\x03\x04" and not _is_npz(path):
        return _of_zip(path, max_bytes), False
    if head[:4] == b"PK\x03\x04":
        return _of_result(path, read_saved_npz(path, max_bytes=max_bytes), like), True
    if is_result(path):
        return _of_result(path, read_saved(path, max_bytes=max_bytes), like), True
    raise FormatError(
        f"expected DICOM, a folder of it, .dcm.zip, or a result of reconstruct in .h5 or .npz, got {path.name}, which "
        "is none of them: reconstruct k-space first, and write one of these formats"
    )


def _of_folder(folder: Path, max_bytes: int, notes: list[str]) -> Source:
    others, num_found = [], 0
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if not path.is_file() or not _is_dicom(_head(path)):
                others.append(path.name)
                continue
            if _is_directory(path, max_bytes):
                continue
            num_found += 1
            yield str(path.relative_to(folder.parent)), partial(_read, path, max_bytes)
    if not num_found:
        raise FormatError(f"expected DICOM files in the folder {folder}, found none: name another folder")
    if others:
        shown = ", ".join(map(printable, others[:3])) + (", ..." if len(others) > 3 else "")
        notes.append(f"{folder}: {len(others)} files that are no DICOM are not sent ({shown})")


def _raise(error: OSError) -> None:
    raise cannot_read(Path(error.filename or ""), error) from error


def _of_zip(path: Path, max_bytes: int) -> Source:
    wrong = FormatError(f"expected a ZIP file of DICOM, got {path.name}, which is damaged, encrypted or cut short")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
    except _ZIP_DAMAGE as error:
        raise wrong from error
    if not members:
        raise FormatError(f"expected DICOM files in {path.name}, found none: name another file")
    if sum(one.file_size for one in members) > max_bytes:
        raise FormatError(f"{path.name} unpacks to more than {max_bytes} bytes: unpack it, and send the folder")

    def read(member: zipfile.ZipInfo) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)
        except _ZIP_DAMAGE as error:
            raise wrong from error

    for one in members:
        yield f"{path.name}:{one.filename}", partial(read, one)


def _of_result(path: Path, result: SavedResult, like: Path | None) -> Source:
    check_holds(_SERIES, result.image.shape, {**result.metadata, "file": path.name})
    tags = {} if like is None else read_tags(like)
    tagged = replace(result, metadata={**result.metadata, "notice": NOTICE}, tags=tags)
    content = encode_saved(_SERIES, identified(tagged, path)).content
    archive = zipfile.ZipFile(io.BytesIO(content))
    for name in archive.namelist():
        yield f"{path.name}:{name}", partial(archive.read, name)


def _instance(name: str, read: Callable[[], bytes], *, foreign: bool) -> Instance:
    from pydicom import dcmread

    name = printable(name)
    content = read()
    try:
        data = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=list(_TAGS))
        texts = {keyword: str(getattr(data, keyword, "") or "") for keyword in _TAGS}
        syntax = str(getattr(data.file_meta, "TransferSyntaxUID", ""))
        own = foreign or _is_own(data)
    except Exception as error:  # pydicom raises errors of many kinds for damaged files
        raise FormatError(f"expected DICOM, got {name}, which is none or is damaged: write or copy it again") from error
    identifiers = [texts[one] for one in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    if not all([*identifiers, syntax]):
        raise FormatError(
            f"expected SOP class, instance, series, study and transfer syntax in {name}, one is missing: write it again"
        )
    if not own:
        raise ForeignError(
            f"expected DICOM that mri-recon wrote (DERIVED, mri-recon as contributing equipment, the research-only "
            f"notice), got {name}, which is not: leave it out, or send it with --foreign"
        )
    sop_class, sop_instance, series, study = identifiers
    about = printable(texts["SeriesDescription"]), printable(texts["PatientID"])
    return Instance(name, sop_class, sop_instance, series, study, syntax, *about, read)


def _is_own(data: Dataset) -> bool:
    """Tell whether this program wrote an image, and its notice is still in it."""
    kind = data.get("ImageType") or [""]
    equipment = data.get("ContributingEquipmentSequence") or []
    made_here = any(str(item.get("ManufacturerModelName", "")) == _SOFTWARE for item in equipment)
    return kind[0] == "DERIVED" and made_here and NOTICE in str(data.get("ImageComments", ""))


def _is_directory(path: Path, max_bytes: int) -> bool:
    from pydicom.filereader import read_file_meta_info

    try:
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", "")) == _DIRECTORY
    except Exception:  # told later, by name
        return False


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise FormatError("expected the library pydicom, it is not installed: pip install 'mri-recon[pacs]'") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE)
    except OSError as error:
        raise cannot_read(path, error) from error


def _is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except _ZIP_DAMAGE:
        return False


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if path.stat().st_size > max_bytes:
            raise FormatError(f"{path.name} has more than {max_bytes} bytes: send smaller files, e.g. one a slice")
        return path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error


def _digest(instance: Instance) -> str:
    return hashlib.sha256(instance.read()).hexdigest()

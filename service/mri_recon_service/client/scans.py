"""Turn what a user has, a path, an array or the bytes of a file, into open files to send."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mri_recon._system.files import write_atomically
from mri_recon._system.inputs import cannot_read, check_regular
from mri_recon._system.text import printable
from mri_recon.errors import ConfigError, FormatError, ShapeError
from mri_recon_service.client.wire import Call, File, Transport

__all__ = ["DrawnMask", "MaskInput", "Parts", "ScanBytes", "ScanInput", "open_parts", "source_of", "upload_call"]


@dataclass(frozen=True, repr=False)
class ScanBytes:
    """The content of a scan's file in memory.

    Attributes:
        content: bytes of the file.
        name: file name; its suffix tells the format.
    """

    content: bytes
    name: str

    def __repr__(self) -> str:
        return f"ScanBytes({self.name}, {len(self.content)} bytes)"

    def save(self, path: str | Path) -> None:
        """Write the file.

        Raises:
            OutputError: it cannot be written.
        """
        write_atomically(path, self.content)


@dataclass(frozen=True)
class DrawnMask:
    """A mask that the service drew.

    Attributes:
        lines: the sampled columns, bool `(width,)`.
        receipt: how the mask was drawn, and its realised acceleration.
    """

    lines: npt.NDArray[np.bool_]
    receipt: dict[str, Any]


ScanInput: TypeAlias = "str | os.PathLike[str] | npt.NDArray[Any] | ScanBytes"
"""A scan: a path, k-space as an array, or the bytes of a file."""

MaskInput: TypeAlias = "str | os.PathLike[str] | npt.NDArray[Any] | DrawnMask | None"
"""A mask: "file" for the scan's own, "from-zeros", the path of a file, an array, a mask of the service, or None."""

_WORDS = ("file", "from-zeros")


@dataclass(frozen=True)
class Parts:
    """What is sent of a scan and a mask: files by field, and fields of text."""

    files: dict[str, File]
    fields: dict[str, str]


def open_parts(scan: ScanInput, mask: MaskInput, stack: ExitStack) -> Parts:
    """Open the files of a request.

    An array is written to a temporary file, so that it is not in memory twice while it is sent.

    Args:
        scan: the scan.
        mask: the mask.
        stack: closes the files.

    Raises:
        FormatError: a file that cannot be read.
        ShapeError: an array that is no k-space or no mask.
        ConfigError: a value of another type.
    """
    files = {"file": _scan_file(scan, stack)}
    if mask is None:
        return Parts(files, {})
    if isinstance(mask, str) and mask in _WORDS:
        return Parts(files, {"mask": mask})
    return Parts({**files, "mask": _mask_file(mask, stack)}, {})


async def upload_call(
    transport: Transport, path: str, scan: ScanInput, mask: MaskInput, texts: Mapping[str, str], stack: ExitStack
) -> Call:
    """Open the files of a request, and make the request.

    Raises:
        FormatError, ShapeError, ConfigError: as `open_parts`.
    """
    parts = await transport.blocking(open_parts, scan, mask, stack)
    return Call("POST", path, fields={**texts, **parts.fields}, files=parts.files)


def source_of(scan: ScanInput) -> Path | None:
    """Return the path of a scan; None if it is no file."""
    return Path(scan) if isinstance(scan, str | os.PathLike) else None


def _scan_file(scan: ScanInput, stack: ExitStack) -> File:
    if isinstance(scan, ScanBytes):
        return File(scan.name, io.BytesIO(scan.content))
    if isinstance(scan, str | os.PathLike):
        return _opened(Path(scan), "scan", stack)
    array = _array(scan, "a scan as a path, an array or ScanBytes")
    if array.dtype.kind not in "fc" or array.ndim < 2:
        raise ShapeError(
            f"expected k-space of real or complex numbers with two axes or more, got {array.dtype} {array.shape}: name "
            "the axes of a longer array by axes='coil readout phase', for example"
        )
    return _written(array, "scan", stack)


def _mask_file(mask: MaskInput, stack: ExitStack) -> File:
    if isinstance(mask, str | os.PathLike):
        return _opened(Path(mask), "mask", stack)
    wanted = "a mask as 'file', 'from-zeros', a path, an array or a DrawnMask"
    array = _array(mask.lines if isinstance(mask, DrawnMask) else mask, wanted)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise ShapeError(
            f"expected a mask of booleans or numbers, (phase,) or (readout, phase), got {array.dtype} {array.shape}: "
            "pass the sampled lines"
        )
    return _written(array, "mask", stack)


def _array(value: Any, wanted: str) -> npt.NDArray[Any]:
    if not hasattr(value, "__array__"):
        raise ConfigError(f"expected {wanted}, got {type(value).__name__}: convert it by numpy.asarray")
    return np.asarray(value)


def _written(array: npt.NDArray[Any], name: str, stack: ExitStack) -> File:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
    np.save(file, array, allow_pickle=False)
    file.flush()
    return File(f"{name}.npy", file)


class _SteadyFile(io.BufferedReader):
    """A file that is sent with the size that it had when it was opened, or not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path
        self.size = os.fstat(super().fileno()).st_size

    def fileno(self) -> int:
        """Refuse: the size must not be asked of the operating system again."""
        raise io.UnsupportedOperation("the size of this file is that of its opening")

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes.

        Raises:
            FormatError: the file has changed its size.
        """
        try:
            data = super().read(size)
            after = self.tell()
        except OSError as error:
            raise cannot_read(self._path, error) from error
        if after > self.size or (not data and after < self.size):
            raise FormatError(
                f"{printable(self._path)} changes while it is sent: wait until the program that writes it is done"
            )
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the end is that of the opening."""
        return super().seek(self.size + offset) if whence == os.SEEK_END else super().seek(offset, whence)


def _opened(path: Path, name: str, stack: ExitStack) -> File:
    check_regular(path, f"a {name} as a file")
    try:
        file = stack.enter_context(_SteadyFile(path))
    except OSError as error:
        raise cannot_read(path, error) from error
    if file.size == 0:
        raise FormatError(f"expected a {name}, {path} is empty: check the path")
    return File(name + path.suffix.lower(), file)  # the name may tell of a patient; only the suffix is needed

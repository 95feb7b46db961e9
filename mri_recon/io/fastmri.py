"""fastMRI HDF5: `kspace`, `mask`, `ismrmrd_header`, `reconstruction_rss`, `reconstruction_esc` and a few attributes.

Knoll et al., fastMRI: a publicly available raw k-space and DICOM dataset of knee images, Radiology: AI 2020.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.axes import C_ORDER, arrange, parse_axes
from mri_recon.io.hdf5 import get_dataset, hdf5_errors, open_hdf5, read_array, read_attribute, read_text
from mri_recon.io.ismrmrd import Header, parse_header
from mri_recon.io.limits import DEFAULT_MAX_BYTES, show
from mri_recon.io.scan import RawScan

__all__ = ["FastMRIFile", "read_fastmri"]

_ATTRIBUTES = ("acquisition", "patient_id", "max", "norm", "simulated", "notice", "copyright")
_REFERENCES = ("reconstruction_rss", "reconstruction_esc")


class FastMRIFile:
    """A fastMRI file, open: its sizes and header are read, its arrays on demand. A context manager.

    Attributes:
        shape: of the k-space as stored: `(slice, coil, readout, phase)`, or `(slice, readout, phase)` for one coil.
        header: of the scanner; empty where the file has none.
        attributes: `acquisition`, `patient_id`, `max`, `norm` and the like, as far as the file has them.

    Opening takes little time however large the file is: only `scan=True` reads it once for damage, see `open_hdf5`.

    Raises:
        FormatError: not such a file, damaged, or unsafe to read (see `open_hdf5`).
    """

    def __init__(
        self, path: str | Path, *, variable: str | None = None, axes: str | None = None, scan: bool = False
    ) -> None:
        self.path = Path(path)
        self._variable = variable or "kspace"
        with ExitStack() as stack:
            self._file = stack.enter_context(open_hdf5(self.path, scan=scan))
            self._kspace = self._find_kspace()
            with hdf5_errors(self.path):
                self.shape = tuple(int(n) for n in self._kspace.shape or ())
            self.axes = parse_axes(axes, self.shape, C_ORDER, where=self._where())
            self.header = self._read_header()
            self.attributes = {
                name: value for name in _ATTRIBUTES if (value := read_attribute(self._file, name)) is not None
            }
            self._stack = stack.pop_all()

    def __enter__(self) -> FastMRIFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading is no longer possible."""
        self._stack.close()

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return self.shape[self.axes.index("slice")] if "slice" in self.axes else 1

    @property
    def num_coils(self) -> int:
        """Number of coils."""
        return self.shape[self.axes.index("coil")] if "coil" in self.axes else 1

    @property
    def patient_id(self) -> str:
        """The person's pseudonym as the file gives it; empty where it gives none."""
        return str(self.attributes.get("patient_id", ""))

    def read_kspace(self, slices: slice = slice(None), *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any]:
        """k-space complex64 `(slice, coil, readout, phase)`.

        Raises:
            FormatError: too large, or damaged.
        """
        selection: tuple[slice, ...] = ()
        if "slice" in self.axes:
            axis = self.axes.index("slice")
            selection = (*(slice(None),) * axis, slices)
        return arrange(read_array(self._kspace, max_bytes=max_bytes, selection=selection), self.axes)

    def read_target(
        self, slices: slice = slice(None), *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> tuple[npt.NDArray[Any], str] | None:
        """The file's own reconstruction `(slice, h, w)` and its name; None where it has none.

        Several coils: `reconstruction_rss` comes first; a single coil: `reconstruction_esc`, its emulated image.

        Raises:
            FormatError: not a stack of images, too large, or damaged.
        """
        for name in _REFERENCES if self.num_coils > 1 else reversed(_REFERENCES):
            dataset = get_dataset(self._file, name)
            if dataset is not None:
                with hdf5_errors(self.path):
                    shape, kind = tuple(dataset.shape or ()), dataset.dtype.kind
                if len(shape) != 3 or shape[0] != self.num_slices or kind not in "iuf":
                    raise FormatError(
                        f"expected real images ({self.num_slices}, h, w) as {name} of {self.path.name}, "
                        f"got shape {shape}: they belong to another scan"
                    )
                return read_array(dataset, max_bytes=max_bytes, selection=(slices,)), name
        return None

    def read_mask(self, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any] | None:
        """The file's own mask as stored; None where it has none.

        Raises:
            FormatError: too large, not numeric, or damaged.
        """
        dataset = get_dataset(self._file, "mask")
        return None if dataset is None else read_array(dataset, max_bytes=max_bytes)

    @property
    def padding(self) -> tuple[int, int] | None:
        """First acquired column and the one after the last: by the attributes, as in fastMRI, else by the header."""
        left, right = (read_attribute(self._file, name) for name in ("padding_left", "padding_right"))
        if left is None or right is None:
            return self.header.padding
        return _integer(left, self.path), _integer(right, self.path)

    def _where(self) -> str:
        return f"{show(self._variable)} of {self.path.name}"

    def _find_kspace(self) -> h5py.Dataset:
        dataset = get_dataset(self._file, self._variable)
        if dataset is None:
            with hdf5_errors(self.path):
                names = sorted(self._file)
            raise FormatError(_no_kspace(self.path, self._variable, names))
        with hdf5_errors(self.path):
            kind = dataset.dtype
        if kind.kind != "c":
            raise FormatError(
                f"expected complex k-space as {self._where()}, got {kind} of shape {dataset.shape}: "
                "store complex64 (a last axis of real and imaginary part is not joined: that would be a guess)"
            )
        return dataset

    def _read_header(self) -> Header:
        dataset = get_dataset(self._file, "ismrmrd_header")
        return Header() if dataset is None else parse_header(read_text(dataset), where=self.path.name)


def read_fastmri(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: slice = slice(None),
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """What a fastMRI file holds; see `mri_recon.io.load`."""
    with FastMRIFile(path, variable=variable, axes=axes, scan=slices == slice(None)) as file:
        target, target_name = file.read_target(slices, max_bytes=max_bytes) or (None, "none")
        header = file.header
        return RawScan(
            file.read_kspace(slices, max_bytes=max_bytes),
            name=path.name,
            mask=file.read_mask(max_bytes=max_bytes),
            padding=file.padding,
            recon_size=header.recon_size,
            target=target,
            target_source=f"file: {target_name}",
            meta={
                "format": "fastMRI HDF5",
                "file": path.name,
                "axes": " ".join(file.axes),
                "axes_assumed": False,
                **file.attributes,
                **({"encoded_size": list(header.encoded_size)} if header.encoded_size else {}),
                **({"header_recon_size": list(header.recon_size)} if header.recon_size else {}),
            },
        )


def _no_kspace(path: Path, variable: str, names: list[str]) -> str:
    if variable == "kspace" and "reconstruction" in names:
        return (
            f"expected k-space in {path.name}, got a reconstruction: load the scan itself, or read it with load_image"
        )
    found = ", ".join(show(name) for name in names[:10]) or "nothing"
    return (
        f"expected a dataset {show(variable)} in {path.name}, found: {found}: "
        "name the k-space with variable, or store it in fastMRI's layout"
    )


def _integer(value: Any, path: Path) -> int:
    if not isinstance(value, int | float) or not float(value).is_integer():
        raise FormatError(
            f"expected whole numbers for padding_left and padding_right in {path.name}, got {show(value)}"
        )
    return int(value)

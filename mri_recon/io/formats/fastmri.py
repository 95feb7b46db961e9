"""Read fastMRI HDF5: `kspace`, `mask`, `ismrmrd_header`, `reconstruction_rss`, `reconstruction_esc` and attributes.

Knoll et al., fastMRI: a publicly available raw k-space and DICOM dataset of knee images, Radiology: AI 2020.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy.typing as npt

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import Header, parse_header, refuse_declarations
from mri_recon.io.geometry import Geometry, make_geometry
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.reading.axes import C_ORDER, find_layout
from mri_recon.io.reading.hdf5 import (
    check_elements,
    get_dataset,
    hdf5_errors,
    open_hdf5,
    read_array,
    read_attribute,
    read_text,
)
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, show
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["FastMRIFile", "read_fastmri"]

_ATTRIBUTES = ("acquisition", "patient_id", "max", "norm", "simulated", NO_PICTURES, "notice", "copyright")
_REFERENCES = ("reconstruction_rss", "reconstruction_esc")


class FastMRIFile:
    """Open a fastMRI file, read its sizes and header, and read its arrays on demand. A context manager.

    Attributes:
        shape: shape of the k-space as stored: `(slice, coil, readout, phase)`, or `(slice, readout, phase)` for one
            coil.
        header: header of the scanner; empty if the file has none that can be read.
        attributes: `acquisition`, `patient_id`, `max`, `norm` and similar attributes of the file.
        layout: layout of the k-space; assumed if only the name `kspace` indicates fastMRI's layout.
        padding: first acquired column and the one after the last, from the attributes, as in fastMRI, else from the
            header.
        notes: parts of header and attributes that could not be read and were left out, one sentence each.
        warnings: masks and reconstructions that could not be used and were left out, one sentence each.

    Opening is fast for files of any size, unless `scan=True` reads the whole file once for damage; see `open_hdf5`.

    Raises:
        FormatError: not such a file, damaged, or unsafe to read (see `open_hdf5`).
    """

    def __init__(
        self, path: str | Path, *, variable: str | None = None, axes: str | None = None, scan: bool = False
    ) -> None:
        self.path = Path(path)
        self._variable, self._named = variable or "kspace", variable is not None
        self._axes_given = axes is not None
        with ExitStack() as stack:
            self._file = stack.enter_context(open_hdf5(self.path, scan=scan))
            self._kspace = self._find_kspace()
            with hdf5_errors(self.path):
                self.shape = tuple(int(n) for n in self._kspace.shape or ())
                kind = self._kspace.dtype
            self.notes: list[str] = []
            self.warnings: list[str] = []
            self.layout = find_layout(self.shape, kind, axes, C_ORDER, where=self._where())
            self.header, has_header = self._read_header()
            self.attributes = self._read_attributes()
            if has_header or "acquisition" in self.attributes or any(name in self._file for name in _REFERENCES):
                self.layout = replace(self.layout, assumed=False)  # a file of fastMRI, whose axes are known
            self.padding = self._read_padding()
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
        return self.layout.length("slice", self.shape)

    @property
    def num_coils(self) -> int:
        """Number of coils."""
        return self.layout.length("coil", self.shape)

    @property
    def patient_id(self) -> str:
        """Pseudonym of the subject from the file; empty if the file has none."""
        return str(self.attributes.get("patient_id", ""))

    def read_kspace(self, slices: Slices | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any]:
        """Read k-space, complex64 `(slice, coil, readout, phase)`, of the chosen slices only.

        Raises:
            FormatError: too large, damaged, or slices that do not exist.
        """
        indices = chosen_slices(slices, self.num_slices, where=self.path.name)
        axis = self.layout.slice_axis
        if axis is None:
            return self.layout.arrange(read_array(self._kspace, max_bytes=max_bytes))
        return self.layout.arrange(read_array(self._kspace, max_bytes=max_bytes, indices=indices, axis=axis))

    def is_empty(self, index: int) -> bool:
        """Tell whether a slice holds zeros only; start at its middle and read no more than needed.

        Raises:
            FormatError: damaged, or no such slice.
        """
        axis = self.layout.slice_axis
        with hdf5_errors(self.path):
            middle: list[Any] = [n // 2 for n in self.shape]
            middle[self.layout.names.index("phase")] = slice(None)
            if axis is not None:
                middle[axis] = index
            line = self._kspace[tuple(middle)]
            if line.dtype.names is None and bool((line != 0).any()):
                return False
        return not bool(self.read_kspace(index).any())

    def read_target(
        self, slices: Slices | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> tuple[npt.NDArray[Any], str] | None:
        """Read the file's own reconstruction `(slice, h, w)` and its name; None if the file has none.

        For several coils `reconstruction_rss` is preferred, for a single coil its emulated image `reconstruction_esc`.
        An array that is not a stack of images is left out, with an entry in `warnings`.

        Raises:
            FormatError: the number of slices differs from that of the k-space, whose axes were assumed; too large,
                damaged, or slices that do not exist.
        """
        indices = chosen_slices(slices, self.num_slices, where=self.path.name)
        for name in _REFERENCES if self.num_coils > 1 else reversed(_REFERENCES):
            dataset = self._beside(name)
            if dataset is None:
                continue
            with hdf5_errors(self.path):
                shape, kind = tuple(dataset.shape), dataset.dtype.kind
            if kind in "iuf" and len(shape) == 2 and self.num_slices == 1 and 0 not in shape:
                return read_array(dataset, max_bytes=max_bytes)[None], name
            if kind not in "iuf" or len(shape) != 3 or 0 in shape or (self._axes_given and shape[0] != self.num_slices):
                self.warnings.append(
                    f"The {name} of the file is left out: expected real images ({self.num_slices}, h, w), got "
                    f"{dataset.dtype} of shape {shape}."
                )
                continue
            if shape[0] != self.num_slices:
                raise FormatError(
                    f"expected real images ({self.num_slices}, h, w) as {name} of {self.path.name}, whose k-space is "
                    f"{' '.join(self.layout.names)}, got shape {shape}: name the axes of the k-space, e.g. "
                    "axes='coil readout phase', or delete the images if they are of another scan"
                )
            return read_array(dataset, max_bytes=max_bytes, indices=indices), name
        return None

    def read_mask(self, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any] | None:
        """Read the file's own mask as stored. Return None if there is none, or no array of that name (see `warnings`).

        Raises:
            FormatError: too large, not numeric, or damaged.
        """
        dataset = self._beside("mask")
        return None if dataset is None else read_array(dataset, max_bytes=max_bytes)

    def read_geometry(self) -> Geometry | None:
        """Read voxel size, position and orientation: the attribute `geometry` that `save_scan` writes, else the header.

        fastMRI's headers have the field of view and the patient position, but no place and no orientation of slices.
        """
        try:
            text = self._attribute("geometry")
            values = json.loads(text) if isinstance(text, str) else None
            if isinstance(values, dict):
                return make_geometry(values)
        except (ValueError, RecursionError, FormatError):
            self.notes.append("the attribute geometry cannot be read and is left out")
        return header_geometry(
            self.header, self.layout.length("readout", self.shape), self.layout.length("phase", self.shape)
        )

    def _beside(self, name: str) -> h5py.Dataset | None:
        """Read an array beside the k-space; None if there is none. Anything but an array is left out and noted."""
        with hdf5_errors(self.path):
            if name not in self._file:
                return None
            item = self._file[name]
            got = "no array" if not isinstance(item, h5py.Dataset) else "an empty one" if item.shape is None else ""
        if got:
            self.warnings.append(f"The {name} of the file is left out: expected an array, got {got}.")
            return None
        return get_dataset(self._file, name)

    def _where(self) -> str:
        return f"{show(self._variable)} of {self.path.name}"

    def _find_kspace(self) -> h5py.Dataset:
        dataset = get_dataset(self._file, self._variable)
        if dataset is None:
            with hdf5_errors(self.path):
                names = sorted(self._file)
            argument = "variable" if self._named else ""
            raise FormatError(_no_kspace(self.path, self._variable, names), argument=argument)
        check_elements(dataset)
        return dataset

    def _read_header(self) -> tuple[Header, bool]:
        """Read the header, and whether there is one; an unreadable header is left out, with a note."""
        text = ""
        try:
            dataset = get_dataset(self._file, "ismrmrd_header")
            if dataset is None:
                return Header(), False
            text = read_text(dataset)
            return parse_header(text, where=self.path.name), True
        except FormatError as error:
            refuse_declarations(text, where=self.path.name)
            self.notes.append(f"the header cannot be read and is left out ({error})")
            return Header(), True

    def _read_attributes(self) -> dict[str, Any]:
        found = {}
        for name in _ATTRIBUTES:
            value = self._attribute(name)
            if value is not None:
                found[name] = value
        return found

    def _attribute(self, name: str) -> str | float | int | bool | None:
        try:
            return read_attribute(self._file, name)
        except FormatError as error:
            self.notes.append(f"an attribute cannot be read and is left out ({error})")
            return None

    def _read_padding(self) -> tuple[int, int] | None:
        left, right = (self._attribute(name) for name in ("padding_left", "padding_right"))
        if left is None or right is None:
            return self.header.padding
        whole = [_whole_number(value) for value in (left, right)]
        if whole[0] is None or whole[1] is None:
            self.notes.append(
                "the attributes padding_left and padding_right are left out (expected whole numbers, got "
                f"{show(left)} and {show(right)})"
            )
            return self.header.padding
        return whole[0], whole[1]


def read_fastmri(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a fastMRI file; see `mri_recon.io.load`."""
    with FastMRIFile(path, variable=variable, axes=axes, scan=slices is None) as file:
        indices = chosen_slices(slices, file.num_slices, where=path.name)
        target, target_name = file.read_target(slices, max_bytes=max_bytes) or (None, "none")
        header, mask = file.header, file.read_mask(max_bytes=max_bytes)
        geometry = file.read_geometry()
        return RawScan(
            file.read_kspace(slices, max_bytes=max_bytes),
            name=path.name,
            mask=mask,
            padding=file.padding,
            recon_size=header.recon_size,
            target=target,
            target_source=f"file: {target_name}",
            meta={
                "format": "fastMRI HDF5",
                "file": path.name,
                **file.layout.meta(),
                **({"reader_notes": notes} if (notes := [*file.layout.notes, *file.notes]) else {}),
                **({"axes_by_rank": True} if axes is None else {}),
                **({"reader_warnings": file.warnings} if file.warnings else {}),
                **slices_meta(indices, file.num_slices),
                **file.attributes,
                **_geometry_meta(geometry, indices),
                **({"encoded_size": list(header.encoded_size)} if header.encoded_size else {}),
                **({"header_recon_size": list(header.recon_size)} if header.recon_size else {}),
            },
        )


def header_geometry(header: Header, readout: int, phase: int) -> Geometry | None:
    """Make the geometry of a header without positions: the field of view, over the samples of k-space."""
    if header.field_of_view is None:
        return None
    x, y, z = header.field_of_view
    return Geometry((x / readout, y / phase, z / (header.depth or 1)), patient_position=header.patient_position)


def _geometry_meta(geometry: Geometry | None, indices: list[int] | None) -> dict[str, Any]:
    if geometry is None:
        return {}
    try:
        return {"geometry": geometry.of_slices(indices).as_dict()}
    except IndexError:  # positions of another number of slices, which the scan notes
        return {"geometry": geometry.as_dict()}


def _no_kspace(path: Path, variable: str, names: list[str]) -> str:
    if variable == "kspace" and "reconstruction" in names:
        return (
            f"expected k-space in {path.name}, got a reconstruction: load the scan itself, or read it with load_image"
        )
    found = ", ".join(show(name) for name in names[:10]) or "nothing"
    return (
        f"expected a dataset {show(variable)} in {path.name}, found: {found}{did_you_mean(variable, names)}: "
        "name the k-space with variable, or store it in fastMRI's layout"
    )


def _whole_number(value: Any) -> int | None:
    is_whole = isinstance(value, int | float) and math.isfinite(value) and float(value).is_integer()
    return int(value) if is_whole else None

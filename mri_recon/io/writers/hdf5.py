"""Write HDF5: reconstructions, and scans in fastMRI's layout.

The file is built in memory and written as one block. The HDF5 library aborts the process at exit if the disk fills up
while it writes, so it never writes to a disk here. The memory needed is the size of the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon._system.files import Content
from mri_recon.io.writers.result import Encoded, SavedResult, Writer

__all__ = ["HDF5", "TRUST_MAP", "hdf5_content", "scan_header", "write_dataset", "write_xml"]

TRUST_MAP = "trust_map"
"""Dataset of the map of trust."""


def hdf5_content(fill: Callable[[h5py.File], None]) -> Content:
    """Return the bytes of an HDF5 file whose content `fill` writes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getbuffer()


def write_dataset(file: h5py.File, name: str, data: npt.NDArray[Any]) -> None:
    """Write an array in one chunk for each slice, to read slices separately, with checksums that reveal damage."""
    chunks = (1, *data.shape[1:]) if data.size else None
    file.create_dataset(name, data=data, chunks=chunks, fletcher32=chunks is not None)


def write_xml(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Write XML texts in ASCII, as the C++ library of ISMRMRD reads them; other characters become references."""
    data = np.array([text.encode("ascii", "xmlcharrefreplace") for text in texts], dtype=object)
    group.create_dataset(name, data=data, dtype=h5py.string_dtype("ascii"))


def scan_header(size: tuple[int, int], recon: tuple[int, int], left: int, right: int, coils: int) -> str:
    """Make a minimal ISMRMRD header: sizes (x readout, y phase), and limits for `Header.padding` (left, right)."""
    center, maximum = size[1] // 2 - left, right - left - 1

    def space(name: str, x: int, y: int) -> str:
        field = "<fieldOfView_mm><x>1</x><y>1</y><z>1</z></fieldOfView_mm>"  # unknown here, but required by the schema
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


def _encode(result: SavedResult) -> Encoded:
    def fill(file: h5py.File) -> None:
        write_dataset(file, "reconstruction", result.magnitude)
        if result.image.dtype.kind == "c":
            write_dataset(file, "reconstruction_complex", result.image)
        if result.trust_map is not None:
            write_dataset(file, TRUST_MAP, result.trust_map)
        for name, value in result.metadata.items():
            file.attrs[name] = json.dumps(value, allow_nan=False) if isinstance(value, dict) else value

    return Encoded(hdf5_content(fill))


HDF5 = Writer((".h5", ".hdf5"), _encode)
"""Writer of HDF5, which holds everything; `mri-recon replay` reads this format only."""

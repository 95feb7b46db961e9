"""Write k-space as ISMRMRD (MRD) raw data in HDF5, version 1: a readout for each acquired line of each slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import h5py
import numpy as np

from mri_recon.errors import OutputError
from mri_recon.io.formats.ismrmrd import SCAN_MARKS, SIDES
from mri_recon.io.formats.mrd_messages import ACQUISITION_HEADER
from mri_recon.io.writers.hdf5 import hdf5_content, write_xml
from mri_recon.io.writers.result import Encoded

if TYPE_CHECKING:
    from mri_recon.io.scan import Scan

__all__ = ["encode_raw"]

_MAX_COUNT = 2**16 - 1
_FIRST_IN_SLICE, _LAST_IN_SLICE, _LAST_IN_MEASUREMENT = (1 << (bit - 1) for bit in (7, 8, 25))


def encode_raw(scan: Scan) -> Encoded:
    """Encode k-space as readouts, with mask, limits and geometry; the reference of a file is left out.

    Raises:
        OutputError: an axis that is longer than the format counts.
    """
    num_slices, coils, readout, phase = scan.samples.shape
    if max(num_slices, coils, readout, phase) > _MAX_COUNT:
        raise OutputError(
            f"cannot write .mrd: it counts to {_MAX_COUNT} along each axis, the k-space is {scan.samples.shape}: "
            "choose .h5"
        )
    mask = None if scan.mask is None or scan.fully_sampled else np.atleast_2d(scan.mask.array).any(axis=0)
    acquired = np.flatnonzero(scan.support if mask is None else mask)
    columns = np.flatnonzero(scan.support)
    left, right = int(columns[0]), int(columns[-1]) + 1
    kind = np.dtype(
        [("head", ACQUISITION_HEADER), ("traj", h5py.vlen_dtype(np.float32)), ("data", h5py.vlen_dtype(np.float32))]
    )
    records = np.zeros(num_slices * len(acquired), dtype=kind)
    heads = records["head"]
    heads["version"] = 1
    heads["scan_counter"] = np.arange(len(records))
    heads["number_of_samples"], heads["center_sample"] = readout, readout // 2
    heads["available_channels"] = heads["active_channels"] = coils
    heads["idx"]["kspace_encode_step_1"] = np.tile(acquired - left, num_slices)
    heads["idx"]["slice"] = np.repeat(np.arange(num_slices), len(acquired))
    heads["flags"][:: len(acquired)] |= np.uint64(_FIRST_IN_SLICE)
    heads["flags"][len(acquired) - 1 :: len(acquired)] |= np.uint64(_LAST_IN_SLICE)
    heads["flags"][-1] |= np.uint64(_LAST_IN_MEASUREMENT)
    _place(heads, scan, len(acquired))
    empty = np.zeros(0, np.float32)
    for number, record in enumerate(records):
        line = scan.samples[number // len(acquired), :, :, acquired[number % len(acquired)]]
        record["traj"], record["data"] = empty, np.ascontiguousarray(line).reshape(-1).view(np.float32)

    def fill(file: h5py.File) -> None:
        group = file.create_group("dataset")
        header = _header(scan, (readout, phase), left, right)
        write_xml(group, "xml", [header])
        group.create_dataset("data", data=records, chunks=(min(64, len(records)),), maxshape=(None,))

    told = ["the reference of the file"] * (scan.reference is not None)
    if scan.mask is not None and scan.mask.array.ndim == 2:
        told.append("the mask's rows (whole lines are written)")
    if scan.geometry is not None and scan.geometry.positions is not None and scan.geometry.directions is None:
        told.append("the positions of the slices (their directions are not known)")
    return Encoded(hdf5_content(fill), f".mrd leaves out {' and '.join(told)}" if told else "")


def _place(heads: Any, scan: Scan, num_lines: int) -> None:
    geometry = scan.geometry
    if geometry is not None and geometry.positions is not None and geometry.directions is not None:
        heads["position"] = np.repeat(np.asarray(geometry.positions, dtype=np.float32), num_lines, axis=0)
        heads["read_dir"], heads["phase_dir"], heads["slice_dir"] = geometry.directions


def _header(scan: Scan, size: tuple[int, int], left: int, right: int) -> str:
    geometry = scan.geometry
    # 1 x 1 x 1 mm stands for an unknown field of view, which the schema requires.
    fov = recon_fov = (1.0, 1.0, 1.0)
    if geometry is not None:
        x, y, z = geometry.voxel_size
        # A reconstruction of fewer rows is one of a smaller field of view: readers remove the oversampling.
        fov, recon_fov = (x * size[0], y * size[1], z), (x * scan.recon_size[0], y * scan.recon_size[1], z)
    about = ""
    if geometry is not None and geometry.patient_position:
        about += f"<patientPosition>{geometry.patient_position}</patientPosition>"
    if scan.meta.get("acquisition"):
        about += f"<protocolName>{escape(str(scan.meta['acquisition']))}</protocolName>"
    measurement = f"<measurementInformation>{about}</measurementInformation>" if about else ""

    def space(name: str, x: int, y: int, length: tuple[float, float, float]) -> str:
        return (
            f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm><x>{length[0]:.9g}</x>"
            f"<y>{length[1]:.9g}</y><z>{length[2]:.9g}</z></fieldOfView_mm></{name}>"
        )

    last = scan.num_slices - 1
    lines = f"<minimum>0</minimum><maximum>{right - left - 1}</maximum><center>{size[1] // 2 - left}</center>"
    slices = f"<minimum>0</minimum><maximum>{last}</maximum><center>{last // 2}</center>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{measurement}<acquisitionSystemInformation><receiverChannels>{scan.num_coils}</receiverChannels>"
        "</acquisitionSystemInformation><experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz>"
        f"</experimentalConditions><encoding>{space('encodedSpace', *size, fov)}"
        f"{space('reconSpace', *scan.recon_size, recon_fov)}<encodingLimits>"
        f"<kspace_encoding_step_1>{lines}</kspace_encoding_step_1><slice>{slices}</slice></encodingLimits>"
        f"<trajectory>cartesian</trajectory></encoding>{_marks(scan)}</ismrmrdHeader>"
    )


def _marks(scan: Scan) -> str:
    """State what a reader must not lose: that k-space is simulated, has unverified sides, or may not be pictured."""
    sides = scan.geometry is not None and scan.geometry.known and scan.geometry.sides_assumed
    marks = [
        f"<userParameterString><name>{name}</name><value>true</value></userParameterString>"
        for name, there in (*((one, scan.meta.get(one)) for one in SCAN_MARKS), (SIDES, sides))
        if there
    ]
    return f"<userParameters>{''.join(marks)}</userParameters>" if marks else ""
